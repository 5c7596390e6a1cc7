/* spectral.h - how the norms of weights (SPEC 1.2) go between uploads, engine and worker: the plan
 * that uploads follow, and the jobs that take long.
 * THREADS: choose, prepare: the HTTP pool's; publish, offer, settle: the engine. */
#ifndef LYAP_SPECTRAL_DAEMON_H
#define LYAP_SPECTRAL_DAEMON_H

#include "engine.h"

/* With the registry's lock. The plan of an upload: all ranks of one step get the same. NULL:
 * nothing was measured yet. */
void lyap_spectral_choose(struct lyap_run *run, struct api_ticket *ticket);
/* Without it: the first plan, made by each upload for itself, or the one after `chain`, the line
 * before in the same body (or NULL); the memory of the sums is taken of
 * the queue's, or the upload measures nothing. */
void lyap_spectral_prepare(struct api_ticket *ticket, const struct api_ticket *chain);

/* The engine's. After a commit: the plan of the next uploads, and jobs that are due. */
void lyap_spectral_publish(struct lyap_engine *engine, struct lyap_run *run);
void lyap_spectral_offer(struct lyap_engine *engine, struct lyap_run *run);
/* Takes finished jobs back into the profiles of their runs. */
void lyap_spectral_settle(struct lyap_engine *engine);

#endif
