/* loops.h - body of every variant of the kernels; a source defines LYAP_LOOPS (the table's name),
 * LYAP_LOOPS_NAME and LYAP_LOOPS_VECTOR (bytes of a register) and includes it, once.
 * Vectors are the compiler's own (vector_size), not those of one instruction set: the order of the
 * sums is then written down here instead of being the optimiser's choice. Not a general header. */
#ifndef LYAP_LOOPS_H
#define LYAP_LOOPS_H

#include "kernels/kernels.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#if defined(__AVX__) || defined(__SSE2__)
#include <immintrin.h>
#endif

enum {
    BLOCK = LYAP_SKETCH_BLOCK,
    WIDTH = LYAP_LOOPS_VECTOR / 8, /* doubles of a register */
    PARTS = LYAP_LANES / WIDTH     /* registers of one sum */
};

typedef double real __attribute__((vector_size(LYAP_LOOPS_VECTOR)));
typedef int64_t bits __attribute__((vector_size(LYAP_LOOPS_VECTOR)));
/* The same in memory, where it is aligned to its elements only. */
typedef double real_memory __attribute__((vector_size(LYAP_LOOPS_VECTOR), aligned(8), may_alias));

static inline real load(const double *x)
{
    return *(const real_memory *)x;
}

static inline void store(double *x, real value)
{
    *(real_memory *)x = value;
}

/* Larger of two values that are not NaN; of a NaN and a value either may result. */
static inline real maximum(real x, real y)
{
#if LYAP_LOOPS_VECTOR == 64 && defined(__AVX512F__)
    return (real)_mm512_max_pd((__m512d)x, (__m512d)y);
#elif LYAP_LOOPS_VECTOR == 32 && defined(__AVX__)
    return (real)_mm256_max_pd((__m256d)x, (__m256d)y);
#elif LYAP_LOOPS_VECTOR == 16 && defined(__SSE2__)
    return (real)_mm_max_pd((__m128d)x, (__m128d)y);
#else
    const bits larger = x > y;
    return (real)(((bits)x & larger) | ((bits)y & ~larger));
#endif
}

/* Through the integer units, which have nothing else to do in these loops. */
static inline uint64_t count_zeros(real x)
{
#if LYAP_LOOPS_VECTOR == 64 && defined(__AVX512F__)
    return (uint64_t)__builtin_popcount(_mm512_cmp_pd_mask((__m512d)x, (__m512d){ 0 }, _CMP_EQ_OQ));
#elif LYAP_LOOPS_VECTOR == 32 && defined(__AVX__)
    const __m256d is_zero = _mm256_cmp_pd((__m256d)x, (__m256d){ 0 }, _CMP_EQ_OQ);
    return (uint64_t)__builtin_popcount((unsigned)_mm256_movemask_pd(is_zero));
#elif LYAP_LOOPS_VECTOR == 16 && defined(__SSE2__)
    const unsigned mask = (unsigned)_mm_movemask_pd(_mm_cmpeq_pd((__m128d)x, (__m128d){ 0 }));
    return mask - (mask >> 1); /* bits set of two */
#else
    const bits is_zero = x == 0;
    uint64_t count = 0;
    for (int i = 0; i < WIDTH; i++)
        count -= (uint64_t)is_zero[i];
    return count;
#endif
}

static inline real magnitude(real x)
{
    return (real)((bits)x & INT64_MAX);
}

/* Element i is i, for the lanes of one register. */
static inline bits lane_numbers(void)
{
    bits numbers;
    for (int i = 0; i < WIDTH; i++)
        numbers[i] = i;
    return numbers;
}

/* The lanes of a sum, held in registers over a loop. */
struct sum {
    real part[PARTS];
};

static inline struct sum sum_load(const struct lyap_lanes *lanes)
{
    struct sum sum;
    for (int p = 0; p < PARTS; p++)
        sum.part[p] = load(lanes->lane + p * WIDTH);
    return sum;
}

static inline void sum_store(struct lyap_lanes *lanes, const struct sum *sum)
{
    for (int p = 0; p < PARTS; p++)
        store(lanes->lane + p * WIDTH, sum->part[p]);
}

static void widen_f64(const void *source, size_t count, double *ret)
{
    memcpy(ret, source, count * sizeof *ret);
}

static void widen_f32(const void *source, size_t count, double *ret)
{
    const unsigned char *bytes = source;
    for (size_t i = 0; i < count; i++) {
        float value;
        memcpy(&value, bytes + i * sizeof value, sizeof value);
        ret[i] = value;
    }
}

/* A half's exponent and fraction shifted to their places in a float, whose bias is 112 larger.
 * Infinity and NaN have the largest exponent in both: 112 more. A subnormal half has no implicit
 * one: read it with the exponent of the smallest normal half, then take that one away again, which
 * is exact. */
static void widen_f16(const void *source, size_t count, double *ret)
{
    const unsigned char *bytes = source;
    const uint32_t bias = UINT32_C(112) << 23, exponent_mask = UINT32_C(0x1f) << 23;
    for (size_t i = 0; i < count; i++) {
        uint16_t half;
        memcpy(&half, bytes + i * sizeof half, sizeof half);
        const uint32_t shifted = (half & UINT32_C(0x7fff)) << 13;
        const uint32_t exponent = shifted & exponent_mask;
        uint32_t normal = shifted + bias + (exponent == exponent_mask ? bias : 0);
        uint32_t offset = shifted + bias + (UINT32_C(1) << 23);
        float value, subnormal;
        memcpy(&value, &normal, sizeof value);
        memcpy(&subnormal, &offset, sizeof subnormal);
        const float unsigned_value = exponent == 0 ? subnormal - 0x1p-14f : value;
        uint32_t pattern;
        memcpy(&pattern, &unsigned_value, sizeof pattern);
        pattern |= (half & UINT32_C(0x8000)) << 16;
        memcpy(&value, &pattern, sizeof value);
        ret[i] = value;
    }
}

/* A bfloat16 is the upper half of a float. */
static void widen_bf16(const void *source, size_t count, double *ret)
{
    const unsigned char *bytes = source;
    for (size_t i = 0; i < count; i++) {
        uint16_t half;
        memcpy(&half, bytes + i * sizeof half, sizeof half);
        const uint32_t pattern = (uint32_t)half << 16;
        float value;
        memcpy(&value, &pattern, sizeof value);
        ret[i] = value;
    }
}

#if defined(__SSE2__)
static inline void stream_register(unsigned char *target, const unsigned char *source)
{
#if LYAP_LOOPS_VECTOR == 64 && defined(__AVX512F__)
    _mm512_stream_si512((__m512i *)(void *)target, _mm512_loadu_si512(source));
#elif LYAP_LOOPS_VECTOR == 32 && defined(__AVX__)
    _mm256_stream_si256((__m256i *)(void *)target,
                        _mm256_loadu_si256((const __m256i *)(const void *)source));
#else
    _mm_stream_si128((__m128i *)(void *)target,
                     _mm_loadu_si128((const __m128i *)(const void *)source));
#endif
}

static void stream(void *target, const void *source, size_t bytes)
{
    unsigned char *to = target;
    const unsigned char *from = source;
    const size_t whole = bytes - bytes % LYAP_LOOPS_VECTOR;
    for (size_t i = 0; i < whole; i += LYAP_LOOPS_VECTOR)
        stream_register(to + i, from + i);
    memcpy(to + whole, from + whole, bytes - whole);
}

static void settle(void)
{
    _mm_sfence();
}
#else
static void stream(void *target, const void *source, size_t bytes)
{
    memcpy(target, source, bytes);
}

static void settle(void)
{
}
#endif

/* Energy of a block from its lanes, in the order of lyap_lanes_total. */
static inline double block_energy(const struct sum *sum)
{
    struct lyap_lanes lanes;
    sum_store(&lanes, sum);
    return lyap_lanes_total(&lanes);
}

static void moments(const double *x, size_t count, struct lyap_moment_sums *sums)
{
    struct sum abs = sum_load(&sums->abs), max = sum_load(&sums->max);
    uint64_t zero_count = 0;
    double sq = sums->sq, block_sq = sums->block_sq;
    for (size_t first = 0; first < count; first += BLOCK) {
        struct sum energy = { 0 };
        for (size_t i = first; i < first + BLOCK; i += LYAP_LANES) {
            for (int p = 0; p < PARTS; p++) {
                const real value = load(x + i + p * WIDTH), size = magnitude(value);
                energy.part[p] += value * value;
                abs.part[p] += size;
                max.part[p] = maximum(size, max.part[p]);
                zero_count += count_zeros(value);
            }
        }
        const double block = block_energy(&energy);
        sq += block;
        block_sq = block > block_sq ? block : block_sq;
    }
    sum_store(&sums->abs, &abs);
    sum_store(&sums->max, &max);
    sums->sq = sq;
    sums->block_sq = block_sq;
    sums->zeros += zero_count;
}

/* docs/sketch.md: two hashes a block give its signs and its place. */
struct sketch_place {
    int64_t flips; /* bit j: coordinate j changes its sign */
    size_t offset; /* of the block in the sums */
};

static inline struct sketch_place sketch_place(const struct lyap_sketch_run *run, size_t block)
{
    const uint64_t counter =
        run->seed + UINT64_C(0x9E3779B97F4A7C15) * (2 * (run->first_block + block) + 1);
    const uint64_t place = lyap_mix64(counter + UINT64_C(0x9E3779B97F4A7C15));
    return (struct sketch_place){ .flips = (int64_t)~lyap_mix64(counter),
                                  .offset = (size_t)(((place >> 32) * run->size) >> 32) };
}

/* The bit of a coordinate, moved to the top, flips the sign bit. */
static void sketch(const double *x, size_t blocks, const struct lyap_sketch_run *run, double *sums)
{
    const bits lanes = lane_numbers();
    for (size_t b = 0; b < blocks; b++, x += BLOCK) {
        const struct sketch_place place = sketch_place(run, b);
        double *target = sums + place.offset;
        const bits all = place.flips - (bits){ 0 };
        for (int i = 0; i < BLOCK; i += WIDTH) {
            const bits sign = (all << (BLOCK - 1 - i - lanes)) & INT64_MIN;
            store(target + i, load(target + i) + (real)((bits)load(x + i) ^ sign));
        }
    }
}

static void dot(const double *x, const double *y, size_t count, struct lyap_lanes *lanes)
{
    struct sum sum = sum_load(lanes);
    for (size_t i = 0; i < count; i += LYAP_LANES)
        for (int p = 0; p < PARTS; p++)
            sum.part[p] += load(x + i + p * WIDTH) * load(y + i + p * WIDTH);
    sum_store(lanes, &sum);
}

static void diff_sq(const double *x, const double *y, size_t count, struct lyap_lanes *lanes)
{
    struct sum sum = sum_load(lanes);
    for (size_t i = 0; i < count; i += LYAP_LANES) {
        for (int p = 0; p < PARTS; p++) {
            const real diff = load(x + i + p * WIDTH) - load(y + i + p * WIDTH);
            sum.part[p] += diff * diff;
        }
    }
    sum_store(lanes, &sum);
}

static void dot_weighted(const double *x, const double *y, const double *w, size_t count,
                         struct lyap_lanes *lanes)
{
    struct sum sum = sum_load(lanes);
    for (size_t i = 0; i < count; i += LYAP_LANES)
        for (int p = 0; p < PARTS; p++) {
            const size_t at = i + (size_t)(p * WIDTH);
            sum.part[p] += load(x + at) * load(w + at) * load(y + at);
        }
    sum_store(lanes, &sum);
}

/* arrays: theta_t, g_t, D, g_{t-1}. */
static void pair(const double *const arrays[4], size_t count, struct lyap_lanes *lanes)
{
    const double *param = arrays[0], *grad = arrays[1], *delta = arrays[2], *grad_prev = arrays[3];
    struct sum sums[LYAP_PAIR_COUNT];
    for (int s = 0; s < LYAP_PAIR_COUNT; s++)
        sums[s] = sum_load(lanes + s);
    for (size_t i = 0; i < count; i += LYAP_LANES) {
        for (int p = 0; p < PARTS; p++) {
            const size_t at = i + (size_t)(p * WIDTH);
            const real g = load(grad + at), d = load(delta + at), before = load(grad_prev + at);
            const real change = g - before;
            sums[LYAP_PAIR_GRAD_PARAM].part[p] += g * load(param + at);
            sums[LYAP_PAIR_GRAD_PREV_DELTA].part[p] += before * d;
            sums[LYAP_PAIR_GRAD_DELTA].part[p] += g * d;
            sums[LYAP_PAIR_GRAD_DIFF_SQ].part[p] += change * change;
            sums[LYAP_PAIR_GRAD_GRAD_PREV].part[p] += g * before;
        }
    }
    for (int s = 0; s < LYAP_PAIR_COUNT; s++)
        sum_store(lanes + s, &sums[s]);
}

static void subtract(const double *x, const double *y, size_t count, double *ret)
{
    for (size_t i = 0; i < count; i += WIDTH)
        store(ret + i, load(x + i) - load(y + i));
}

static void combine(const double *x, const double *y, size_t count, const double factors[2],
                    double *ret)
{
    const double a = factors[0], b = factors[1];
    for (size_t i = 0; i < count; i += WIDTH)
        store(ret + i, a * load(x + i) + b * load(y + i));
}

static void combine_sq(const double *x, const double *y, size_t count, const double factors[2],
                       double *ret)
{
    const double a = factors[0], b = factors[1];
    for (size_t i = 0; i < count; i += WIDTH) {
        const real value = load(y + i);
        store(ret + i, a * load(x + i) + b * value * value);
    }
}

static void precondition(const double *restrict v, size_t count, const double factors[3],
                         double *restrict ret)
{
    const double factor = factors[0], inverse_divisor = factors[1], eps = factors[2];
    for (size_t i = 0; i < count; i++)
        ret[i] = factor * (sqrt(inverse_divisor * v[i]) + eps);
}

static void linear_error(const double *const arrays[4], size_t count, const double factors[2],
                         struct lyap_lanes lanes[2])
{
    const double *delta = arrays[0], *grad = arrays[1], *param = arrays[2], *part = arrays[3];
    struct sum error = sum_load(&lanes[0]), size = sum_load(&lanes[1]);
    for (size_t i = 0; i < count; i += LYAP_LANES) {
        for (int p = 0; p < PARTS; p++) {
            const size_t at = i + (size_t)(p * WIDTH);
            const real step =
                factors[0] * load(grad + at) + factors[1] * load(param + at) + load(part + at);
            const real missed = load(delta + at) - step;
            error.part[p] += missed * missed;
            size.part[p] += step * step;
        }
    }
    sum_store(&lanes[0], &error);
    sum_store(&lanes[1], &size);
}

static void inverse(const double *restrict v, size_t count, const double factors[2],
                    double *restrict ret)
{
    const double factor = factors[0], least = factors[1];
    for (size_t i = 0; i < count; i++) {
        const double value = factor * v[i], floored = value > least ? value : least;
        const double inverted = 1 / floored;
        ret[i] = floored > 0 ? inverted : 0;
    }
}

/* Parameters, because `restrict` of locals does not let the compiler vectorise so many arrays. */
static void gain_loop(const double *restrict grad, const double *restrict effective,
                      const double *restrict first, const double *restrict second, size_t count,
                      const struct lyap_gain c, double *restrict exact, double *restrict moved,
                      double *restrict frozen)
{
    const double direct = (1 - c.beta1) * c.inverse1, slope = (1 - c.beta2) * c.inverse2;
    for (size_t i = 0; i < count; i++) {
        const double g = effective[i], pushed = grad[i];
        const double m = (c.beta1 * first[i] + (1 - c.beta1) * g) * c.inverse1;
        const double s = sqrt((c.beta2 * second[i] + (1 - c.beta2) * g * g) * c.inverse2);
        const double inverse = 1 / (s + c.eps);
        const double ratio = slope * g / s;
        const double bend = s > 0 ? ratio : 0;
        const double held = c.rate * direct * inverse;
        const double value = c.rate * inverse * (m * bend * inverse) - held;
        const double moved_by = pushed * value, held_by = pushed * held;
        exact[i] = value;
        moved[i] = pushed == 0 ? 0 : moved_by;
        frozen[i] = pushed == 0 ? 0 : held_by;
    }
}

static void gain(const double *const arrays[4], size_t count, const struct lyap_gain *constants,
                 double *const rets[3])
{
    gain_loop(arrays[0], arrays[1], arrays[2], arrays[3], count, *constants, rets[0], rets[1],
              rets[2]);
}

/* The exponent of a double is the bin; equal bins in turn wait for each other, so two tables. */
static void histogram(const double *x, size_t count, uint64_t *counts)
{
    uint32_t tables[2][LYAP_GAIN_BINS] = { { 0 } };
    for (size_t i = 0; i < count; i++) {
        uint64_t pattern;
        memcpy(&pattern, x + i, sizeof pattern);
        const int32_t exponent = (int32_t)(pattern >> 52 & 0x7ff);
        int32_t bin = exponent - 1023 - LYAP_GAIN_LOG2_MIN;
        bin = bin < 0 ? 0 : bin;
        bin = bin < LYAP_GAIN_BINS ? bin : LYAP_GAIN_BINS - 1;
        tables[i % 2][bin] += exponent != 0x7ff;
    }
    for (size_t b = 0; b < LYAP_GAIN_BINS; b++)
        counts[b] += tables[0][b] + tables[1][b];
}

static void narrow(const double *restrict x, size_t count, void *restrict ret)
{
    unsigned char *bytes = ret;
    for (size_t i = 0; i < count; i++) {
        const float rounded = (float)x[i];
        memcpy(bytes + i * sizeof rounded, &rounded, sizeof rounded);
    }
}

static void quotient(const double *x, const double *y, size_t count, double factor, double *ret)
{
    for (size_t i = 0; i < count; i += WIDTH)
        store(ret + i, factor * load(x + i) / load(y + i));
}

static void divide(double *x, size_t count, double divisor)
{
    for (size_t i = 0; i < count; i += WIDTH)
        store(x + i, load(x + i) / divisor);
}

#include "kernels/loops_f32.h"
#include "kernels/loops_rows.h"

const struct lyap_kernels LYAP_LOOPS = {
    .name = LYAP_LOOPS_NAME,
    .widen = { [LYAP_DTYPE_F64] = widen_f64,
               [LYAP_DTYPE_F32] = widen_f32,
               [LYAP_DTYPE_F16] = widen_f16,
               [LYAP_DTYPE_BF16] = widen_bf16 },
    .stream = stream,
    .settle = settle,
    .moments = moments,
    .sketch = sketch,
    .dot = dot,
    .diff_sq = diff_sq,
    .dot_weighted = dot_weighted,
    .pair = pair,
    .subtract = subtract,
    .combine = combine,
    .combine_sq = combine_sq,
    .linear_error = linear_error,
    .inverse = inverse,
    .gain = gain,
    .histogram = histogram,
    .narrow = narrow,
    .precondition = precondition,
    .quotient = quotient,
    .divide = divide,
    .scan_f32 = scan_f32,
    .absorb_f32 = absorb_f32,
    .moved_f32 = moved_f32,
    .project = { [LYAP_ROWS_F64] = project_f64, [LYAP_ROWS_F32] = project_f32 },
    .magnitudes = { [LYAP_ROWS_F64] = magnitudes_f64, [LYAP_ROWS_F32] = magnitudes_f32 },
};

#endif
