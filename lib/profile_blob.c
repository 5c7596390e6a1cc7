/* The sketch windows of a profile as bytes: "LYAPPRF1", then little-endian 64-bit words. */
#include <math.h>
#include <string.h>

#include "lyap/alloc.h"
#include "profile_internal.h"
#include "profile_rows.h"
#include "banned.h"

static const char MAGIC[8] = { 'L', 'Y', 'A', 'P', 'P', 'R', 'F', '1' };

static void put_pairs(struct lyap_writer *w, const struct lyap_pairs *pairs)
{
    lyap_put_word(w, pairs->count);
    for (uint32_t i = pairs->count; i-- > 0;) { /* oldest first */
        const double *s, *y;
        lyap_pairs_at(pairs, i, &s, &y);
        lyap_put_doubles(w, s, pairs->size);
        lyap_put_doubles(w, y, pairs->size);
    }
}

static void put_profile(struct lyap_writer *w, const struct lyap_profile *profile)
{
    const struct lyap_live *live = &profile->live;
    for (unsigned i = 0; i < sizeof MAGIC; i++)
        if (w->bytes)
            w->bytes[w->length + i] = (unsigned char)MAGIC[i];
    w->length += sizeof MAGIC;
    const uint32_t k = live->size ? live->size : profile->active.size;
    lyap_put_word(w, k);
    lyap_put_word(w, (uint64_t)live->step);
    lyap_put_word(w, profile->passive_function);
    lyap_put_word(w, live->is_clipped);
    lyap_put_word(w, (uint64_t)profile->history.last_step);
    lyap_put_word(w, (uint64_t)live->passed);
    lyap_put_word(w, live->is_held);
    for (unsigned i = 0; i < sizeof live->batch_id; i++)
        lyap_put_word(w, (unsigned char)live->batch_id[i]);
    put_pairs(w, &profile->active);
    put_pairs(w, &profile->passive);
    for (unsigned i = 0; i < LYAP_SKETCH_COUNT; i++) {
        lyap_put_word(w, live->has_sketch[i]);
        if (live->has_sketch[i])
            lyap_put_doubles(w, live->sketches[i], live->size);
    }
    lyap_put_word(w, live->has_delta);
    if (live->has_delta) {
        lyap_put_word(w, (uint64_t)live->delta_from);
        lyap_put_word(w, (uint64_t)live->delta_to);
        lyap_put_doubles(w, live->delta, live->size);
    }
    lyap_put_word(w, live->has_rows ? live->tensors : 0);
    lyap_put_doubles(w, live->param_sq, live->has_rows ? live->tensors : 0);
    lyap_put_doubles(w, live->grad_sq, live->has_rows ? live->tensors : 0);
}

/* Start vectors: they serve at any later step. None, where they are too many for a row of the
 * store. */
static void put_vectors(struct lyap_writer *w, const struct lyap_spectral_state *state)
{
    uint64_t count = 0, bytes = 0;
    for (uint32_t i = 0; i < state->count; i++) {
        const struct lyap_spectral_tensor *tensor = &state->tensors[i];
        count += tensor->visits > 0;
        bytes += tensor->visits > 0 ? sizeof(double) * tensor->cols * tensor->block : 0;
    }
    const bool is_kept = bytes <= LYAP_SPECTRAL_SAVED_BYTES_MAX;
    lyap_put_word(w, is_kept ? count : 0);
    for (uint32_t i = 0; is_kept && i < state->count; i++) {
        const struct lyap_spectral_tensor *tensor = &state->tensors[i];
        if (tensor->visits == 0)
            continue;
        lyap_put_word(w, i);
        lyap_put_word(w, tensor->cols);
        lyap_put_word(w, tensor->block);
        lyap_put_word(w, tensor->visits);
        lyap_put_word(w, tensor->is_cold);
        lyap_put_doubles(w, tensor->v, (uint64_t)tensor->cols * tensor->block);
    }
}

/* Tells one declaration of layers from another: FNV-1a of its names. */
static uint64_t layers_mark(const struct lyap_network *network)
{
    uint64_t mark = UINT64_C(14695981039346656037) ^ network->count;
    for (uint32_t i = 0; i < network->text_bytes; i++)
        mark = (mark ^ (unsigned char)network->text[i]) * UINT64_C(1099511628211);
    return mark;
}

static void put_windows(struct lyap_writer *w, const struct lyap_profile *profile)
{
    lyap_still_put(w, &profile->still);
    lyap_tensor_z_put(w, &profile->update_z);
    lyap_tensor_z_put(w, &profile->grad_z);
    lyap_put_word(w, layers_mark(&profile->declaration.network));
    lyap_lows_put(w, &profile->forward.lows);
}

enum lyap_status lyap_profile_save(const struct lyap_profile *profile, void **ret_bytes,
                                   uint64_t *ret_length)
{
    struct lyap_writer w = { 0 };
    put_profile(&w, profile);
    put_vectors(&w, &profile->spectral);
    put_windows(&w, profile);
    w.bytes = lyap_alloc_array(w.length, 1);
    if (!w.bytes)
        return LYAP_E_NOMEM;
    *ret_length = w.length;
    w.length = 0;
    put_profile(&w, profile);
    put_vectors(&w, &profile->spectral);
    put_windows(&w, profile);
    *ret_bytes = w.bytes;
    return LYAP_OK;
}

static enum lyap_status get_pairs(struct lyap_reader *r, uint32_t capacity, uint32_t k,
                                  struct lyap_pairs *ret_pairs)
{
    const uint64_t count = lyap_get_word(r);
    if (r->is_short || count > capacity || (count > 0 && k == 0))
        return LYAP_E_FORMAT;
    if (count == 0)
        return LYAP_OK;
    const enum lyap_status status = lyap_pairs_init(ret_pairs, capacity, k);
    if (status != LYAP_OK)
        return status;
    for (uint64_t i = 0; i < count && !r->is_short; i++) {
        double *s, *y;
        lyap_pairs_slot(ret_pairs, &s, &y);
        lyap_get_doubles(r, s, k);
        lyap_get_doubles(r, y, k);
        if (!r->is_short && !lyap_pairs_commit(ret_pairs))
            return LYAP_E_FORMAT;
    }
    return r->is_short ? LYAP_E_FORMAT : LYAP_OK;
}

static enum lyap_status get_array(struct lyap_reader *r, uint64_t count, double **ret_array)
{
    if (r->is_short || count > (r->length - r->at) / 8)
        return LYAP_E_FORMAT;
    *ret_array = lyap_alloc_array(count, sizeof **ret_array);
    if (!*ret_array)
        return LYAP_E_NOMEM;
    lyap_get_doubles(r, *ret_array, count);
    return LYAP_OK;
}

static enum lyap_status get_sketches(struct lyap_reader *r, struct lyap_live *live)
{
    enum lyap_status status = LYAP_OK;
    for (unsigned i = 0; i < LYAP_SKETCH_COUNT && status == LYAP_OK; i++) {
        live->has_sketch[i] = lyap_get_word(r) == 1;
        if (live->has_sketch[i])
            status = get_array(r, live->size, &live->sketches[i]);
    }
    if (status != LYAP_OK)
        return status;
    live->has_delta = lyap_get_word(r) == 1;
    if (live->has_delta) {
        live->delta_from = (int64_t)lyap_get_word(r);
        live->delta_to = (int64_t)lyap_get_word(r);
        status = get_array(r, live->size, &live->delta);
    } else if (live->size > 0 && !(live->delta = lyap_alloc_array(live->size, sizeof(double))))
        status = LYAP_E_NOMEM;
    if (status == LYAP_OK && live->size > 0 &&
        !(live->scratch = lyap_alloc_array(live->size, sizeof(double))))
        status = LYAP_E_NOMEM;
    return status;
}

static enum lyap_status get_rows(struct lyap_reader *r, struct lyap_live *live)
{
    const uint64_t tensors = lyap_get_word(r);
    if (r->is_short || tensors > LYAP_TENSOR_COUNT_MAX)
        return LYAP_E_FORMAT;
    if (tensors == 0)
        return LYAP_OK;
    live->tensors = (uint32_t)tensors;
    enum lyap_status status = get_array(r, tensors, &live->param_sq);
    if (status == LYAP_OK)
        status = get_array(r, tensors, &live->grad_sq);
    live->has_rows = status == LYAP_OK;
    return status;
}

static enum lyap_status get_vectors(struct lyap_reader *r, const struct lyap_tensor_set *set,
                                    struct lyap_spectral_state *ret_state)
{
    const uint64_t count = lyap_get_word(r);
    if (r->is_short || count > set->count)
        return LYAP_E_FORMAT;
    const enum lyap_status status =
        count > 0 ? lyap_spectral_state_reserve(ret_state, set) : LYAP_OK;
    for (uint64_t i = 0; i < count && status == LYAP_OK; i++) {
        const uint64_t index = lyap_get_word(r), cols = lyap_get_word(r), block = lyap_get_word(r);
        const uint64_t visits = lyap_get_word(r), is_cold = lyap_get_word(r);
        if (r->is_short || index >= set->count || visits > UINT32_MAX)
            return LYAP_E_FORMAT;
        struct lyap_spectral_tensor *tensor = &ret_state->tensors[index];
        if (!tensor->rows || cols != tensor->cols || block == 0 || block > tensor->block_max)
            return LYAP_E_FORMAT;
        lyap_get_doubles(r, tensor->v, cols * block);
        if (r->is_short || !lyap_spectral_is_basis(tensor->cols, (uint32_t)block, tensor->v))
            return LYAP_E_FORMAT;
        tensor->block = (uint32_t)block;
        tensor->visits = (uint32_t)visits;
        tensor->is_cold = is_cold == 1;
        tensor->version = 1; /* uploads that began before the load do not replace them */
    }
    return status;
}

/* What is read, until all of it is known to be good. */
struct loaded {
    struct lyap_live live;
    int64_t newest; /* step of the newest point, which may be an event */
    struct lyap_pairs active, passive;
    struct lyap_spectral_state spectral;
    struct lyap_still still;
    struct lyap_tensor_z update_z, grad_z;
    struct lyap_lows lows;
};

static void loaded_release(struct loaded *loaded)
{
    lyap_live_release(&loaded->live);
    lyap_pairs_release(&loaded->active);
    lyap_pairs_release(&loaded->passive);
    lyap_spectral_state_release(&loaded->spectral);
    lyap_still_release(&loaded->still);
    lyap_tensor_z_release(&loaded->update_z);
    lyap_tensor_z_release(&loaded->grad_z);
    lyap_lows_release(&loaded->lows);
}

/* Takes what was read and leaves what there was. The newest snapshot's part, and the windows of
 * tensors and layers, only where it is the newest point's: else points were lost between the save
 * and the end, and the next snapshot has no predecessor. */
static void adopt(struct lyap_profile *profile, struct loaded *loaded)
{
    const struct loaded old = { .live = profile->live,
                                .active = profile->active,
                                .passive = profile->passive,
                                .spectral = profile->spectral,
                                .still = profile->still,
                                .update_z = profile->update_z,
                                .grad_z = profile->grad_z,
                                .lows = profile->forward.lows };
    profile->active = loaded->active;
    profile->passive = loaded->passive;
    profile->spectral = loaded->spectral;
    loaded->active = old.active;
    loaded->passive = old.passive;
    loaded->spectral = old.spectral;
    if (loaded->live.step != profile->history.last.step)
        return;
    profile->live = loaded->live;
    if (loaded->newest != profile->history.last_step) { /* events came since */
        profile->live.passed = old.live.passed;
        profile->live.is_held = old.live.is_held;
    }
    profile->live.sums_step = profile->live.has_rows ? profile->live.step : -1;
    profile->live.decay_energy = profile->live.decay_drift = profile->live.penalty = NAN;
    profile->still = loaded->still;
    profile->update_z = loaded->update_z;
    profile->grad_z = loaded->grad_z;
    profile->forward.lows = loaded->lows;
    loaded->live = old.live;
    loaded->still = old.still;
    loaded->update_z = old.update_z;
    loaded->grad_z = old.grad_z;
    loaded->lows = old.lows;
}

/* k, step, what the snapshot's update was, and what came since. */
static enum lyap_status get_head(struct lyap_reader *r, struct loaded *loaded,
                                 enum lyap_function *ret_function)
{
    struct lyap_live *live = &loaded->live;
    const uint64_t k = lyap_get_word(r);
    live->step = (int64_t)lyap_get_word(r);
    const uint64_t function = lyap_get_word(r);
    live->is_clipped = lyap_get_word(r) == 1;
    loaded->newest = (int64_t)lyap_get_word(r);
    const uint64_t passed = lyap_get_word(r);
    live->is_held = lyap_get_word(r) == 1;
    for (unsigned i = 0; i < sizeof live->batch_id; i++)
        live->batch_id[i] = (char)lyap_get_word(r);
    live->batch_id[sizeof live->batch_id - 1] = '\0';
    if (r->is_short || k > LYAP_SKETCH_SIZE || function >= LYAP_FUNCTION_COUNT ||
        passed > LYAP_STEP_MAX)
        return LYAP_E_FORMAT;
    live->size = (uint32_t)k;
    live->passed = (int64_t)passed;
    *ret_function = (enum lyap_function)function;
    return LYAP_OK;
}

/* Of other layers they are left out. */
static enum lyap_status get_layers(struct lyap_reader *r, const struct lyap_network *network,
                                   struct lyap_lows *ret_lows)
{
    const uint64_t mark = lyap_get_word(r);
    const enum lyap_status status = lyap_lows_get(r, ret_lows);
    if (status == LYAP_OK && (mark != layers_mark(network) || ret_lows->series != network->count))
        lyap_lows_release(ret_lows);
    return status;
}

static enum lyap_status get_all(struct lyap_reader *r, const struct lyap_declaration *declaration,
                                struct loaded *loaded, enum lyap_function *ret_function)
{
    const struct lyap_tensor_set *set = &declaration->set;
    enum lyap_status status = get_head(r, loaded, ret_function);
    if (status == LYAP_OK)
        status = get_pairs(r, LYAP_ACTIVE_PAIRS, loaded->live.size, &loaded->active);
    if (status == LYAP_OK)
        status = get_pairs(r, LYAP_PASSIVE_PAIRS, loaded->live.size, &loaded->passive);
    if (status == LYAP_OK)
        status = get_sketches(r, &loaded->live);
    if (status == LYAP_OK)
        status = get_rows(r, &loaded->live);
    if (status == LYAP_OK)
        status = get_vectors(r, set, &loaded->spectral);
    if (status == LYAP_OK)
        status = lyap_still_get(r, set->count, &loaded->still);
    if (status == LYAP_OK)
        status = lyap_tensor_z_get(r, set->count, &loaded->update_z);
    if (status == LYAP_OK)
        status = lyap_tensor_z_get(r, set->count, &loaded->grad_z);
    if (status == LYAP_OK)
        status = get_layers(r, &declaration->network, &loaded->lows);
    if (status == LYAP_OK && (r->is_short || r->at != r->length))
        status = LYAP_E_FORMAT;
    return status;
}

enum lyap_status lyap_profile_load(struct lyap_profile *profile, const void *bytes, uint64_t length)
{
    struct lyap_reader r = { .bytes = bytes, .length = length, .at = sizeof MAGIC };
    struct loaded loaded = { .still = { 0 } };
    enum lyap_function function;
    if (length < sizeof MAGIC || memcmp(bytes, MAGIC, sizeof MAGIC) != 0)
        return LYAP_E_FORMAT;
    lyap_live_init(&loaded.live);
    enum lyap_status status = get_all(&r, &profile->declaration, &loaded, &function);
    if (status == LYAP_OK && loaded.lows.series > 0)
        status = lyap_forward_reserve(&profile->forward, &profile->declaration);
    if (status == LYAP_OK) {
        adopt(profile, &loaded);
        profile->passive_function = function;
    }
    loaded_release(&loaded);
    return status;
}
