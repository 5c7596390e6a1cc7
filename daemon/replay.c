/* A rule on stored points: the live state machine, fed from the store, with a sink that stores
 * nothing; and the known end of the run to hold it against. Runs on threads of the API. */
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "engine.h"
#include "lyap/alloc.h"

enum {
    REPLAYS_MAX = 2, /* at once: each holds two readers and a thread for seconds */
    PAGE_POINTS = 500,
    WINDOW_STEPS = 50,  /* docs/detection.md: an alarm so long before the onset is right */
    HEALTHY_STEPS = 100 /* before that many steps of the first onset a run counts as healthy */
};

struct replay {
    struct lyap_engine *engine;
    const struct api_replay_request *request;
    struct api_replay *result;
    struct lyap_rules rules; /* the one */
    struct lyap_alerts *alerts;
    struct lyap_run_record run; /* strings NULL */
    struct lyap_labels labels;
    struct lyap_tensor_set set;
    struct lyap_tensor_row *rows;
    struct witness {
        struct lyap_onset onset;
        uint32_t healthy; /* points before the first onset's surroundings, once there is one */
    } by_loss, by_probe;
    int64_t recent[HEALTHY_STEPS]; /* steps of the newest points, in order of arrival modulo */
    struct lyap_point before;      /* of silent_seconds: the point before; labels not kept */
    bool has_before;
    uint32_t seen; /* points of the attempt */
    int64_t next_id;
};

/* ---- what the state machine stores ---- */

static enum lyap_status note(struct api_replay *result, const struct lyap_alert *alert)
{
    struct api_replay_alert *noted = &result->alerts[alert->id - 1];
    if (alert->tensor && !noted->tensor && !(noted->tensor = lyap_alloc_string(alert->tensor)))
        return LYAP_E_NOMEM;
    noted->pending_step = alert->pending_step;
    noted->firing_step = alert->firing_step;
    noted->resolved_step = alert->resolved_step;
    noted->value = alert->value;
    noted->severity = alert->severity;
    return LYAP_OK;
}

static enum lyap_status sink_put(void *ctx, struct lyap_alert *alert)
{
    struct replay *replay = ctx;
    struct api_replay *result = replay->result;
    if (alert->id == 0) {
        alert->id = ++replay->next_id;
        alert->group_id = alert->group_id ? alert->group_id : alert->id;
        if (result->alert_count < LYAP_REPLAY_ALERTS_MAX)
            result->alert_count++;
        else
            result->omitted++;
    }
    result->notifications += alert->notice == LYAP_NOTICE_FIRING;
    return alert->id <= LYAP_REPLAY_ALERTS_MAX ? note(result, alert) : LYAP_OK;
}

/* ---- points ---- */

/* Evaluated points that are not within HEALTHY_STEPS of a step: at most so many are recent. */
static uint32_t healthy_before(const struct replay *replay, int64_t step)
{
    uint32_t near = 0;
    for (uint32_t i = 0; i < HEALTHY_STEPS && i < replay->result->points; i++)
        near += replay->recent[i] > step - HEALTHY_STEPS;
    return replay->result->points - near;
}

static void push_loss(const struct replay *replay, struct witness *witness,
                      const struct lyap_point *point, enum lyap_metric metric)
{
    const struct lyap_value *value = &point->metrics[metric];
    if (value->reason != LYAP_REASON_NONE || lyap_point_is_skipped(point))
        return;
    const bool is_first = witness->onset.count == 0;
    lyap_onset_push(&witness->onset, point->step, value->value);
    if (is_first && witness->onset.count > 0)
        witness->healthy = healthy_before(replay, point->step);
}

static void count_value(struct replay *replay, const struct lyap_alert_input *input)
{
    const struct lyap_rule_entry *entry = &replay->rules.entries[0];
    struct api_replay *result = replay->result;
    if (entry->kind == LYAP_RULE_TENSOR_METRIC) {
        result->evaluated += input->rows != NULL;
        return;
    }
    if (entry->kind == LYAP_RULE_SILENT_SECONDS) {
        result->evaluated++;
        return;
    }
    const struct lyap_value value = lyap_alerts_value(replay->alerts, entry, input, NULL);
    if (value.reason == LYAP_REASON_NONE)
        result->evaluated++;
    else
        result->absent[value.reason]++;
}

/* The pause before this point, as a tick at its end would have seen it, and the push that ends it.
 */
static enum lyap_status silence(struct replay *replay, const struct lyap_point *point,
                                const struct lyap_alert_sink *sink)
{
    enum lyap_status status = LYAP_OK;
    if (replay->has_before) {
        struct lyap_alert_input input = { .run = replay->run.name,
                                          .labels = &replay->labels,
                                          .point = &replay->before,
                                          .points = replay->seen,
                                          .now_ns = point->time_ns };
        const double seconds = (double)(point->time_ns - replay->before.time_ns) / 1e9;
        status = lyap_alerts_silent(replay->alerts, &replay->rules, &input, seconds, sink);
        input.point = point;
        if (status == LYAP_OK && lyap_alerts_is_silent(replay->alerts))
            status = lyap_alerts_silent(replay->alerts, &replay->rules, &input, 0, sink);
    }
    replay->before = *point;
    replay->before.labels_json = NULL;
    replay->has_before = true;
    return status;
}

static enum lyap_status on_point(void *arg, const struct lyap_point *point,
                                 const struct lyap_tensor_row *rows)
{
    struct replay *replay = arg;
    struct api_replay *result = replay->result;
    const struct lyap_alert_sink sink = { replay, sink_put };
    if (point->step > replay->request->to_step)
        return LYAP_E_EXISTS; /* everything asked for is done */
    if (++replay->seen > LYAP_REPLAY_POINTS_MAX) {
        result->is_complete = false;
        return LYAP_E_EXISTS;
    }
    const struct lyap_alert_input input = {
        .run = replay->run.name,
        .labels = &replay->labels,
        .point = point,
        .rows = rows,
        .set = &replay->set,
        .points = replay->seen,
        .is_skipped = lyap_point_is_skipped(point),
        .now_ns = point->time_ns,
    };
    push_loss(replay, &replay->by_loss, point, LYAP_METRIC_LOSS);
    push_loss(replay, &replay->by_probe, point, LYAP_METRIC_PROBE_LOSS);
    result->last_step = point->step;
    if (point->step < replay->request->from_step) {
        lyap_alerts_lookback_push(replay->alerts, point);
        return LYAP_OK;
    }
    result->first_step = result->points ? result->first_step : point->step;
    replay->recent[result->points++ % HEALTHY_STEPS] = point->step;
    count_value(replay, &input);
    const enum lyap_status status =
        replay->rules.entries[0].kind == LYAP_RULE_SILENT_SECONDS
            ? silence(replay, point, &sink)
            : lyap_alerts_step(replay->alerts, &replay->rules, &input, &sink);
    return status;
}

static enum lyap_status feed_all(struct replay *replay)
{
    struct lyap_feed feed = { .store = replay->engine->store,
                              .run = replay->run.name,
                              .attempt = replay->result->attempt,
                              .after = -1,
                              .limit = PAGE_POINTS,
                              .set = replay->rows ? &replay->set : NULL,
                              .rows = replay->rows };
    enum lyap_status status;
    do
        status = lyap_feed_page(&feed, on_point, replay);
    while (status == LYAP_OK);
    return status == LYAP_E_NOT_FOUND || status == LYAP_E_EXISTS ? LYAP_OK : status;
}

/* ---- the known end ---- */

/* The loss of a fixed batch is the better witness; few runs push one. */
static void choose_truth(struct replay *replay)
{
    struct api_replay *result = replay->result;
    const struct lyap_onset *probe = &replay->by_probe.onset, *loss = &replay->by_loss.onset;
    const bool has_probe = probe->seen >= 3 || probe->count > 0;
    const bool has_loss = loss->seen >= 3 || loss->count > 0;
    const bool is_over = replay->run.state == LYAP_STATE_ENDED ||
                         result->attempt != replay->run.attempt || !result->is_complete ||
                         replay->request->to_step < replay->run.last_step;
    result->onset = has_probe ? *probe : *loss;
    result->truth = has_probe ? "probe_loss" : has_loss ? "loss" : NULL;
    const struct lyap_onset *onset = &result->onset;
    const uint32_t healthy = has_probe ? replay->by_probe.healthy : replay->by_loss.healthy;
    result->healthy_points = !result->truth ? 0 : onset->count ? healthy : result->points;
    result->end = !result->truth ? "unknown" : is_over ? "stable" : "running";
    for (uint32_t i = 0; i < onset->count; i++) {
        const struct lyap_onset_event *event = &onset->events[i];
        if (event->is_nonfinite || strcmp(result->end, "nonfinite") == 0)
            result->end = "nonfinite";
        else
            result->end = event->end_step < 0 ? "diverged" : "spiked";
    }
}

/* The alarm is active somewhere in the window of this event; *ret_lead from its first step there.
 */
static bool is_right(const struct api_replay_alert *alert, const struct lyap_onset *onset,
                     uint32_t index, int64_t *ret_lead)
{
    const int64_t onset_step = onset->events[index].onset_step;
    int64_t start = onset_step - WINDOW_STEPS;
    if (index > 0 && onset->events[index - 1].end_step > start)
        start = onset->events[index - 1].end_step;
    const int64_t active = alert->firing_step > start ? alert->firing_step : start;
    if (active > onset_step + 1 || (alert->resolved_step >= 0 && alert->resolved_step <= active))
        return false;
    *ret_lead = onset_step - active;
    return true;
}

static enum api_outcome outcome_of(const struct api_replay *result, struct api_replay_alert *alert,
                                   bool ret_is_found[LYAP_ONSETS_MAX])
{
    const struct lyap_onset *onset = &result->onset;
    enum api_outcome outcome = API_OUTCOME_FALSE;
    if (!result->truth)
        return API_OUTCOME_UNDECIDED;
    for (uint32_t i = 0; i < onset->count; i++) {
        const struct lyap_onset_event *event = &onset->events[i];
        int64_t lead;
        if (is_right(alert, onset, i, &lead)) {
            ret_is_found[i] = true;
            alert->lead_steps = outcome == API_OUTCOME_RIGHT ? alert->lead_steps : lead;
            outcome = API_OUTCOME_RIGHT;
        } else if (outcome != API_OUTCOME_RIGHT && alert->firing_step > event->onset_step &&
                   (event->end_step < 0 || alert->firing_step <= event->end_step)) {
            outcome = API_OUTCOME_LATE;
        }
    }
    if (outcome != API_OUTCOME_FALSE)
        return outcome;
    if (onset->count && alert->firing_step > onset->events[0].onset_step - HEALTHY_STEPS)
        return API_OUTCOME_NEITHER;
    if (strcmp(result->end, "running") == 0 &&
        result->last_step - alert->firing_step < WINDOW_STEPS)
        return API_OUTCOME_UNDECIDED;
    return API_OUTCOME_FALSE;
}

static void judge(struct replay *replay)
{
    struct api_replay *result = replay->result;
    bool is_found[LYAP_ONSETS_MAX] = { false };
    choose_truth(replay);
    for (uint32_t i = 0; i < result->alert_count; i++) {
        struct api_replay_alert *alert = &result->alerts[i];
        if (alert->firing_step < 0)
            continue;
        alert->outcome = outcome_of(result, alert, is_found);
        result->outcomes[alert->outcome]++;
    }
    for (uint32_t i = 0; i < result->onset.count; i++)
        result->missed += !is_found[i] && result->onset.events[i].onset_step >= result->first_step;
}

/* ---- what is needed ---- */

struct find_run {
    struct replay *replay;
    const char *name;
};

static enum lyap_status on_run(void *arg, const struct lyap_record *record)
{
    const struct find_run *find = arg;
    struct replay *replay = find->replay;
    if (strcmp(record->u.run.name, find->name) != 0)
        return LYAP_OK;
    replay->run = record->u.run;
    replay->run.declaration_json = replay->run.labels_json = NULL;
    const enum lyap_status status = lyap_labels_parse(record->u.run.labels_json, &replay->labels);
    return status == LYAP_OK ? LYAP_E_EXISTS : status;
}

static enum lyap_status find_run(struct replay *replay, struct lyap_error *reterr)
{
    struct find_run find = { replay, replay->request->run };
    const enum lyap_status status =
        lyap_query_each(replay->engine, lyap_query_of(LYAP_TABLE_RUNS, find.name), on_run, &find);
    if (status == LYAP_E_EXISTS)
        return LYAP_OK;
    if (status == LYAP_OK || status == LYAP_E_NOT_FOUND)
        return lyap_error_set(reterr, LYAP_E_NOT_FOUND, "there is no run '%.128s'", find.name);
    return status;
}

static enum lyap_status on_rule(void *arg, const struct lyap_record *record)
{
    struct replay *replay = arg;
    if (strcmp(record->u.rule.name, replay->request->rule) != 0)
        return LYAP_OK;
    const enum lyap_status status = lyap_rules_put(&replay->rules, &record->u.rule, NULL);
    return status == LYAP_OK ? LYAP_E_EXISTS : status;
}

static enum lyap_status find_rule(struct replay *replay, struct lyap_error *reterr)
{
    const struct api_replay_request *request = replay->request;
    const struct lyap_rule *shipped = lyap_packs_rule(request->rule);
    enum lyap_status status =
        request->body ? lyap_rules_put(&replay->rules, request->body, reterr)
                      : lyap_query_each(replay->engine, lyap_query_of(LYAP_TABLE_RULES, NULL),
                                        on_rule, replay);
    if (status == LYAP_OK && replay->rules.count == 0 && shipped)
        status = lyap_rules_put(&replay->rules, shipped, reterr);
    if (status == LYAP_OK && replay->rules.count == 0)
        status =
            lyap_error_set(reterr, LYAP_E_NOT_FOUND, "there is no rule '%.64s'", request->rule);
    if (status != LYAP_OK && status != LYAP_E_EXISTS)
        return status;
    /* One that is switched off is asked what it would do. */
    struct lyap_rule rule = replay->rules.entries[0].rule;
    rule.is_enabled = true;
    return lyap_rules_put(&replay->rules, &rule, reterr);
}

static enum lyap_status read_set(struct lyap_engine *engine, void *arg, struct lyap_error *reterr)
{
    struct replay *replay = arg;
    (void)reterr;
    return engine->store->ops->get_tensors(engine->store, replay->run.id, replay->result->attempt,
                                           &replay->set);
}

/* Names and sizes of the tensors, which the writer's connection knows. */
static enum lyap_status find_tensors(struct replay *replay, struct lyap_error *reterr)
{
    if (replay->rules.entries[0].kind != LYAP_RULE_TENSOR_METRIC)
        return LYAP_OK;
    const enum lyap_status status = lyap_engine_call(replay->engine, read_set, replay, reterr);
    if (status != LYAP_OK || replay->set.count == 0)
        return status;
    replay->rows = lyap_alloc_array(replay->set.count, sizeof *replay->rows);
    return replay->rows ? LYAP_OK : LYAP_E_NOMEM;
}

static enum lyap_status prepare(struct replay *replay, struct lyap_error *reterr)
{
    struct api_replay *result = replay->result;
    const struct api_replay_request *request = replay->request;
    enum lyap_status status = find_run(replay, reterr);
    if (status != LYAP_OK)
        return status;
    result->attempt = request->attempt ? request->attempt : replay->run.attempt;
    if (result->attempt > replay->run.attempt)
        return lyap_error_set(reterr, LYAP_E_INVALID, "attempt = %u: run %s has %u",
                              request->attempt, request->run, replay->run.attempt);
    status = find_rule(replay, reterr);
    if (status == LYAP_OK)
        status = find_tensors(replay, reterr);
    if (status != LYAP_OK)
        return status;
    result->alerts = lyap_alloc_array(LYAP_REPLAY_ALERTS_MAX, sizeof *result->alerts);
    if (!result->alerts)
        return LYAP_E_NOMEM;
    status = lyap_alerts_new(&replay->alerts);
    return status == LYAP_OK ? lyap_alerts_lookback_begin(replay->alerts, &replay->rules) : status;
}

static void release(struct replay *replay)
{
    lyap_alerts_free(replay->alerts);
    lyap_rules_release(&replay->rules);
    lyap_labels_release(&replay->labels);
    lyap_tensor_set_release(&replay->set);
    lyap_free(replay->rows);
    lyap_free(replay);
}

enum lyap_status lyap_replay_run(struct lyap_engine *engine,
                                 const struct api_replay_request *request,
                                 struct api_replay *ret_replay, struct lyap_error *reterr)
{
    struct api_replay result = { .first_step = -1, .last_step = -1, .is_complete = true };
    struct replay *replay = NULL;
    enum lyap_status status = LYAP_OK;
    if (atomic_fetch_add(&engine->replay_count, 1) >= REPLAYS_MAX)
        status =
            lyap_error_set(reterr, LYAP_E_BUSY, "%d replays are under way already", REPLAYS_MAX);
    if (status == LYAP_OK && !(replay = lyap_alloc_array(1, sizeof *replay)))
        status = LYAP_E_NOMEM;
    if (status != LYAP_OK)
        goto out;
    replay->engine = engine;
    replay->request = request;
    replay->result = &result;
    status = prepare(replay, reterr);
    if (status == LYAP_OK)
        status = feed_all(replay);
    if (status == LYAP_OK)
        judge(replay);
out:
    atomic_fetch_sub(&engine->replay_count, 1);
    if (replay)
        release(replay);
    if (status == LYAP_OK)
        *ret_replay = result;
    else
        api_replay_release(&result);
    return status;
}
