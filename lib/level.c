/* Betting e-detector and level monitor. */
#include "lyap/level.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "stats.h"

static const double BETS[LYAP_BET_COUNT] = {
    0x1p-8, 0x1p-7, 0x1p-6, 0x1p-5, 0x1p-4, 0x1p-3, 0x1p-2
};
static const double CLIP = 3;          /* CLIP times the largest bet stays below 1 */
static const double SCALE_LEAST = 0.1; /* log units: below it noise is not what matters */
static const double MARGIN_LEAST = 0.4054651081081644; /* log 1.5 */
static const double MARGIN_DEVIATIONS = 4;
static const double LINEAR_MARGIN_SCALES = 3;
static const double LOG_FLOOR = 1e-300;
static const double LOG_NONFINITE = 700; /* log of a loss that overflowed */

static double log_add(double a, double b)
{
    const double high = fmax(a, b), low = fmin(a, b);
    return high == -INFINITY ? high : high + log1p(exp(low - high));
}

static double log_mean(const double *values, uint32_t count)
{
    double sum = -INFINITY;
    for (uint32_t i = 0; i < count; i++)
        sum = log_add(sum, values[i]);
    return sum - log(count);
}

void lyap_edetector_init(struct lyap_edetector *d, double scale)
{
    assert(scale > 0);
    *d = (struct lyap_edetector){ .scale = scale };
    for (uint32_t i = 0; i < LYAP_BET_COUNT; i++)
        d->log_change[i] = -INFINITY;
}

struct lyap_evidence lyap_edetector_push(struct lyap_edetector *d, double residual)
{
    const double r = fmin(fmax(residual / d->scale, -CLIP), CLIP);
    for (uint32_t i = 0; i < LYAP_BET_COUNT; i++) {
        const double increment = log1p(BETS[i] * r);
        d->log_process[i] += increment;
        d->log_change[i] = increment + log_add(0, d->log_change[i]);
    }
    return (struct lyap_evidence){ .process = log_mean(d->log_process, LYAP_BET_COUNT),
                                   .change = log_mean(d->log_change, LYAP_BET_COUNT) };
}

void lyap_level_init(struct lyap_level *level)
{
    *level = (struct lyap_level){ .margin = MARGIN_LEAST };
}

/* 1.4826 median |successive difference| of the burn-in. */
static double burn_scale(const struct lyap_level *level)
{
    double steps[LYAP_LEVEL_BURN_IN];
    for (uint32_t i = 1; i < level->burn_count; i++)
        steps[i - 1] = fabs(level->burn[i] - level->burn[i - 1]);
    return LYAP_STATS_MAD_SCALE * lyap_stats_median(steps, level->burn_count - 1);
}

static void arm(struct lyap_level *level)
{
    double scale = burn_scale(level);
    if (level->is_linear) /* a constant series has scale 0: any positive one will do */
        scale = fmax(scale, fmax(1e-9 * fabs(level->reference), 1e-300));
    else
        scale = fmax(scale, SCALE_LEAST);
    lyap_edetector_init(&level->detector, scale);
    level->is_armed = true;
}

/* Reference and margin from the block means. */
static void refer(struct lyap_level *level)
{
    const uint32_t n = level->block_count;
    double work[LYAP_LEVEL_BLOCKS];
    memcpy(work, level->blocks, n * sizeof *work);
    level->reference = lyap_stats_quantile(work, n, 0.25);
    struct lyap_line line = { .mean = level->blocks[0] };
    if (n > 1)
        line = lyap_stats_line(level->blocks, n);
    for (uint32_t i = 0; i < n; i++)
        work[i] = fabs(level->blocks[i] - line.mean - line.slope * (i - 0.5 * (n - 1)));
    const double spread = LYAP_STATS_MAD_SCALE * lyap_stats_median(work, n);
    level->margin = MARGIN_DEVIATIONS * spread;
    if (!level->is_linear)
        level->margin = fmax(level->margin, MARGIN_LEAST);
    level->is_referred = true;
}

static void close_block(struct lyap_level *level)
{
    if (level->block_count == LYAP_LEVEL_BLOCKS) {
        memmove(level->blocks, level->blocks + 1, (LYAP_LEVEL_BLOCKS - 1) * sizeof *level->blocks);
        level->block_count--;
    }
    level->blocks[level->block_count++] = lyap_stats_mean(level->pending, LYAP_LEVEL_BLOCK);
    level->filled = 0;
    refer(level);
}

static double transform(const struct lyap_level *level, double loss)
{
    if (level->is_linear)
        return isfinite(loss) ? loss : 1e300;
    return isfinite(loss) ? log(fmax(loss, LOG_FLOOR)) : LOG_NONFINITE;
}

bool lyap_level_push(struct lyap_level *level, double loss, struct lyap_evidence *ret_evidence)
{
    if (isfinite(loss) && loss <= 0 && !level->is_linear) {
        lyap_level_init(level);
        level->is_linear = true;
    }
    const double y = transform(level, loss);
    bool has_evidence = false;
    if (level->is_referred) {
        if (!level->is_armed && level->burn_count >= LYAP_LEVEL_BURN_IN)
            arm(level);
        if (level->is_armed) {
            double margin = level->margin;
            if (level->is_linear)
                margin = fmax(margin, LINEAR_MARGIN_SCALES * level->detector.scale);
            *ret_evidence = lyap_edetector_push(&level->detector, y - level->reference - margin);
            has_evidence = true;
        }
    }
    if (!level->is_armed)
        level->burn[level->burn_count++] = y;
    level->pending[level->filled++] = y;
    if (level->filled == LYAP_LEVEL_BLOCK)
        close_block(level);
    return has_evidence;
}
