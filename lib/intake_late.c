/* Rules whose step depends on all elements at once (step.h): group l1 and the ball from the sums of
 * whole tensors, the simplex in further passes over what exact retention has stored. */
#include "intake_state.h"

#include <math.h>
#include <string.h>

#include "banned.h"

/* The set of coordinates above the shift shrinks with every pass; a handful is usual. */
enum { SIMPLEX_PASSES_MAX = 64 };

static const struct lyap_step_rule *rule_of(const struct lyap_intake *intake, uint32_t index)
{
    return &intake->rules[intake->config.declaration->set.tensors[index].group];
}

static bool is_moved(const struct lyap_intake *intake, uint32_t index)
{
    return intake->tensors[index].entries[LYAP_ROLE_GRAD] != 0;
}

bool lyap_late_is_reachable(const struct lyap_intake *intake, const struct lyap_step_rule *rule)
{
    if (intake->config.snapshot->world > 1)
        return false; /* another rank holds a part */
    if (!lyap_step_is_shrunk(rule))
        return intake->memory != NULL;
    for (uint32_t i = 0; i < intake->tensor_count; i++)
        if (is_moved(intake, i) && !intake->tensors[i].has_products)
            return false;
    return true;
}

/* |theta - lr clip g|^2 of one tensor; NaN where a sum is missing. */
static double coming_sq(const struct lyap_intake *intake, uint32_t index)
{
    const struct lyap_step_rule *rule = rule_of(intake, index);
    double *const *rows = intake->partial.rows;
    const double step = rule->params.lr * rule->clip;
    const double sq = rows[LYAP_REDUCE_PARAM_SQ][index] -
                      2 * step * rows[LYAP_REDUCE_GRAD_PARAM][index] +
                      step * step * rows[LYAP_REDUCE_GRAD_SQ][index];
    return sq < 0 ? 0 : sq; /* rounding; NaN stays */
}

static double ball_shrink(const struct lyap_intake *intake, double radius)
{
    double sq = 0;
    for (uint32_t i = 0; i < intake->tensor_count; i++)
        sq += is_moved(intake, i) ? coming_sq(intake, i) : 0;
    return sqrt(sq) <= radius ? 1 : radius / sqrt(sq);
}

static double group_shrink(const struct lyap_intake *intake, uint32_t index)
{
    const struct lyap_step_rule *rule = rule_of(intake, index);
    const double threshold = rule->params.lr * rule->prox_lambda;
    const double size = sqrt(coming_sq(intake, index));
    if (isnan(size))
        return NAN;
    return size > threshold ? 1 - threshold / size : 0;
}

static void settle_shrink(struct lyap_intake *intake)
{
    const struct lyap_step_rule *first = &intake->rules[0];
    const bool is_ball = first->type == LYAP_OPTIMIZER_PROJGD;
    const double ball = is_ball ? ball_shrink(intake, first->set_radius) : 1;
    for (uint32_t i = 0; i < intake->tensor_count; i++) {
        intake->tensors[i].shrink = !is_moved(intake, i) ? 1
                                    : is_ball            ? ball
                                                         : group_shrink(intake, i);
        if (intake->memory)
            intake->memory->tensors[i].shrink = intake->tensors[i].shrink;
    }
}

/* ---- the simplex ---- */

/* One chunk of a stored role, non-finite elements as 0 (then nothing of this is used). */
static const double *load(const struct lyap_intake *intake, uint32_t index, enum lyap_plane plane,
                          uint64_t first, size_t count)
{
    const enum lyap_array target = plane == LYAP_PLANE_PARAM ? LYAP_ARRAY_PARAM : LYAP_ARRAY_GRAD;
    const enum lyap_dtype dtype = intake->memory->tensors[index].slots[plane].dtype;
    double *x = intake->chunks[target];
    lyap_chunk_widen(intake->kernels, dtype,
                     lyap_memory_slot_bytes(intake->memory, index, plane) +
                         first * lyap_dtype_bytes(dtype),
                     count, x);
    if (plane == LYAP_PLANE_GRAD &&
        lyap_snapshot_has(intake->config.snapshot, LYAP_META_CLIP_FACTOR))
        intake->kernels->divide(x, lyap_padded(count), intake->config.snapshot->clip_factor);
    return x;
}

static size_t taken_of(const struct lyap_intake *intake, uint32_t index, uint64_t first)
{
    const uint64_t left = intake->tensors[index].count - first;
    return left < LYAP_CHUNK ? (size_t)left : LYAP_CHUNK;
}

/* Sum and count of the coordinates of theta - lr g above `shift`. */
struct above {
    double sum, count;
};

static void add_above(const struct lyap_intake *intake, uint32_t index, double shift,
                      struct above *above)
{
    const struct lyap_step_rule *rule = rule_of(intake, index);
    const double step = rule->params.lr * rule->clip;
    struct above part = { 0, 0 };
    for (uint64_t at = 0; at < intake->tensors[index].count; at += LYAP_CHUNK) {
        const size_t count = taken_of(intake, index, at);
        const double *x = load(intake, index, LYAP_PLANE_PARAM, at, count);
        const double *g = load(intake, index, LYAP_PLANE_GRAD, at, count);
        struct above chunk = { 0, 0 };
        for (size_t i = 0; i < count; i++) {
            const double y = x[i] - step * g[i];
            chunk.sum += y > shift ? y : 0;
            chunk.count += y > shift;
        }
        part.sum += chunk.sum;
        part.count += chunk.count;
    }
    above->sum += part.sum;
    above->count += part.count;
}

/* tau with sum max(y - tau, 0) = radius (Michelot): the mean excess of the coordinates above it,
 * until they stay the same. NaN when that takes too many passes. */
static double simplex_shift(const struct lyap_intake *intake, double radius)
{
    double shift = -INFINITY, before = -1;
    for (int pass = 0; pass < SIMPLEX_PASSES_MAX; pass++) {
        struct above above = { 0, 0 };
        for (uint32_t i = 0; i < intake->tensor_count; i++)
            if (is_moved(intake, i))
                add_above(intake, i, shift, &above);
        if (above.count == before || above.count == 0)
            return shift;
        before = above.count;
        shift = (above.sum - radius) / above.count;
    }
    return NAN;
}

/* |p|^2 and <g, p> of one tensor under its rule. */
static void add_simplex_step(struct lyap_intake *intake, uint32_t index)
{
    const struct lyap_step_rule *rule = rule_of(intake, index);
    double *step = intake->chunks[LYAP_ARRAY_STEP];
    struct lyap_lanes square = { { 0 } }, slope = { { 0 } };
    for (uint64_t at = 0; at < intake->tensors[index].count; at += LYAP_CHUNK) {
        const size_t count = taken_of(intake, index, at), padded = lyap_padded(count);
        const struct lyap_step_arrays arrays = {
            .param = load(intake, index, LYAP_PLANE_PARAM, at, count),
            .grad = load(intake, index, LYAP_PLANE_GRAD, at, count),
            .count = padded
        };
        lyap_step_update(intake->kernels, rule, &arrays, intake->chunks[LYAP_ARRAY_SCRATCH], step);
        memset(step + count, 0, (padded - count) * sizeof *step);
        intake->kernels->dot(step, step, padded, &square);
        intake->kernels->dot(step, arrays.grad, padded, &slope);
    }
    intake->partial.rows[LYAP_REDUCE_STEP_SQ][index] = lyap_lanes_total(&square);
    intake->partial.rows[LYAP_REDUCE_GRAD_STEP][index] = lyap_lanes_total(&slope);
}

static void settle_simplex(struct lyap_intake *intake)
{
    const double shift =
        intake->has_nonfinite ? (double)NAN : simplex_shift(intake, intake->rules[0].set_radius);
    for (uint32_t g = 0; g <= intake->config.declaration->optimizer.group_count; g++)
        intake->rules[g].shift = shift;
    for (uint32_t i = 0; i < intake->tensor_count; i++) {
        if (!is_moved(intake, i) || !(intake->tensors[i].rows & LYAP_PRODUCT_BIT(STEP_SQ)))
            continue;
        if (isnan(shift))
            intake->partial.rows[LYAP_REDUCE_STEP_SQ][i] =
                intake->partial.rows[LYAP_REDUCE_GRAD_STEP][i] = NAN;
        else
            add_simplex_step(intake, i);
    }
}

void lyap_late_settle(struct lyap_intake *intake)
{
    const struct lyap_step_rule *first = &intake->rules[0];
    if (!lyap_step_is_late(first) || !intake->has_role[LYAP_ROLE_GRAD] || isnan(first->clip) ||
        !lyap_late_is_reachable(intake, first))
        return;
    if (lyap_step_is_shrunk(first))
        settle_shrink(intake);
    else
        settle_simplex(intake);
}
