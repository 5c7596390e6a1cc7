/* loops_f32.h - loops that read F32 as it lies in a body or a plane, part of loops.h: one pass in
 * place of widening and several passes over doubles, with the same sums to the last bit. */
#ifndef LYAP_LOOPS_F32_H
#define LYAP_LOOPS_F32_H

/* Not a header of its own: what it uses is above it in loops.h. */

typedef float narrow_real __attribute__((vector_size(LYAP_LOOPS_VECTOR / 2)));
typedef float narrow_memory
    __attribute__((vector_size(LYAP_LOOPS_VECTOR / 2), aligned(1), may_alias));
typedef int32_t pattern __attribute__((vector_size(LYAP_LOOPS_VECTOR)));
typedef int32_t pattern_memory
    __attribute__((vector_size(LYAP_LOOPS_VECTOR), aligned(1), may_alias));

/* Where an argument that is constant in the caller decides what is compiled. */
#define INLINE static inline __attribute__((always_inline))

enum { PATTERNS = LYAP_LOOPS_VECTOR / 4 }; /* F32 of a register */

/* WIDTH elements from number `index`, exactly; and back, rounded. The compiler's own conversion
 * would take a wide register in halves. */
static inline real load_f32(const void *source, size_t index)
{
    const unsigned char *at = (const unsigned char *)source + index * sizeof(float);
#if LYAP_LOOPS_VECTOR == 64 && defined(__AVX512F__)
    return (real)_mm512_cvtps_pd(_mm256_loadu_ps((const float *)(const void *)at));
#elif LYAP_LOOPS_VECTOR == 32 && defined(__AVX__)
    return (real)_mm256_cvtps_pd(_mm_loadu_ps((const float *)(const void *)at));
#else
    return __builtin_convertvector(*(const narrow_memory *)(const void *)at, real);
#endif
}

static inline void store_f32(float *target, real value)
{
#if LYAP_LOOPS_VECTOR == 64 && defined(__AVX512F__)
    _mm256_storeu_ps(target, _mm512_cvtpd_ps((__m512d)value));
#elif LYAP_LOOPS_VECTOR == 32 && defined(__AVX__)
    _mm_storeu_ps(target, _mm256_cvtpd_ps((__m256d)value));
#else
    *(narrow_memory *)(void *)target = __builtin_convertvector(value, narrow_real);
#endif
}

static inline pattern larger(pattern x, pattern y)
{
#if LYAP_LOOPS_VECTOR == 64 && defined(__AVX512F__)
    return (pattern)_mm512_max_epi32((__m512i)x, (__m512i)y);
#elif LYAP_LOOPS_VECTOR == 32 && defined(__AVX2__)
    return (pattern)_mm256_max_epi32((__m256i)x, (__m256i)y);
#else
    const pattern is_first = x > y;
    return (x & is_first) | (y & ~is_first);
#endif
}

/* The bits of a positive F32 order as its values do, and those of NaN and infinity are above all
 * others. */
static void scan_f32(const void *source, size_t count, struct lyap_scan *ret)
{
    const unsigned char *bytes = source;
    pattern largest = { 0 }, zeros = { 0 };
    for (size_t i = 0; i < count; i += PATTERNS) {
        const pattern size = *(const pattern_memory *)(bytes + i * sizeof(float)) & INT32_MAX;
        largest = larger(size, largest);
        zeros -= size == 0; /* true is -1 */
    }
    struct lyap_scan scan = { 0 };
    for (int i = 0; i < PATTERNS; i++) {
        const uint32_t lane = (uint32_t)largest[i];
        scan.largest = lane > scan.largest ? lane : scan.largest;
        scan.zeros += (uint64_t)zeros[i];
    }
    *ret = scan;
}

/* moments without extrema and zeros, and sketch, of one block. */
static void absorb_f32(const void *source, size_t blocks, const struct lyap_sketch_run *run,
                       struct lyap_moment_sums *sums, double *targets)
{
    const bits lanes = lane_numbers();
    struct sum abs = sum_load(&sums->abs);
    double sq = sums->sq, block_sq = sums->block_sq;
    for (size_t b = 0; b < blocks; b++) {
        const struct sketch_place place = sketch_place(run, b);
        const bits all = place.flips - (bits){ 0 };
        double *target = targets + place.offset;
        struct sum energy = { 0 };
        for (int i = 0; i < BLOCK; i += LYAP_LANES) {
            for (int p = 0; p < PARTS; p++) {
                const int at = i + p * WIDTH;
                const real value = load_f32(source, b * BLOCK + (size_t)at);
                const bits sign = (all << (BLOCK - 1 - at - lanes)) & INT64_MIN;
                energy.part[p] += value * value;
                abs.part[p] += magnitude(value);
                store(target + at, load(target + at) + (real)((bits)value ^ sign));
            }
        }
        const double block = block_energy(&energy);
        sq += block;
        block_sq = block > block_sq ? block : block_sq;
    }
    sum_store(&sums->abs, &abs);
    sums->sq = sq;
    sums->block_sq = block_sq;
}

/* Sums of one part of the lanes in a pass of moved_f32, all in registers. */
struct moved_sums {
    real abs, max, pair[LYAP_PAIR_COUNT], error, size, rest_sq, rest_grad;
};

static inline struct moved_sums moved_load(const struct lyap_moved_sums *sums, int at)
{
    struct moved_sums held = { .abs = load(sums->moments.abs.lane + at),
                               .max = load(sums->moments.max.lane + at),
                               .error = load(sums->error.lane + at),
                               .size = load(sums->size.lane + at),
                               .rest_sq = load(sums->rest_sq.lane + at),
                               .rest_grad = load(sums->rest_grad.lane + at) };
    for (int i = 0; i < LYAP_PAIR_COUNT; i++)
        held.pair[i] = load(sums->pair[i].lane + at);
    return held;
}

static inline void moved_store(struct lyap_moved_sums *sums, int at, const struct moved_sums *held)
{
    store(sums->moments.abs.lane + at, held->abs);
    store(sums->moments.max.lane + at, held->max);
    store(sums->error.lane + at, held->error);
    store(sums->size.lane + at, held->size);
    store(sums->rest_sq.lane + at, held->rest_sq);
    store(sums->rest_grad.lane + at, held->rest_grad);
    for (int i = 0; i < LYAP_PAIR_COUNT; i++)
        store(sums->pair[i].lane + at, held->pair[i]);
}

/* What the constants of a rule leave to do; known when the loop is compiled. */
struct moved_form {
    bool has_part; /* momentum */
    bool has_rest; /* weight decay or Nesterov: no factor is known to be zero */
};

/* One register of elements. */
INLINE real moved_step(const struct lyap_moved *x, size_t at, struct moved_form form,
                       struct moved_sums *sums)
{
    const real param = load_f32(x->param, at), param_prev = load_f32(x->param_prev, at);
    const real grad = load_f32(x->grad, at), grad_prev = load_f32(x->grad_prev, at);
    const real delta = param - param_prev, change = grad - grad_prev, size = magnitude(delta);
    sums->abs += size;
    sums->max = maximum(size, sums->max);
    sums->pair[LYAP_PAIR_GRAD_PARAM] += grad * param;
    sums->pair[LYAP_PAIR_GRAD_PREV_DELTA] += grad_prev * delta;
    sums->pair[LYAP_PAIR_GRAD_DELTA] += grad * delta;
    sums->pair[LYAP_PAIR_GRAD_DIFF_SQ] += change * change;
    sums->pair[LYAP_PAIR_GRAD_GRAD_PREV] += grad * grad_prev;

    real step = x->step_grad * grad_prev;
    if (form.has_rest)
        step += x->step_param * param_prev;
    if (form.has_part)
        step += load_f32(x->part_prev, at);
    const real missed = delta - step;
    sums->error += missed * missed;
    sums->size += step * step;

    if (!form.has_part && !form.has_rest)
        return delta;
    real rest = { 0 };
    if (form.has_part) {
        rest = x->part_delta * delta;
        if (form.has_rest)
            rest = rest + x->part_grad * grad_prev + x->part_param * param_prev;
        store_f32(x->part + at, rest);
    }
    if (form.has_rest)
        rest = x->rest_param * param + rest;
    sums->rest_sq += rest * rest;
    sums->rest_grad += rest * grad;
    return delta;
}

/* A block of one array is four lines; asks for those that are as far ahead as a store to memory
 * takes, which is several blocks of arithmetic. Past the end of an array nothing happens. */
static inline void ask_ahead(const void *source, size_t index)
{
    enum { AHEAD_BYTES = 2048, LINE_BYTES = 64, BLOCK_BYTES = BLOCK * sizeof(float) };
    const uintptr_t at = (uintptr_t)source + index * sizeof(float) + AHEAD_BYTES;
    for (uintptr_t line = 0; line < BLOCK_BYTES; line += LINE_BYTES)
        __builtin_prefetch((const void *)(at + line), 0, 3);
}

static inline void ask_stored(const struct lyap_moved *x, size_t index, struct moved_form form)
{
    ask_ahead(x->param, index);
    ask_ahead(x->param_prev, index);
    ask_ahead(x->grad_prev, index);
    if (form.has_part)
        ask_ahead(x->part_prev, index);
}

/* Part by part of the lanes: a pass then has its sums in registers, however narrow these are. */
INLINE void moved_part(const struct lyap_moved *x, size_t count, struct moved_form form, int part,
                       struct lyap_moved_sums *sums)
{
    struct moved_sums held = moved_load(sums, part * WIDTH);
    uint64_t zero_count = 0;
    for (size_t first = 0; first < count; first += BLOCK) {
        real energy = { 0 };
        if (part == 0)
            ask_stored(x, first, form);
        for (size_t i = first; i < first + BLOCK; i += LYAP_LANES) {
            const real delta = moved_step(x, i + (size_t)(part * WIDTH), form, &held);
            energy += delta * delta;
            zero_count += count_zeros(delta);
        }
        store(sums->energies[first / BLOCK].lane + part * WIDTH, energy);
    }
    moved_store(sums, part * WIDTH, &held);
    sums->moments.zeros += zero_count;
}

INLINE void moved_all(const struct lyap_moved *x, size_t count, struct moved_form form,
                      struct lyap_moved_sums *sums)
{
    for (int part = 0; part < PARTS; part++)
        moved_part(x, count, form, part, sums);
    for (size_t b = 0; b < count / BLOCK; b++) {
        const double energy = lyap_lanes_total(&sums->energies[b]);
        sums->moments.sq += energy;
        sums->moments.block_sq = energy > sums->moments.block_sq ? energy : sums->moments.block_sq;
    }
}

static void moved_f32(const struct lyap_moved *x, size_t count, struct lyap_moved_sums *sums)
{
    const bool has_part = x->part_prev != NULL;
    const bool has_rest =
        x->step_param != 0 || x->part_grad != 0 || x->part_param != 0 || x->rest_param != 0;
    if (has_part && has_rest)
        moved_all(x, count, (struct moved_form){ true, true }, sums);
    else if (has_part)
        moved_all(x, count, (struct moved_form){ true, false }, sums);
    else if (has_rest)
        moved_all(x, count, (struct moved_form){ false, true }, sums);
    else
        moved_all(x, count, (struct moved_form){ false, false }, sums);
}

#endif
