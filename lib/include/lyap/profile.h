/* profile.h - the rolling stability profile of one attempt: partial in, point out.
 * Scalar windows and detectors (loss scale, work, level monitor, dissipation window ...) advance
 * through one function that reads only the stored columns of a point (lyap_profile_replay), live
 * and after a restart alike; so they continue exactly. Sketch windows (Ritz pairs, the last update)
 * and windows of single tensors and layers are saved as bytes. THREADS: one owner, the engine. */
#ifndef LYAP_PROFILE_H
#define LYAP_PROFILE_H

#include "lyap/declaration.h"
#include "lyap/layer_job.h"
#include "lyap/layer_row.h"
#include "lyap/partial.h"
#include "lyap/point.h"
#include "lyap/score.h"
#include "lyap/snapshot.h"
#include "lyap/spectral_job.h"
#include "lyap/spectral_plan.h"

struct lyap_profile;

/* Points in a row after which a tensor counts as dead or stuck: longer than any warm-up of a rate
 * rounds to nothing, shorter than what a person would lose. */
enum { LYAP_STILL_POINTS = 32 };

/* `reference_loss` (NaN: none) is ref of docs/detection.md, inherited from the attempt before. The
 * declaration is copied. E_NOMEM, E_INVALID. */
LYAP_API LYAP_MUST_CHECK enum lyap_status
lyap_profile_new(const struct lyap_declaration *declaration, double reference_loss,
                 struct lyap_profile **ret_profile);
LYAP_API void lyap_profile_free(struct lyap_profile *profile);
/* The run declared again (optimizer, groups); the tensor set is the same or was empty. */
LYAP_API LYAP_MUST_CHECK enum lyap_status
lyap_profile_redeclare(struct lyap_profile *profile, const struct lyap_declaration *declaration);

/* Computes the point of a complete snapshot and advances every window. `partial` NULL or with
 * tensor_count 0: a push without tensors. `missing` LYAP_REASON_RANK_MISSING: scalars only.
 * `ret_rows` (tensor_count entries) may be NULL. The point's state, verdict and advised action
 * reflect the metrics only; the engine overrides them by firing alerts. E_NOMEM. */
LYAP_API LYAP_MUST_CHECK enum lyap_status
lyap_profile_step(struct lyap_profile *profile, const struct lyap_snapshot *snapshot,
                  const struct lyap_partial *partial, enum lyap_reason missing,
                  struct lyap_point *ret_point, struct lyap_tensor_row *ret_rows);
/* Advances the scalar windows by a stored point, in step order. E_NOMEM: nothing has advanced. */
LYAP_API LYAP_MUST_CHECK enum lyap_status lyap_profile_replay(struct lyap_profile *profile,
                                                              const struct lyap_point *point);
/* After a replay the next snapshot has no predecessor: its differences are absent. Names which
 * inputs the reply should ask for once: true when Adam's state is needed and unknown. */
LYAP_API bool lyap_profile_wants_state(struct lyap_profile *profile);
LYAP_API double lyap_profile_reference_loss(const struct lyap_profile *profile);

/* The newest numbers of the declared layers, borrowed until the next call; NULL and 0 before the
 * first finite snapshot with tensors, and without layers. */
LYAP_API const struct lyap_layer_row *lyap_profile_layers(const struct lyap_profile *profile,
                                                          uint32_t *ret_count, int64_t *ret_step);
LYAP_API const char *lyap_profile_layer_name(const struct lyap_profile *profile, uint32_t layer);
/* The running maximum of a layer's empirical gain (NaN: none), from the stored rows of the attempt;
 * ignored where the layer has another name by now. E_NOMEM. */
LYAP_API LYAP_MUST_CHECK enum lyap_status lyap_profile_layers_recall(struct lyap_profile *profile,
                                                                     uint32_t layer,
                                                                     const char *name,
                                                                     double gain_max);
/* Bounds of layers that are due on the kept snapshot of the newest step: each after `every`
 * snapshots (0: never). NULL: none. One job at a time. E_NOMEM. */
LYAP_API LYAP_MUST_CHECK enum lyap_status lyap_profile_layer_job(struct lyap_profile *profile,
                                                                 uint32_t every,
                                                                 struct lyap_layer_job **ret_job);
/* Takes what is done, if snapshots without a gap connect that step with the present. */
LYAP_API void lyap_profile_layer_result(struct lyap_profile *profile,
                                        const struct lyap_layer_job *job);

/* These windows as a versioned little-endian blob; load refuses another version or size
 * (E_FORMAT). */
LYAP_API LYAP_MUST_CHECK enum lyap_status lyap_profile_save(const struct lyap_profile *profile,
                                                            void **ret_bytes, uint64_t *ret_length);
LYAP_API LYAP_MUST_CHECK enum lyap_status lyap_profile_load(struct lyap_profile *profile,
                                                            const void *bytes, uint64_t length);

/* -- norms of the weights (SPEC 1.2) -- */
/* What the next uploads measure; to be shared with them. The Gram bound every `gram_every`-th
 * snapshot (0: never). E_NOMEM. */
LYAP_API LYAP_MUST_CHECK enum lyap_status
lyap_profile_spectral_plan(struct lyap_profile *profile, uint32_t gram_every,
                           struct lyap_spectral_plan **ret_plan);
/* Long bounds that are due, on the kept tensors of the newest point, the Gram bound every
 * `every`-th snapshot (0: never); NULL: none. E_NOMEM. */
LYAP_API LYAP_MUST_CHECK enum lyap_status
lyap_profile_spectral_job(struct lyap_profile *profile, uint32_t every,
                          struct lyap_spectral_job **ret_job);
/* Takes a job's results, at any later step; what no longer fits is left alone. */
LYAP_API void lyap_profile_spectral_result(struct lyap_profile *profile,
                                           const struct lyap_spectral_job *job);
/* The vectors of an attempt that ended go on with the next one; bounds do not. */
LYAP_API void lyap_profile_spectral_move(struct lyap_profile *from, struct lyap_profile *to);

/* What a score of the newest point is made of, largest share first; returns how many: 0 after a
 * restart until the next push. The tensors behind it are the largest update_z, grad_z and shares of
 * grad_delta. */
LYAP_API uint32_t lyap_profile_instability(const struct lyap_profile *profile,
                                           enum lyap_score_kind kind,
                                           struct lyap_score_part ret_parts[LYAP_SCORE_PARTS_MAX]);

#endif
