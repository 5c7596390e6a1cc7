/* One complete snapshot: profile, events, rules, action, rows. */
#include "engine.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "buffer.h"
#include "log.h"
#include "lyap/alloc.h"
#include "lyap/verdict.h"
#include "ranks.h"

enum { TENSOR_ROWS_EVERY = 64 }; /* up to so many tensors, every step keeps its tensor rows */

/* A learning rate that jumps by more than this factor between two points is marked; schedules
 * change it by less from step to step. */
static const double lr_change_factor = 1.25;

enum lyap_status lyap_engine_rows_grow(struct lyap_engine *engine, uint32_t count)
{
    if (count <= engine->row_capacity)
        return LYAP_OK;
    struct lyap_tensor_row *rows = lyap_alloc_array(count, sizeof *rows);
    if (!rows)
        return LYAP_E_NOMEM;
    lyap_free(engine->rows);
    engine->rows = rows;
    engine->row_capacity = count;
    return LYAP_OK;
}

/* Same tensors at the same places: rows of one declaration fit the other. */
static bool same_places(const struct lyap_tensor_set *a, const struct lyap_tensor_set *b)
{
    if (a->count != b->count)
        return false;
    for (uint32_t i = 0; i < a->count; i++)
        if (strcmp(a->tensors[i].name, b->tensors[i].name) != 0 ||
            a->tensors[i].count != b->tensors[i].count)
            return false;
    return true;
}

/* The tensors that the kernels went by become those of the attempt with its first point; later the
 * two can differ only when the run was declared again during the upload. */
static enum lyap_status adopt_set(struct lyap_run *run, struct lyap_shared_declaration *declaration)
{
    const struct lyap_tensor_set *pushed = &declaration->declaration.set;
    const struct lyap_tensor_set *known = &run->profile_declaration->declaration.set;
    if (declaration == run->profile_declaration || pushed->count == 0 || same_places(pushed, known))
        return LYAP_OK;
    if (known->count > 0 && run->record.last_step >= 0)
        return LYAP_E_TENSOR_SET;
    const enum lyap_status status = lyap_profile_redeclare(run->profile, &declaration->declaration);
    if (status != LYAP_OK)
        return status;
    lyap_shared_declaration_unref(run->profile_declaration);
    run->profile_declaration = lyap_shared_declaration_ref(declaration);
    return LYAP_OK;
}

static enum lyap_status label_point(const struct lyap_snapshot *snapshot, struct lyap_point *point)
{
    if (snapshot->label_count == 0 || point->labels_json)
        return LYAP_OK;
    struct lyap_buffer text = LYAP_BUFFER_NULL;
    lyap_labels_json(snapshot->labels, snapshot->label_count, &text);
    char *json = lyap_buffer_detach(&text);
    if (json)
        point->labels_json = lyap_alloc_string(json);
    free(json);
    return point->labels_json ? LYAP_OK : LYAP_E_NOMEM;
}

/* ---- events ---- */

static bool is_present(const struct lyap_point *point, enum lyap_metric metric)
{
    return point->metrics[metric].reason == LYAP_REASON_NONE;
}

static double count_of(const struct lyap_point *point, enum lyap_metric metric)
{
    return is_present(point, metric) ? point->metrics[metric].value : 0;
}

static bool is_nonfinite(const struct lyap_point *point)
{
    const bool has_bad_loss =
        is_present(point, LYAP_METRIC_LOSS) && !isfinite(point->metrics[LYAP_METRIC_LOSS].value);
    return has_bad_loss || count_of(point, LYAP_METRIC_NONFINITE_PARAM) > 0 ||
           count_of(point, LYAP_METRIC_NONFINITE_GRAD) > 0;
}

static enum lyap_status mark_lr(struct lyap_engine *engine, struct lyap_run *run,
                                const struct lyap_point *point)
{
    if (!run->has_last || !is_present(&run->last, LYAP_METRIC_LR) ||
        !is_present(point, LYAP_METRIC_LR))
        return LYAP_OK;
    const double before = run->last.metrics[LYAP_METRIC_LR].value;
    const double after = point->metrics[LYAP_METRIC_LR].value;
    if (!(before > 0 && after > 0) ||
        (after < before * lr_change_factor && before < after * lr_change_factor))
        return LYAP_OK;
    return lyap_engine_event(engine, run, LYAP_EVENT_LR_CHANGE, point->step,
                             "{\"from\":%.17g,\"to\":%.17g}", before, after);
}

static enum lyap_status mark_mismatch(struct lyap_engine *engine, struct lyap_run *run,
                                      const struct lyap_point *point)
{
    const struct lyap_value *omega = &point->metrics[LYAP_METRIC_UPDATE_IDENTITY];
    const bool is_refused =
        point->metrics[LYAP_METRIC_STABILITY_LIMIT].reason == LYAP_REASON_OPTIMIZER_MISMATCH ||
        point->metrics[LYAP_METRIC_STABILITY_RATIO].reason == LYAP_REASON_OPTIMIZER_MISMATCH;
    if (run->is_mismatch_marked || !is_refused)
        return LYAP_OK;
    run->is_mismatch_marked = true;
    if (omega->reason != LYAP_REASON_NONE || !isfinite(omega->value))
        return lyap_engine_event(engine, run, LYAP_EVENT_OPTIMIZER_MISMATCH, point->step, "{}");
    return lyap_engine_event(engine, run, LYAP_EVENT_OPTIMIZER_MISMATCH, point->step,
                             "{\"update_identity\":%.17g}", omega->value);
}

/* Growth above what an explicit energy allows: a hypothesis is broken, or the data. Once while it
 * lasts. */
static enum lyap_status mark_theorem(struct lyap_engine *engine, struct lyap_run *run,
                                     const struct lyap_point *point)
{
    const struct lyap_sides now = lyap_verdict_sides(point);
    if (!lyap_verdict_contradicts(&now))
        return LYAP_OK;
    if (run->has_last) {
        const struct lyap_sides before = lyap_verdict_sides(&run->last);
        if (lyap_verdict_contradicts(&before))
            return LYAP_OK;
    }
    return lyap_engine_event(engine, run, LYAP_EVENT_THEOREM_CHECK, point->step,
                             "{\"rate\":%.17g,\"rate_error\":%.17g,\"log_growth\":%.17g,"
                             "\"log_gain\":%.17g}",
                             now.rate, now.rate_ci, now.log_m, log(now.gain));
}

static enum lyap_status mark_retention(struct lyap_engine *engine, struct lyap_run *run,
                                       const struct lyap_point *point)
{
    lyap_registry_lock(engine->registry);
    const enum lyap_retention retention = run->retention;
    const uint64_t bytes = run->charged_bytes;
    lyap_registry_unlock(engine->registry);
    if (retention == LYAP_RETENTION_AUTO || retention == run->record.retention)
        return LYAP_OK;
    run->record.retention = retention;
    return lyap_engine_event(
        engine, run, LYAP_EVENT_RETENTION, point->step, "{\"retention\":\"%s\",\"bytes\":%llu}",
        retention == LYAP_RETENTION_EXACT ? "exact" : "sketch", (unsigned long long)bytes);
}

static enum lyap_status mark_events(struct lyap_engine *engine, const struct lyap_step *step,
                                    const struct lyap_point *point)
{
    struct lyap_run *run = step->run;
    enum lyap_status status = mark_lr(engine, run, point);
    const bool is_bad = is_nonfinite(point) && !step->snapshot->is_skipped;
    const bool was_bad = run->has_last && is_nonfinite(&run->last);
    if (status == LYAP_OK && is_bad && !was_bad)
        status = lyap_engine_event(engine, run, LYAP_EVENT_NONFINITE, point->step,
                                   "{\"param\":%.0f,\"grad\":%.0f}",
                                   count_of(point, LYAP_METRIC_NONFINITE_PARAM),
                                   count_of(point, LYAP_METRIC_NONFINITE_GRAD));
    if (status == LYAP_OK && step->snapshot->is_skipped)
        status = lyap_engine_event(engine, run, LYAP_EVENT_SKIPPED, point->step, "{}");
    if (status == LYAP_OK && point->is_gap && run->has_last)
        status = lyap_engine_event(engine, run, LYAP_EVENT_GAP, point->step, "{\"after\":%lld}",
                                   (long long)run->last.step);
    if (status == LYAP_OK)
        status = mark_mismatch(engine, run, point);
    if (status == LYAP_OK)
        status = mark_theorem(engine, run, point);
    if (status == LYAP_OK)
        status = mark_retention(engine, run, point);
    return status;
}

/* ---- the step ---- */

/* What the client left out before this snapshot; it says nothing when that is nothing. */
static double dropped_by_client(const struct lyap_snapshot *snapshot)
{
    for (uint32_t i = 0; i < snapshot->label_count; i++) {
        char *end = NULL;
        if (strcmp(snapshot->labels[i].key, "x-dropped") != 0)
            continue;
        const double count = strtod(snapshot->labels[i].value, &end);
        return *end == '\0' && count >= 0 ? count : NAN;
    }
    return 0;
}

/* Seconds that the sender's clock is ahead of this one; NaN: it does not say. Without the time of
 * sending a time in the past may only be late, one in the future cannot. */
static double clock_skew(const struct lyap_snapshot *snapshot, int64_t now_ns)
{
    if (lyap_snapshot_has(snapshot, LYAP_META_SENT))
        return snapshot->ahead_s;
    if (lyap_snapshot_has(snapshot, LYAP_META_TIME))
        return fmax(((double)snapshot->time_ns - (double)now_ns) / 1e9, 0);
    return NAN;
}

static enum lyap_status run_alerts(struct lyap_engine *engine, const struct lyap_step *step,
                                   const struct lyap_point *point)
{
    struct lyap_run *run = step->run;
    const int64_t now_ns = lyap_clock_utc_ns();
    const double conditions[LYAP_CONDITION_COUNT] = {
        [LYAP_CONDITION_MISSING_RANKS] = step->missing_ranks,
        [LYAP_CONDITION_DROPPED_PUSHES] = dropped_by_client(step->snapshot),
        [LYAP_CONDITION_CLOCK_SKEW] = clock_skew(step->snapshot, now_ns),
    };
    const struct lyap_alert_input input = {
        .run = run->name,
        .run_id = run->record.id,
        .labels = &run->labels,
        .point = point,
        .rows = step->partial ? engine->rows : NULL,
        .set = &run->profile_declaration->declaration.set,
        .partial = step->partial,
        .profile = run->profile,
        .points = run->points,
        .is_skipped = step->snapshot->is_skipped,
        .silences = &engine->silences,
        .now_ns = now_ns,
        .conditions = conditions,
    };
    const struct lyap_alert_sink sink = lyap_engine_sink(engine);
    const uint32_t dropped = lyap_alerts_dropped(run->alert_state);
    enum lyap_status status = LYAP_OK;
    if (lyap_alerts_is_silent(run->alert_state))
        status = lyap_alerts_silent(run->alert_state, &engine->rules, &input, 0, &sink);
    if (status == LYAP_OK)
        status = lyap_alerts_step(run->alert_state, &engine->rules, &input, &sink);
    lyap_count_add(&engine->counters->alerts_dropped,
                   lyap_alerts_dropped(run->alert_state) - dropped);
    return status;
}

static bool has_firing(const struct lyap_alerts *alerts)
{
    for (uint32_t i = 0; i < lyap_alerts_count(alerts); i++) {
        const struct lyap_alert *alert = lyap_alerts_get(alerts, i);
        if (alert->state == LYAP_ALERT_FIRING && alert->severity > LYAP_SEVERITY_INFO)
            return true;
    }
    return false;
}

/* Tensor rows of a large model are kept every few steps, and whenever somebody will want them. */
static uint32_t rows_to_keep(const struct lyap_step *step, const struct lyap_point *point,
                             bool had_tensor_alert)
{
    const uint32_t count = step->partial ? step->partial->tensor_count : 0;
    const uint32_t every = (count + TENSOR_ROWS_EVERY - 1) / TENSOR_ROWS_EVERY;
    /* Points from which alerts of tensors opened, and went on, are all there: replays need them. */
    if (count == 0 || (step->run->points - 1) % every == 0 || is_nonfinite(point) ||
        had_tensor_alert || lyap_alerts_has_tensor(step->run->alert_state) ||
        has_firing(step->run->alert_state))
        return count;
    return 0;
}

/* The new state of run and attempt, after the point was appended. Takes the point. */
static enum lyap_status advance(struct lyap_engine *engine, struct lyap_run *run,
                                struct lyap_point *take_point)
{
    const enum lyap_run_state before = run->record.state;
    struct lyap_run_record *record = &run->record;
    lyap_point_release(&run->last);
    run->last = *take_point;
    take_point->labels_json = NULL; /* moved */
    run->has_last = run->is_new_point = true;
    record->updated_ns = lyap_clock_utc_ns();
    record->state = run->last.state;
    record->verdict = run->last.verdict;
    record->action = run->last.action;
    record->last_step = run->last.step;
    if (run->attempt_record.first_step < 0)
        run->attempt_record.first_step = run->last.step;
    run->attempt_record.last_step = run->last.step;
    if (before == record->state || record->last_step == run->attempt_record.first_step)
        return LYAP_OK;
    return lyap_engine_event(engine, run, LYAP_EVENT_STATE, run->last.step,
                             "{\"from\":\"%s\",\"to\":\"%s\"}", lyap_run_state_name(before),
                             lyap_run_state_name(record->state));
}

/* Tensor names and shapes, with the first point of the attempt that has them. */
static enum lyap_status store_tensors(struct lyap_engine *engine, struct lyap_run *run)
{
    const struct lyap_tensor_set *set = &run->profile_declaration->declaration.set;
    if (run->is_set_stored || set->count == 0)
        return LYAP_OK;
    const enum lyap_status status =
        engine->store->ops->put_tensors(engine->store, run->record.id, run->record.attempt, set);
    run->is_set_stored = status == LYAP_OK;
    return status;
}

static enum lyap_status prepare(struct lyap_engine *engine, const struct lyap_step *step)
{
    struct lyap_run *run = step->run;
    enum lyap_status status = lyap_run_rebuild(engine, run);
    if (status == LYAP_OK)
        status = lyap_run_look_back(engine, run);
    if (status == LYAP_OK)
        status = adopt_set(run, step->declaration);
    if (status == LYAP_OK)
        status = lyap_engine_touch(engine, run);
    if (status == LYAP_OK && step->partial)
        status = store_tensors(engine, run);
    if (status == LYAP_OK)
        status = lyap_engine_rows_grow(engine, run->profile_declaration->declaration.set.count);
    return status;
}

/* The profile has advanced: everything below must reach the store, or the batch is void. */
static enum lyap_status finish_point(struct lyap_engine *engine, const struct lyap_step *step,
                                     struct lyap_point *point)
{
    struct lyap_run *run = step->run;
    point->attempt = run->record.attempt;
    point->time_ns = step->snapshot->time_ns;
    run->points++;
    const bool had_tensor_alert = lyap_alerts_has_tensor(run->alert_state);
    enum lyap_status status = label_point(step->snapshot, point);
    if (status == LYAP_OK)
        status = mark_events(engine, step, point);
    if (status == LYAP_OK)
        status = run_alerts(engine, step, point);
    if (status != LYAP_OK)
        return status;
    lyap_action_decide(run, &engine->rules, lyap_engine_limits(engine).rollbacks_max, point);
    status = engine->store->ops->put_point(engine->store, run->record.id, point, engine->rows,
                                           rows_to_keep(step, point, had_tensor_alert));
    if (status == LYAP_OK)
        api_feed_stage_point(engine->feed, run->name, point);
    return status == LYAP_OK ? advance(engine, run, point) : status;
}

enum lyap_status lyap_step_complete(struct lyap_engine *engine, const struct lyap_step *step)
{
    struct lyap_run *run = step->run;
    struct lyap_point point;
    lyap_point_init(&point);
    enum lyap_status status = prepare(engine, step);
    if (status != LYAP_OK)
        return status;
    if (step->partial &&
        step->partial->tensor_count != run->profile_declaration->declaration.set.count)
        return LYAP_E_TENSOR_SET;
    status = lyap_profile_step(run->profile, step->snapshot, step->partial, step->missing, &point,
                               step->partial ? engine->rows : NULL);
    if (status == LYAP_OK)
        status = finish_point(engine, step, &point);
    if (status != LYAP_OK)
        lyap_point_release(&point);
    return status == LYAP_OK || lyap_status_is_fault(status) ? status : LYAP_E_INTERNAL;
}

static void missing_ranks(const struct lyap_open_step *open, struct lyap_closed_step *closed,
                          struct lyap_buffer *text)
{
    const char *comma = "";
    closed->step = open->step;
    closed->world = open->world;
    memset(closed->has_rank, 0, sizeof closed->has_rank);
    for (uint32_t i = 0; i < open->world; i++) {
        if (open->tickets[i]) {
            closed->has_rank[i / 8] |= (uint8_t)(1u << i % 8);
            continue;
        }
        lyap_buffer_add(text, "%s%u", comma, i);
        comma = ",";
    }
}

enum lyap_status lyap_step_close_missing(struct lyap_engine *engine, struct lyap_run *run,
                                         struct lyap_open_step *open)
{
    const struct api_ticket *first = lyap_ranks_first(open);
    struct lyap_closed_step closed;
    struct lyap_buffer text = LYAP_BUFFER_NULL;
    missing_ranks(open, &closed, &text);
    char *ranks = lyap_buffer_detach(&text);
    const struct lyap_step step = { .run = run,
                                    .snapshot = &first->snapshot,
                                    .declaration = first->declaration,
                                    .missing = LYAP_REASON_RANK_MISSING,
                                    .missing_ranks = open->world - open->arrived };
    enum lyap_status status = ranks ? lyap_step_complete(engine, &step) : LYAP_E_NOMEM;
    if (status == LYAP_OK)
        status = lyap_engine_event(engine, run, LYAP_EVENT_RANK_MISSING, open->step,
                                   "{\"world\":%u,\"missing\":[%s]}", open->world, ranks);
    if (status == LYAP_OK) {
        run->generation_passed =
            lyap_passed_after(&run->generation_passed, &first->snapshot, false);
        lyap_log(LYAP_LOG_WARNING, "rank-missing", "run=%s step=%lld world=%u arrived=%u",
                 run->name, (long long)open->step, open->world, open->arrived);
        lyap_count(&engine->counters->steps_rank_missing);
        lyap_registry_lock(engine->registry);
        lyap_run_close_step(run, &closed);
        lyap_registry_unlock(engine->registry);
        lyap_ranks_finish(run, open, &engine->finished);
    }
    free(ranks);
    return status;
}

enum lyap_status lyap_step_reply(struct lyap_run *run, struct api_push_reply *reply)
{
    assert(run->has_last);
    lyap_point_release(&reply->point);
    enum lyap_status status = lyap_point_copy(&run->last, &reply->point);
    if (status != LYAP_OK) {
        lyap_point_init(&reply->point);
        return status;
    }
    status = lyap_alerts_copy(run->alert_state, &reply->alerts);
    if (status == LYAP_OK)
        reply->alert_count = lyap_alerts_count(run->alert_state);
    reply->wants_state = lyap_profile_wants_state(run->profile);
    return status;
}
