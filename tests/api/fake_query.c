/* Cursors over the fake's memory: every row is built when the query starts. */
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fake.h"

enum { ROLL_UP_BY = 8 };

struct fake_cursor {
    struct lyap_cursor base;
    struct lyap_record *rows; /* owned */
    uint32_t count, capacity, next;
    void **owned; /* what the rows point to */
    uint32_t owned_count, owned_capacity;
};

static enum lyap_status cursor_next(struct lyap_cursor *base, struct lyap_record *ret_record)
{
    struct fake_cursor *cursor = (struct fake_cursor *)base;
    if (cursor->next == cursor->count)
        return LYAP_E_NOT_FOUND;
    *ret_record = cursor->rows[cursor->next++];
    return LYAP_OK;
}

static void cursor_close(struct lyap_cursor *base)
{
    struct fake_cursor *cursor = (struct fake_cursor *)base;
    for (uint32_t i = 0; i < cursor->owned_count; i++)
        free(cursor->owned[i]);
    free(cursor->owned);
    free(cursor->rows);
    free(cursor);
}

static void *own(struct fake_cursor *cursor, void *memory)
{
    assert(memory);
    if (cursor->owned_count == cursor->owned_capacity) {
        cursor->owned_capacity = cursor->owned_capacity ? 2 * cursor->owned_capacity : 16;
        cursor->owned = realloc(cursor->owned, cursor->owned_capacity * sizeof(void *));
        assert(cursor->owned);
    }
    return cursor->owned[cursor->owned_count++] = memory;
}

static struct lyap_record *add_row(struct fake_cursor *cursor, enum lyap_table table, int64_t key)
{
    if (cursor->count == cursor->capacity) {
        cursor->capacity = cursor->capacity ? 2 * cursor->capacity : 16;
        cursor->rows = realloc(cursor->rows, cursor->capacity * sizeof *cursor->rows);
        assert(cursor->rows);
    }
    struct lyap_record *row = &cursor->rows[cursor->count++];
    memset(row, 0, sizeof *row);
    row->table = table;
    row->key = key;
    return row;
}

/* Whether a row of this key comes after the query's place, and there is room. */
static bool is_wanted(const struct fake_cursor *cursor, const struct lyap_query *query, int64_t key)
{
    if (cursor->count == query->limit)
        return false;
    if (query->after < 0)
        return true;
    return query->is_descending ? key < query->after : key > query->after;
}

static bool has_label(const struct fake_run *run, const struct lyap_query *query)
{
    char pair[1024];
    if (!query->label_key)
        return true;
    (void)snprintf(pair, sizeof pair, "\"%s\":\"%s\"", query->label_key, query->label_value);
    return strstr(run->labels_json, pair) != NULL;
}

static void run_row(struct fake_cursor *cursor, const struct fake_run *run, int64_t key)
{
    struct lyap_run_record *record = &add_row(cursor, LYAP_TABLE_RUNS, key)->u.run;
    *record =
        (struct lyap_run_record){ .id = key,
                                  .created_ns = 1700000000000000000,
                                  .updated_ns = 1700000001000000000,
                                  .attempt = run->attempt,
                                  .state = run->is_ended ? LYAP_STATE_ENDED : LYAP_STATE_HEALTHY,
                                  .retention = LYAP_RETENTION_EXACT,
                                  .sketch_seed = UINT64_MAX,
                                  .last_step = -1 };
    memcpy(record->name, run->name, sizeof record->name);
    if (run->point_count > 0)
        record->last_step = run->points[run->point_count - 1].step;
    record->declaration_json = own(cursor, strdup(run->declaration_json));
    record->labels_json = own(cursor, strdup(run->labels_json));
    record->action.lr = NAN;
}

static void run_rows(struct fake *fake, const struct lyap_query *query, struct fake_cursor *cursor)
{
    for (int64_t i = 0; i < FAKE_RUNS_MAX; i++) {
        const int64_t index = query->is_descending ? FAKE_RUNS_MAX - 1 - i : i;
        const struct fake_run *run = fake_run_at(fake, (uint32_t)index);
        const int state = run->is_ended ? LYAP_STATE_ENDED : LYAP_STATE_HEALTHY;
        if (!run->name[0] || (query->run && strcmp(query->run, run->name) != 0) ||
            (query->state >= 0 && query->state != state) || !has_label(run, query))
            continue;
        if (is_wanted(cursor, query, index + 1))
            run_row(cursor, run, index + 1);
    }
}

/* ---- series ---- */

static void series_bin(struct fake_cursor *cursor, const struct lyap_query *query,
                       const struct lyap_point *points, uint32_t size, uint32_t resolution)
{
    const uint32_t n = query->metric_count;
    double *values = own(cursor, calloc(3 * (size_t)n, sizeof *values));
    bool *is_nan = own(cursor, calloc(n, sizeof *is_nan));
    for (uint32_t m = 0; m < n; m++) {
        values[m] = values[n + m] = values[2 * n + m] = NAN;
        for (uint32_t i = 0; i < size; i++) {
            const struct lyap_value *value = &points[i].metrics[query->metrics[m]];
            if (value->reason != LYAP_REASON_NONE)
                continue;
            is_nan[m] |= isnan(value->value);
            values[m] = value->value;
            values[n + m] = fmin(values[n + m], value->value);
            values[2 * n + m] = fmax(values[2 * n + m], value->value);
        }
    }
    const int64_t step = points[size - 1].step;
    add_row(cursor, LYAP_TABLE_SERIES, step)->u.series =
        (struct lyap_series_row){ .step = step,
                                  .resolution = resolution,
                                  .count = n,
                                  .is_event_only = size == 1 && points[0].is_event_only,
                                  .last = values,
                                  .min = values + n,
                                  .max = values + 2 * n,
                                  .is_nan = is_nan };
}

static bool is_in_range(const struct lyap_query *query, const struct lyap_point *point)
{
    return point->attempt == query->attempt && point->step >= query->from_step &&
           point->step <= query->to_step && point->step > query->after;
}

static void series_rows(const struct fake_run *run, const struct lyap_query *query,
                        struct fake_cursor *cursor)
{
    uint32_t first = 0, count = 0, resolution = 1;
    for (uint32_t i = 0; i < run->point_count; i++) {
        if (is_in_range(query, &run->points[i])) {
            first = count == 0 ? i : first;
            count++;
        }
    }
    while (query->points > 0 && (count + resolution - 1) / resolution > query->points)
        resolution *= ROLL_UP_BY;
    for (uint32_t i = 0; i < count && cursor->count < query->limit; i += resolution) {
        const uint32_t left = count - i;
        series_bin(cursor, query, &run->points[first + i], left < resolution ? left : resolution,
                   resolution);
    }
}

/* ---- the other tables ---- */

static void point_rows(const struct fake_run *run, const struct lyap_query *query,
                       struct fake_cursor *cursor)
{
    for (uint32_t i = run->point_count; i-- > 0 && cursor->count < query->limit;)
        if (query->attempt == 0 || is_in_range(query, &run->points[i]))
            add_row(cursor, LYAP_TABLE_POINTS, run->points[i].step)->u.point = run->points[i];
}

static void tensor_rows(const struct fake_run *run, const struct lyap_query *query,
                        struct fake_cursor *cursor)
{
    for (uint32_t i = 0; i < run->declaration.set.count; i++) {
        if (!is_wanted(cursor, query, i))
            continue;
        struct lyap_tensor_record *record = &add_row(cursor, LYAP_TABLE_TENSORS, i)->u.tensor;
        record->name = own(cursor, strdup(run->declaration.set.tensors[i].name));
        record->step = 5;
        for (unsigned k = 0; k < LYAP_TENSOR_METRIC_COUNT; k++)
            record->row.values[k] = NAN;
        record->row.values[query->sort] = i;
    }
}

static void layer_rows(const struct fake_run *run, const struct lyap_query *query,
                       struct fake_cursor *cursor)
{
    const struct lyap_network *network = &run->declaration.network;
    for (uint32_t i = 0; i < network->count; i++) {
        if (!is_wanted(cursor, query, i))
            continue;
        struct lyap_layer_record *record = &add_row(cursor, LYAP_TABLE_LAYERS, i)->u.layer;
        record->name = own(cursor, strdup(lyap_network_name(network, i)));
        record->kind = "linear";
        record->method = "matrix";
        record->step = 5;
        record->row.bound_step = i == 0 ? -1 : 3;
        for (unsigned k = 0; k < LYAP_LAYER_METRIC_COUNT; k++)
            record->row.values[k] =
                (struct lyap_value){ .value = NAN, .error = NAN, .reason = LYAP_REASON_NO_LAYERS };
        record->row.values[LYAP_LAYER_METRIC_GAIN] =
            (struct lyap_value){ .value = i + 0.5, .error = NAN, .trust = LYAP_TRUST_I };
    }
}

static void attempt_rows(const struct fake_run *run, const struct lyap_query *query,
                         struct fake_cursor *cursor)
{
    for (uint32_t i = 1; i <= run->attempt; i++) {
        if (!is_wanted(cursor, query, i))
            continue;
        add_row(cursor, LYAP_TABLE_ATTEMPTS, i)->u.attempt =
            (struct lyap_attempt_record){ .attempt = i,
                                          .started_ns = 1700000000000000000,
                                          .first_step = -1,
                                          .last_step = -1,
                                          .reference_loss = NAN };
    }
}

static void event_rows(const struct lyap_query *query, struct fake_cursor *cursor)
{
    for (int64_t id = 1; id <= 600; id++) {
        if (!is_wanted(cursor, query, id))
            continue;
        add_row(cursor, LYAP_TABLE_EVENTS, id)->u.event =
            (struct lyap_event_record){ .id = id,
                                        .step = id,
                                        .time_ns = 1700000000000000000,
                                        .attempt = 1,
                                        .kind = LYAP_EVENT_LR_CHANGE,
                                        .detail_json = "{\"from\":0.1,\"to\":0.01}" };
    }
}

static void rule_rows(struct fake *fake, const struct lyap_query *query, struct fake_cursor *cursor)
{
    const struct lyap_rule *rule;
    for (uint32_t i = 0; (rule = fake_rule_at(fake, i)); i++) {
        if (!is_wanted(cursor, query, i + 1))
            continue;
        struct lyap_rule *copy = &add_row(cursor, LYAP_TABLE_RULES, i + 1)->u.rule;
        *copy = *rule;
        copy->runs_json = rule->runs_json ? own(cursor, strdup(rule->runs_json)) : NULL;
    }
}

static void alert_rows(struct fake *fake, const struct lyap_query *query,
                       struct fake_cursor *cursor)
{
    for (int64_t i = 1; i <= FAKE_ALERTS; i++) {
        const int64_t id = query->is_descending ? FAKE_ALERTS + 1 - i : i;
        const int state = (int)(id % 3), severity = (int)(id % 2 ? 2 : 1);
        if (!is_wanted(cursor, query, id) || (query->state >= 0 && query->state != state) ||
            (query->severity >= 0 && query->severity != severity) ||
            (query->rule && strcmp(query->rule, "instability") != 0))
            continue;
        add_row(cursor, LYAP_TABLE_ALERTS, id)->u.alert =
            (struct lyap_alert){ .id = id,
                                 .run = "gpt",
                                 .attempt = 1,
                                 .rule = "instability",
                                 .rule_version = 1,
                                 .state = (enum lyap_alert_state)state,
                                 .severity = (enum lyap_severity)severity,
                                 .pending_step = 117,
                                 .firing_step = state ? 118 : -1,
                                 .resolved_step = -1,
                                 .acked_ns = fake_alert_acked(fake, id),
                                 .value = INFINITY,
                                 .threshold = 0.9,
                                 .summary = "tab\there",
                                 .evidence_json = "{\"window\":64}" };
    }
}

static void receiver_rows(struct fake *fake, const struct lyap_query *query,
                          struct fake_cursor *cursor)
{
    const struct lyap_receiver *receiver;
    for (uint32_t i = 0; (receiver = fake_receiver_at(fake, i)); i++) {
        if (!is_wanted(cursor, query, i + 1))
            continue;
        struct lyap_receiver *copy = &add_row(cursor, LYAP_TABLE_RECEIVERS, i + 1)->u.receiver;
        *copy = *receiver;
        copy->target = own(cursor, strdup(receiver->target));
        copy->secret = receiver->secret ? own(cursor, strdup(receiver->secret)) : NULL;
        copy->labels_json =
            receiver->labels_json ? own(cursor, strdup(receiver->labels_json)) : NULL;
    }
}

/* One a receiver and state, of alert 1. */
static void delivery_rows(const struct lyap_query *query, struct fake_cursor *cursor)
{
    for (int64_t id = 1; id <= LYAP_DELIVERY_STATE_COUNT; id++) {
        const int state = (int)id - 1;
        if (!is_wanted(cursor, query, id) || (query->state >= 0 && query->state != state) ||
            (query->alert && query->alert != 1) ||
            (query->receiver && strcmp(query->receiver, "ops") != 0))
            continue;
        add_row(cursor, LYAP_TABLE_DELIVERIES, id)->u.delivery =
            (struct lyap_delivery){ .id = id,
                                    .alert_id = 1,
                                    .receiver = "ops",
                                    .kind = LYAP_ALERT_FIRING,
                                    .state = (enum lyap_delivery_state)state,
                                    .attempts = 3,
                                    .created_ns = 1700000000000000000,
                                    .error = "HTTP 503",
                                    .payload_json = "{}" };
    }
}

static void silence_rows(struct fake *fake, const struct lyap_query *query,
                         struct fake_cursor *cursor)
{
    const struct lyap_silence *silence;
    for (uint32_t i = 0; (silence = fake_silence_at(fake, i)); i++)
        if (is_wanted(cursor, query, silence->id) && silence->until_ns > query->now_ns)
            add_row(cursor, LYAP_TABLE_SILENCES, silence->id)->u.silence = *silence;
}

static void version_rows(const struct lyap_query *query, struct fake_cursor *cursor)
{
    for (int64_t version = 1; version <= 3 && strcmp(query->rule, "versioned") == 0; version++) {
        if (!is_wanted(cursor, query, version))
            continue;
        struct lyap_rule *rule = &add_row(cursor, LYAP_TABLE_RULE_VERSIONS, version)->u.rule;
        *rule = (struct lyap_rule){ .name = "versioned",
                                    .version = (uint32_t)version,
                                    .metric = "loss",
                                    .threshold = (double)version,
                                    .clear = NAN,
                                    .is_deleted = version == 3 };
    }
}

static void group_rows(const struct lyap_query *query, struct fake_cursor *cursor)
{
    if (is_wanted(cursor, query, 3))
        add_row(cursor, LYAP_TABLE_ALERT_GROUPS, 3)->u.group =
            (struct lyap_alert_group){ .id = 3,
                                       .run = "gpt",
                                       .attempt = 1,
                                       .cause = "spike",
                                       .severity = LYAP_SEVERITY_CRITICAL,
                                       .firing = 2,
                                       .pending = 1,
                                       .tensors = 2,
                                       .first_step = 9,
                                       .rules = "a,b" };
}

enum lyap_status fake_query(void *ctx, const struct lyap_query *query,
                            struct lyap_cursor **ret_cursor)
{
    struct fake *fake = ctx;
    struct fake_cursor *cursor = calloc(1, sizeof *cursor);
    assert(cursor && query->limit > 0);
    cursor->base = (struct lyap_cursor){ cursor_next, cursor_close };
    fake_lock(fake);
    const struct fake_run *run = query->run ? fake_run_find(fake, query->run) : NULL;
    const bool is_bound =
        query->table != LYAP_TABLE_RUNS && query->table != LYAP_TABLE_RULES &&
        query->table != LYAP_TABLE_ALERTS && query->table != LYAP_TABLE_RULE_VERSIONS &&
        query->table != LYAP_TABLE_SILENCES && query->table != LYAP_TABLE_ALERT_GROUPS &&
        query->table != LYAP_TABLE_RECEIVERS && query->table != LYAP_TABLE_DELIVERIES;
    if (is_bound && !run) {
        fake_unlock(fake);
        cursor_close(&cursor->base);
        return LYAP_E_NOT_FOUND;
    }
    switch (query->table) {
    case LYAP_TABLE_RUNS:
        run_rows(fake, query, cursor);
        break;
    case LYAP_TABLE_POINTS:
        point_rows(run, query, cursor);
        break;
    case LYAP_TABLE_SERIES:
        series_rows(run, query, cursor);
        break;
    case LYAP_TABLE_TENSORS:
        tensor_rows(run, query, cursor);
        break;
    case LYAP_TABLE_LAYERS:
        layer_rows(run, query, cursor);
        break;
    case LYAP_TABLE_ATTEMPTS:
        attempt_rows(run, query, cursor);
        break;
    case LYAP_TABLE_EVENTS:
        event_rows(query, cursor);
        break;
    case LYAP_TABLE_RULES:
        rule_rows(fake, query, cursor);
        break;
    case LYAP_TABLE_ALERTS:
        alert_rows(fake, query, cursor);
        break;
    case LYAP_TABLE_RECEIVERS:
        receiver_rows(fake, query, cursor);
        break;
    case LYAP_TABLE_DELIVERIES:
        delivery_rows(query, cursor);
        break;
    case LYAP_TABLE_SILENCES:
        silence_rows(fake, query, cursor);
        break;
    case LYAP_TABLE_RULE_VERSIONS:
        version_rows(query, cursor);
        break;
    case LYAP_TABLE_ALERT_GROUPS:
        group_rows(query, cursor);
        break;
    case LYAP_TABLE_TENSOR_POINTS: /* no handler asks for it */
        break;
    }
    fake_unlock(fake);
    *ret_cursor = &cursor->base;
    return LYAP_OK;
}
