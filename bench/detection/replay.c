/* Feeds one training to liblyap as the daemon would, in one or more ways at once, and writes every
 * metric of every point.
 *   corpus.py export FAMILY SEED - | bench_replay --to FILE [--every k] [--pairs]
 *       [--retention exact|sketch] [--state pushed|none] [--probe n] [--tensors] [--to FILE ...]
 * --every k: every k-th update is pushed; --pairs: and the one after it. --probe n: with the probe
 * loss every n updates or more, and on the update after it. --state none: the daemon
 * joins late and never sees Adam's m and v; pushed: it knows them, rebuilt from the first step
 * while every update is pushed and pushed otherwise. FILE: "LYP1", u32 length, JSON {"columns":
 * [...], "tensors": [...], "tensor_columns": [...]}, then rows of f64: step of the stream, metrics,
 * what the score sees (NaN: absent), event, with
 * --tensors the rows of each tensor. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lyap/intake.h"
#include "profile_internal.h"
#include "stream.h"

enum { VARIANTS_MAX = 32, LATE_STEP = 1000 };
enum { LOST = 1, SKIPPED = 2 }; /* column `event`: non-finite, or the job skipped the update */

struct variant {
    const char *path;
    uint64_t every;
    int64_t probe_every, probed_at; /* updates between probes, 0: none; of the newest, -1: none */
    bool is_paired, has_state, has_tensors;
    enum lyap_retention retention;
    FILE *file;
    struct lyap_profile *profile;
    struct lyap_memory *memory;
    struct lyap_tensor_row *rows;
    int64_t last;     /* step of the memory; -1: none */
    uint64_t skipped; /* steps since, whose update was skipped */
    bool is_wanted;   /* the profile asked for Adam's state */
};

static void die(const char *message)
{
    (void)fprintf(stderr, "bench_replay: %s\n", message);
    exit(1);
}

static void must(enum lyap_status status, const char *what)
{
    if (status == LYAP_OK)
        return;
    (void)fprintf(stderr, "bench_replay: %s: %s\n", what, lyap_status_slug(status));
    exit(1);
}

/* Sums of each tensor that --tensors writes beside its metrics. */
static const enum lyap_reduce sums[] = {
    LYAP_REDUCE_PARAM_COUNT, LYAP_REDUCE_GRAD_ABS,   LYAP_REDUCE_GRAD_MAX,  LYAP_REDUCE_DELTA_ABS,
    LYAP_REDUCE_DELTA_MAX,   LYAP_REDUCE_GRAD_DELTA, LYAP_REDUCE_GRAD_STEP, LYAP_REDUCE_STEP_SQ,
};

/* ---- one push ---- */

static uint32_t list_entries(const struct stream *s, bool has_state,
                             struct lyap_intake_entry *ret_entries)
{
    static const enum lyap_role roles[] = { LYAP_ROLE_PARAM, LYAP_ROLE_GRAD, LYAP_ROLE_EXP_AVG,
                                            LYAP_ROLE_EXP_AVG_SQ };
    const struct lyap_tensor_set *set = &s->declaration.set;
    const uint32_t role_count = has_state ? 4 : 2;
    uint32_t count = 0;
    for (uint32_t r = 0; r < role_count; r++)
        for (uint32_t i = 0; i < set->count; i++)
            ret_entries[count++] = (struct lyap_intake_entry){ .kind = LYAP_INTAKE_TENSOR,
                                                               .what = roles[r],
                                                               .tensor = i,
                                                               .dtype = LYAP_DTYPE_F32,
                                                               .count = set->tensors[i].count };
    return count;
}

static void send(struct lyap_intake *intake, const struct stream *s, const float *values,
                 uint32_t first)
{
    const struct lyap_tensor_set *set = &s->declaration.set;
    for (uint32_t i = 0; i < set->count; i++) {
        lyap_intake_bytes(intake, first + i, values, set->tensors[i].count * sizeof *values);
        values += set->tensors[i].count;
    }
}

static void write_point(const struct variant *v, const struct stream *s,
                        const struct lyap_point *point, const struct lyap_partial *partial)
{
    double values[2 + LYAP_METRIC_COUNT + LYAP_OBSERVABLE_COUNT];
    const double *seen = v->profile->history.observer.seen;
    values[0] = s->step;
    for (unsigned i = 0; i < LYAP_METRIC_COUNT; i++)
        values[1 + i] =
            point->metrics[i].reason == LYAP_REASON_NONE ? point->metrics[i].value : (double)NAN;
    for (unsigned i = 0; i < LYAP_OBSERVABLE_COUNT; i++)
        values[1 + LYAP_METRIC_COUNT + i] = point->is_event_only ? (double)NAN : seen[i];
    values[1 + LYAP_METRIC_COUNT + LYAP_OBSERVABLE_COUNT] = s->is_skipped          ? SKIPPED
                                                            : point->is_event_only ? LOST
                                                                                   : 0;
    (void)fwrite(values, sizeof *values, sizeof values / sizeof *values, v->file);
    for (uint32_t i = 0; v->has_tensors && i < s->declaration.set.count; i++) {
        (void)fwrite(v->rows[i].values, sizeof *v->rows[i].values, LYAP_TENSOR_METRIC_COUNT,
                     v->file);
        for (unsigned j = 0; j < sizeof sums / sizeof *sums; j++) {
            const double sum = partial->rows[sums[j]] ? partial->rows[sums[j]][i] : (double)NAN;
            (void)fwrite(&sum, sizeof sum, 1, v->file);
        }
    }
}

static struct lyap_snapshot snapshot_of(const struct variant *v, struct stream *s, int64_t step)
{
    struct lyap_snapshot snapshot;
    lyap_snapshot_init(&snapshot);
    snapshot.present = 1U << LYAP_META_STEP | 1U << LYAP_META_LOSS | 1U << LYAP_META_LR;
    snapshot.step = step + (v->has_state ? 0 : LATE_STEP);
    snapshot.loss = s->loss;
    snapshot.lr = s->rates;
    snapshot.lr_count = 1 + s->declaration.optimizer.group_count;
    snapshot.is_skipped = s->is_skipped;
    if (s->clip > 0) {
        snapshot.present |= 1U << LYAP_META_CLIP_NORM;
        snapshot.clip_norm = s->clip;
    }
    return snapshot;
}

/* As the Python client: a probe when one is due, and another on the next update. */
static bool is_probed(struct variant *v, int64_t step)
{
    if (v->probe_every == 0)
        return false;
    const bool is_first = step % (int64_t)v->every == 0;
    if (is_first && (v->probed_at < 0 || step - v->probed_at >= v->probe_every)) {
        v->probed_at = step;
        return true;
    }
    return v->probed_at >= 0 && step == v->probed_at + 1;
}

/* As the Python client: the state goes along when the daemon cannot rebuild it, or asked for it. */
static bool needs_state(const struct variant *v, const struct stream *s, int64_t step)
{
    const bool is_rebuilt =
        v->retention == LYAP_RETENTION_EXACT && (step == 0 || v->last == step - 1);
    return v->has_state && s->has_state && (!is_rebuilt || v->is_wanted);
}

static void push(struct variant *v, struct stream *s, int64_t step)
{
    static struct lyap_intake_entry entries[STREAM_ROLES * STREAM_TENSORS_MAX];
    struct lyap_snapshot snapshot = snapshot_of(v, s, step);
    const bool has_state = needs_state(v, s, step);
    if (has_state) {
        snapshot.present |= 1U << LYAP_META_OPTIMIZER_STEP;
        snapshot.optimizer_step = s->optimizer_step;
    }
    if (is_probed(v, step)) {
        snapshot.present |= 1U << LYAP_META_PROBE_LOSS;
        snapshot.probe_loss = s->probe_loss;
    }
    const struct lyap_intake_config config = { .declaration = &s->declaration,
                                               .snapshot = &snapshot,
                                               .previous = v->memory,
                                               .updates = (uint64_t)(step - v->last) - v->skipped,
                                               .sketch_seed = 1,
                                               .retention = v->retention,
                                               .hold_bytes_max = LYAP_HOLD_BYTES_MAX };
    struct lyap_intake *intake;
    struct lyap_partial partial = LYAP_PARTIAL_NULL;
    struct lyap_memory *memory = NULL;
    struct lyap_point point;
    const uint32_t count = list_entries(s, has_state, entries), n = s->declaration.set.count;
    must(lyap_intake_new(&config, &intake, NULL), "intake");
    must(lyap_intake_plan(intake, entries, count, NULL), "plan");
    for (uint32_t r = 0; r < count / n; r++)
        send(intake, s, s->roles[r], r * n);
    must(lyap_intake_finish(intake, &partial, &memory), "finish");
    lyap_intake_free(intake);
    must(lyap_profile_step(v->profile, &snapshot, &partial, LYAP_REASON_NONE, &point, v->rows),
         "step");
    write_point(v, s, &point, &partial);
    lyap_point_release(&point);
    lyap_partial_release(&partial);
    v->is_wanted = lyap_profile_wants_state(v->profile);
    v->skipped += s->is_skipped;
    if (s->is_skipped || (!memory && v->retention == LYAP_RETENTION_EXACT)) {
        lyap_memory_free(memory);
        return; /* the predecessor stays */
    }
    lyap_memory_free(v->memory);
    v->memory = memory;
    v->last = step;
    v->skipped = 0;
}

/* ---- the whole ---- */

static void write_header(const struct variant *v, const struct stream *s)
{
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);
    if (!out)
        die("out of memory");
    (void)fprintf(out, "{\"columns\":[\"step\"");
    for (unsigned i = 0; i < LYAP_METRIC_COUNT; i++)
        (void)fprintf(out, ",\"%s\"", lyap_metric_info((enum lyap_metric)i)->name);
    for (unsigned i = 0; i < LYAP_OBSERVABLE_COUNT; i++)
        (void)fprintf(out, ",\"seen %s\"", lyap_observable_name((enum lyap_observable)i));
    (void)fprintf(out, ",\"event\"],\"tensors\":[");
    for (uint32_t i = 0; v->has_tensors && i < s->declaration.set.count; i++)
        (void)fprintf(out, "%s\"%s\"", i ? "," : "", s->declaration.set.tensors[i].name);
    (void)fprintf(out, "],\"tensor_columns\":[");
    for (unsigned i = 0; i < LYAP_TENSOR_METRIC_COUNT; i++)
        (void)fprintf(out, "%s\"%s\"", i ? "," : "",
                      lyap_tensor_metric_name((enum lyap_tensor_metric)i));
    for (unsigned i = 0; i < sizeof sums / sizeof *sums; i++)
        (void)fprintf(out, ",\"%s\"", lyap_reduce_name(sums[i]));
    (void)fprintf(out, "]}");
    (void)fclose(out);
    const uint32_t size = (uint32_t)length;
    (void)fwrite("LYP1", 1, 4, v->file);
    (void)fwrite(&size, sizeof size, 1, v->file);
    (void)fwrite(text, 1, length, v->file);
    free(text);
}

static void variant_open(struct variant *v, const struct stream *s)
{
    v->file = strcmp(v->path, "-") == 0 ? stdout : fopen(v->path, "wb");
    v->rows = calloc(s->declaration.set.count, sizeof *v->rows);
    v->last = v->probed_at = -1;
    if (!v->file || !v->rows)
        die("cannot write the output");
    must(lyap_profile_new(&s->declaration, NAN, &v->profile), "profile");
    write_header(v, s);
}

static void variant_close(struct variant *v)
{
    if (fclose(v->file) != 0)
        die("cannot write the output");
    lyap_profile_free(v->profile);
    lyap_memory_free(v->memory);
    free(v->rows);
}

static unsigned parse(int argc, char **argv, struct variant *ret)
{
    unsigned count = 0;
    for (int i = 1; i < argc; i++) {
        struct variant *v = count ? &ret[count - 1] : NULL;
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--to") == 0 && *value && count < VARIANTS_MAX) {
            ret[count++] = (struct variant){
                .path = value, .every = 1, .has_state = true, .retention = LYAP_RETENTION_EXACT
            };
            i++;
        } else if (v && strcmp(argv[i], "--pairs") == 0)
            v->is_paired = true;
        else if (v && strcmp(argv[i], "--tensors") == 0)
            v->has_tensors = true;
        else if (v && strcmp(argv[i], "--every") == 0 && strtol(value, NULL, 10) > 0) {
            v->every = (uint64_t)strtol(argv[++i], NULL, 10);
        } else if (v && strcmp(argv[i], "--probe") == 0 && strtol(value, NULL, 10) > 0) {
            v->probe_every = strtol(argv[++i], NULL, 10);
        } else if (v && strcmp(argv[i], "--retention") == 0) {
            v->retention =
                strcmp(argv[++i], "sketch") == 0 ? LYAP_RETENTION_SKETCH : LYAP_RETENTION_EXACT;
        } else if (v && strcmp(argv[i], "--state") == 0) {
            v->has_state = strcmp(argv[++i], "none") != 0;
        } else
            die("see the head of bench/detection/replay.c");
    }
    return count;
}

int main(int argc, char **argv)
{
    static struct variant variants[VARIANTS_MAX];
    const unsigned count = parse(argc, argv, variants);
    struct stream stream;
    if (count == 0)
        die("no --to");
    if (!stream_open(&stream, stdin))
        return 1;
    for (unsigned i = 0; i < count; i++)
        variant_open(&variants[i], &stream);
    for (uint64_t step = 0; stream_next(&stream);) {
        if (!stream.is_updated)
            continue;
        for (unsigned i = 0; i < count; i++) {
            const uint64_t phase = step % variants[i].every;
            if (phase == 0 || (variants[i].is_paired && phase == 1))
                push(&variants[i], &stream, (int64_t)step);
        }
        step++;
    }
    for (unsigned i = 0; i < count; i++)
        variant_close(&variants[i]);
    stream_close(&stream);
    return 0;
}
