/* Bytes to blocks: gathering, moments, sketches. */
#include "intake_state.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "banned.h"

enum { BLOCK = LYAP_SUM_BLOCK, SMALL = LYAP_SKETCH_BLOCK };

void lyap_pairwise_reset(struct lyap_pairwise *sums, uint32_t width)
{
    assert(width <= LYAP_PRODUCT_COUNT);
    sums->blocks = 0;
    sums->width = width;
}

void lyap_pairwise_push(struct lyap_pairwise *sums, const double *values)
{
    const size_t bytes = sums->width * sizeof *values;
    double carry[LYAP_PRODUCT_COUNT];
    memcpy(carry, values, bytes);
    unsigned level = 0;
    for (; (sums->blocks >> level) & 1; level++)
        for (uint32_t i = 0; i < sums->width; i++)
            carry[i] = sums->levels[level][i] + carry[i];
    assert(level < LYAP_PAIRWISE_LEVELS);
    memcpy(sums->levels[level], carry, bytes);
    sums->blocks++;
}

void lyap_pairwise_total(const struct lyap_pairwise *sums, double *ret)
{
    memset(ret, 0, sums->width * sizeof *ret);
    for (unsigned level = 0; level < LYAP_PAIRWISE_LEVELS; level++)
        for (uint32_t i = 0; (sums->blocks >> level) & 1 && i < sums->width; i++)
            ret[i] = sums->levels[level][i] + ret[i];
}

size_t lyap_padded(size_t count)
{
    return (count + SMALL - 1) / SMALL * SMALL;
}

void lyap_chunk_widen(const struct lyap_kernels *kernels, enum lyap_dtype dtype,
                      const unsigned char *bytes, size_t count, double *ret)
{
    kernels->widen[dtype](bytes, count, ret);
    for (size_t i = count; i < lyap_padded(count); i++)
        ret[i] = 0;
}

void lyap_moment_reset(struct lyap_moment_total *total)
{
    lyap_pairwise_reset(&total->sums, 2);
    total->max = total->block_sq = 0;
    total->zeros = total->nonfinite = total->count = 0;
}

static double largest(const struct lyap_lanes *lanes)
{
    double max = 0;
    for (int i = 0; i < LYAP_LANES; i++)
        max = lanes->lane[i] > max ? lanes->lane[i] : max;
    return max;
}

static bool is_clean(const struct lyap_moment_sums *sums)
{
    return isfinite(lyap_lanes_total(&sums->abs)) && isfinite(sums->sq) &&
           largest(&sums->max) <= LYAP_MAGNITUDE_MAX;
}

/* The fast loop assumes finite elements; when its sums show otherwise, it runs again over what is
 * left after the others became zero. */
uint64_t lyap_moment_chunk(const struct lyap_kernels *kernels, double *x, size_t count,
                           struct lyap_moment_sums *sums)
{
    const struct lyap_moment_sums before = *sums;
    uint64_t nonfinite = 0;
    kernels->moments(x, lyap_padded(count), sums);
    if (!is_clean(sums)) {
        *sums = before;
        for (size_t i = 0; i < count; i++) {
            if (!(fabs(x[i]) <= LYAP_MAGNITUDE_MAX)) {
                x[i] = 0;
                nonfinite++;
            }
        }
        kernels->moments(x, lyap_padded(count), sums);
    }
    sums->zeros -= nonfinite + (lyap_padded(count) - count);
    return nonfinite;
}

void lyap_moment_close_block(struct lyap_moment_total *total, const struct lyap_moment_sums *sums,
                             uint64_t count, uint64_t nonfinite)
{
    const double values[2] = { sums->sq, lyap_lanes_total(&sums->abs) };
    lyap_pairwise_push(&total->sums, values);
    total->max = fmax(total->max, largest(&sums->max));
    total->block_sq = fmax(total->block_sq, sums->block_sq);
    total->zeros += sums->zeros;
    total->nonfinite += nonfinite;
    total->count += count;
}

void lyap_moment_write(const struct lyap_moment_total *total, struct lyap_partial *partial,
                       enum lyap_reduce first_row, uint32_t tensor)
{
    double sums[2];
    lyap_pairwise_total(&total->sums, sums);
    const double values[LYAP_MOMENT_ROWS] = {
        [LYAP_MOMENT_COUNT] = (double)total->count,
        [LYAP_MOMENT_SQ] = sums[0],
        [LYAP_MOMENT_ABS] = sums[1],
        [LYAP_MOMENT_ZEROS] = (double)total->zeros,
        [LYAP_MOMENT_NONFINITE] = (double)total->nonfinite,
        [LYAP_MOMENT_MAX] = total->max,
        [LYAP_MOMENT_BLOCK_SQ] = total->block_sq,
    };
    for (unsigned i = 0; i < LYAP_MOMENT_ROWS; i++)
        partial->rows[first_row + i][tensor] = values[i];
}

/* Index in the whole tensor of the first element of run `run` of a box. */
static uint64_t run_start(const struct lyap_part *part, uint64_t run)
{
    uint64_t index = part->run_offset;
    for (uint32_t d = part->outer; d-- > 0;) {
        index += (part->start[d] + run % part->extent[d]) * part->stride[d];
        run /= part->extent[d];
    }
    return index;
}

static void sketch_box(struct lyap_sketch *sketch, const struct lyap_intake_tensor *tensor,
                       uint64_t first, size_t count, const double *x)
{
    const struct lyap_part *part = tensor->part;
    while (count > 0) {
        const uint64_t inside = first % part->run, room = part->run - inside;
        const size_t taken = room < count ? (size_t)room : count;
        lyap_sketch_add(sketch, tensor->seed, run_start(part, first / part->run) + inside, x,
                        taken);
        first += taken;
        x += taken;
        count -= taken;
    }
}

void lyap_intake_sketch(struct lyap_intake *intake, enum lyap_sketch_role role, uint32_t index,
                        uint64_t first, size_t count, const double *x)
{
    const struct lyap_intake_tensor *tensor = &intake->tensors[index];
    struct lyap_sketch *sketch = &intake->sketches[role];
    const bool is_box = tensor->part && tensor->part->is_box;
    const uint64_t at = first + (tensor->part ? tensor->part->offset : 0);
    if (is_box) {
        sketch_box(sketch, tensor, first, count, x);
        return;
    }
    if (at % SMALL != 0) {
        lyap_sketch_add(sketch, tensor->seed, at, x, count);
        return;
    }
    const struct lyap_sketch_run run = { .seed = tensor->seed,
                                         .first_block = at / SMALL,
                                         .size = sketch->size };
    intake->kernels->sketch(x, lyap_padded(count) / SMALL, &run, sketch->sums);
}

void lyap_intake_keep(const struct lyap_kernels *kernels, uint64_t tensor_bytes,
                      unsigned char *target, const void *source, uint64_t length)
{
    if (tensor_bytes >= LYAP_STREAMED_BYTES_MIN)
        kernels->stream(target, source, (size_t)length);
    else
        memcpy(target, source, (size_t)length);
}

/* Which rows and sketch come from the elements of a role alone. */
static const struct {
    bool has_moments, has_sketch;
    enum lyap_reduce first_row;
    enum lyap_sketch_role sketch;
} outputs[LYAP_ROLE_COUNT] = {
    [LYAP_ROLE_PARAM] = { true, true, LYAP_REDUCE_PARAM_COUNT, LYAP_SKETCH_PARAM },
    [LYAP_ROLE_GRAD] = { true, true, LYAP_REDUCE_GRAD_COUNT, LYAP_SKETCH_GRAD },
    [LYAP_ROLE_DELTA] = { true, true, LYAP_REDUCE_DELTA_COUNT, LYAP_SKETCH_DELTA },
    [LYAP_ROLE_PROBE_GRAD] = { true, true, LYAP_REDUCE_PROBE_GRAD_COUNT, LYAP_SKETCH_PROBE_GRAD },
    [LYAP_ROLE_PAIR_S] = { false, true, 0, LYAP_SKETCH_PAIR_S },
    [LYAP_ROLE_PAIR_Y] = { false, true, 0, LYAP_SKETCH_PAIR_Y },
};

bool lyap_intake_is_act(enum lyap_role role)
{
    return role == LYAP_ROLE_ACT || role == LYAP_ROLE_ACT_PERTURBED || role == LYAP_ROLE_GATE;
}

/* A pair is sketched after its weight P^(1/2) or P^(-1/2). Where P is one number per tensor, that
 * needs no other role. */
static double pair_weight(const struct lyap_intake *intake, const struct lyap_intake_array *array)
{
    const uint32_t group = intake->config.declaration->set.tensors[array->entry.tensor].group;
    const double scale = intake->rules[group].scale;
    return array->entry.what == LYAP_ROLE_PAIR_S ? sqrt(scale) : 1 / sqrt(scale);
}

static void sketch_role(struct lyap_intake *intake, const struct lyap_intake_array *array,
                        uint64_t first, size_t count, double *x)
{
    const enum lyap_role role = array->entry.what;
    const bool is_pair = role == LYAP_ROLE_PAIR_S || role == LYAP_ROLE_PAIR_Y;
    if (is_pair) {
        if (lyap_step_is_adaptive(intake->config.declaration->optimizer.type))
            return; /* with the products, where P is known */
        const double weight[2] = { pair_weight(intake, array), 0 };
        const double *zero = intake->chunks[LYAP_ARRAY_ZERO];
        intake->kernels->combine(x, zero, lyap_padded(count), weight, x);
    }
    lyap_intake_sketch(intake, outputs[role].sketch, array->entry.tensor, first, count, x);
}

/* Whole sketch blocks of finite F32 in one pass, where the elements go as they are to their place.
 * Returns how many elements it took: none, or all but the rest of a block. */
static uint64_t role_block_f32(struct lyap_intake *intake, const struct lyap_intake_array *array,
                               uint64_t first, uint64_t count, const unsigned char *bytes,
                               struct lyap_moment_sums *sums)
{
    const struct lyap_intake_tensor *tensor = &intake->tensors[array->entry.tensor];
    const uint64_t at = first + (tensor->part ? tensor->part->offset : 0);
    const uint64_t whole = count - count % SMALL;
    struct lyap_sketch *sketch = &intake->sketches[outputs[array->entry.what].sketch];
    const struct lyap_sketch_run run = { .seed = tensor->seed,
                                         .first_block = at / SMALL,
                                         .size = sketch->size };
    struct lyap_scan scan;
    if (!outputs[array->entry.what].has_moments || array->entry.dtype != LYAP_DTYPE_F32 ||
        (tensor->part && tensor->part->is_box) || at % SMALL != 0)
        return 0;
    intake->kernels->scan_f32(bytes, (size_t)whole, &scan);
    if (scan.largest >= LYAP_F32_INFINITY)
        return 0;
    intake->kernels->absorb_f32(bytes, (size_t)whole / SMALL, &run, sums, sketch->sums);
    float largest_value;
    memcpy(&largest_value, &scan.largest, sizeof largest_value);
    sums->max.lane[0] = fmax(sums->max.lane[0], largest_value);
    sums->zeros += scan.zeros;
    return whole;
}

/* One sum block of a role: `count` elements from `first`, raw. */
static void role_block(struct lyap_intake *intake, struct lyap_intake_array *array, uint64_t first,
                       uint64_t count, const unsigned char *bytes)
{
    const struct lyap_intake_entry *entry = &array->entry;
    const size_t size = lyap_dtype_bytes(entry->dtype);
    const double factor = intake->config.snapshot->clip_factor;
    const bool is_divided = entry->what == LYAP_ROLE_GRAD &&
                            lyap_snapshot_has(intake->config.snapshot, LYAP_META_CLIP_FACTOR);
    double *x = intake->chunks[LYAP_ARRAY_SCRATCH];
    struct lyap_moment_sums sums = { 0 };
    uint64_t nonfinite = 0;
    const uint64_t done =
        is_divided ? 0 : role_block_f32(intake, array, first, count, bytes, &sums);
    for (uint64_t at = done; at < count; at += LYAP_CHUNK) {
        const size_t taken = count - at < LYAP_CHUNK ? (size_t)(count - at) : LYAP_CHUNK;
        lyap_chunk_widen(intake->kernels, entry->dtype, bytes + at * size, taken, x);
        if (is_divided)
            intake->kernels->divide(x, lyap_padded(taken), factor);
        nonfinite += lyap_moment_chunk(intake->kernels, x, taken, &sums);
        if (outputs[entry->what].has_sketch)
            sketch_role(intake, array, first + at, taken, x);
    }
    lyap_moment_close_block(&intake->moments, &sums, count, nonfinite);
    array->has_nonfinite = array->has_nonfinite || nonfinite > 0;
    intake->has_nonfinite = intake->has_nonfinite || nonfinite > 0;
}

/* All bytes of block `first` .. of the open entry are at `bytes`. */
static void block_arrived(struct lyap_intake *intake, struct lyap_intake_array *array,
                          uint64_t first, uint64_t count, const unsigned char *bytes)
{
    const uint32_t index = array->entry.tensor;
    if (lyap_intake_is_act(array->entry.what)) {
        lyap_acts_block(intake, array, first, count, bytes);
        return;
    }
    struct lyap_intake_tensor *tensor = &intake->tensors[index];
    role_block(intake, array, first, count, bytes);
    lyap_intake_spectral_block(intake, array, bytes, count * lyap_dtype_bytes(array->entry.dtype));
    if (tensor->has_products && tensor->last_entry == intake->open + 1)
        lyap_products_block(intake, index, first, count, bytes);
}

static void open_entry(struct lyap_intake *intake)
{
    const struct lyap_intake_array *array = &intake->arrays[intake->open];
    if (intake->is_partial_grade)
        return;
    if (lyap_intake_is_act(array->entry.what)) {
        lyap_acts_open(intake, array);
        return;
    }
    lyap_moment_reset(&intake->moments);
    lyap_intake_spectral_open(intake, array);
    const struct lyap_intake_tensor *tensor = &intake->tensors[array->entry.tensor];
    if (tensor->has_products && tensor->last_entry == intake->open + 1)
        lyap_products_open(intake);
}

static void close_entry(struct lyap_intake *intake)
{
    const struct lyap_intake_array *array = &intake->arrays[intake->open];
    intake->open++;
    if (intake->is_partial_grade)
        return;
    if (lyap_intake_is_act(array->entry.what)) {
        lyap_acts_close(intake, array);
        return;
    }
    const uint32_t index = array->entry.tensor;
    const struct lyap_intake_tensor *tensor = &intake->tensors[index];
    if (outputs[array->entry.what].has_moments)
        lyap_moment_write(&intake->moments, &intake->partial, outputs[array->entry.what].first_row,
                          index);
    if (tensor->has_products && tensor->last_entry == intake->open)
        lyap_products_close(intake, index);
}

/* Entries without bytes close by themselves; the next with bytes opens. */
void lyap_intake_advance(struct lyap_intake *intake)
{
    while (intake->open < intake->array_count) {
        open_entry(intake);
        if (intake->arrays[intake->open].bytes > 0)
            return;
        close_entry(intake);
    }
}

/* Takes bytes up to the end of the present block, and works on the block when it is whole: where it
 * is, or gathered in the staging. */
static uint64_t take_block(struct lyap_intake *intake, struct lyap_intake_array *array,
                           const unsigned char *bytes, uint64_t length)
{
    const uint64_t size = lyap_dtype_bytes(array->entry.dtype), block = BLOCK * size;
    const uint64_t start = array->done - array->done % block;
    const uint64_t end = array->bytes - start < block ? array->bytes : start + block;
    const uint64_t taken = length < end - array->done ? length : end - array->done;
    const bool is_in_place = taken == end - start;
    if (!is_in_place)
        memcpy(intake->staging + (array->done - start), bytes, (size_t)taken);
    array->done += taken;
    if (array->done == end) {
        const unsigned char *whole = is_in_place ? bytes : intake->staging;
        block_arrived(intake, array, start / size, (end - start) / size, whole);
        if (array->store)
            lyap_intake_keep(intake->kernels, array->bytes, array->store + start, whole,
                             end - start);
    }
    return taken;
}

void lyap_intake_bytes(struct lyap_intake *intake, uint32_t index, const void *bytes,
                       uint64_t length)
{
    assert(index == intake->open || length == 0);
    const unsigned char *next = bytes;
    while (length > 0) {
        struct lyap_intake_array *array = &intake->arrays[index];
        assert(length <= array->bytes - array->done);
        uint64_t taken = length;
        if (!intake->is_partial_grade) {
            taken = take_block(intake, array, next, length);
        } else {
            if (array->store)
                memcpy(array->store + array->done, next, (size_t)taken);
            array->done += taken;
        }
        next += taken;
        length -= taken;
    }
    if (index == intake->open && intake->arrays[index].done == intake->arrays[index].bytes) {
        close_entry(intake);
        lyap_intake_advance(intake);
    }
}
