/* Rows to records. Texts stay SQLite's, until the statement steps. */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "query.h"
#include "words.h"

static void decode_action(struct lyap_row *row, struct lyap_action *ret_action)
{
    ret_action->kind = lyap_word_action(lyap_row_text(row));
    ret_action->lr = lyap_row_double(row);
    lyap_row_copy(row, ret_action->reason, sizeof ret_action->reason);
    ret_action->step = lyap_row_step(row);
}

static void decode_run(struct lyap_row *row, struct lyap_record *ret_record)
{
    struct lyap_run_record *run = &ret_record->u.run;
    *run = (struct lyap_run_record){ 0 };
    ret_record->key = run->id = lyap_row_int(row);
    lyap_row_copy(row, run->name, sizeof run->name);
    run->created_ns = lyap_row_int(row);
    run->updated_ns = lyap_row_int(row);
    run->attempt = (uint32_t)lyap_row_int(row);
    run->state = lyap_word_state(lyap_row_text(row));
    run->verdict = lyap_word_verdict(lyap_row_text(row));
    decode_action(row, &run->action);
    run->rollbacks = (uint32_t)lyap_row_int(row);
    run->retention = lyap_word_retention(lyap_row_text(row));
    run->sketch_seed = (uint64_t)lyap_row_int(row);
    run->last_step = lyap_row_step(row);
    run->declaration_json = lyap_row_text(row);
    run->labels_json = lyap_row_text(row);
}

static double signed_zero(double value, bool is_negative)
{
    return is_negative && value == 0.0 ? -0.0 : value;
}

static void decode_metrics(struct lyap_rows *rows, struct lyap_row *row, struct lyap_point *point)
{
    const int64_t annotation = lyap_row_step(row);
    const char *text = lyap_row_text(row);
    if (annotation < 0 || annotation != rows->marks_id) {
        lyap_marks_read(text, &rows->marks);
        rows->marks_id = annotation;
    }
    row->column++; /* nan_metrics: a NaN is there, so its reason is NONE, and the column NULL */
    point->parts_bytes = (uint16_t)lyap_row_bytes(row, point->parts, sizeof point->parts);
    const struct lyap_marks *marks = &rows->marks;
    for (unsigned i = 0; i < LYAP_METRIC_COUNT; i++)
        point->metrics[i] = (struct lyap_value){
            .value = signed_zero(lyap_row_double(row), marks->zero[i] & LYAP_MARK_ZERO_VALUE),
            .trust = marks->trust[i],
            .reason = marks->reason[i],
        };
    for (unsigned i = 0; i < LYAP_METRIC_COUNT; i++)
        point->metrics[i].error =
            signed_zero(lyap_row_double(row), marks->zero[i] & LYAP_MARK_ZERO_ERROR);
}

/* "random,,active": an empty word is a slot without a value. */
static void decode_twins(const char *text, struct lyap_point *point)
{
    memset(point->twin_names, 0, sizeof point->twin_names);
    for (unsigned i = 0; text && i < LYAP_TWIN_COUNT_MAX; i++) {
        const size_t length = strcspn(text, ",");
        if (length <= LYAP_TWIN_NAME_BYTES_MAX)
            memcpy(point->twin_names[i], text, length);
        text = text[length] ? text + length + 1 : NULL;
    }
}

static void decode_point(struct lyap_rows *rows, struct lyap_row *row,
                         struct lyap_record *ret_record)
{
    struct lyap_point *point = &ret_record->u.point;
    ret_record->key = point->step = lyap_row_int(row);
    point->time_ns = lyap_row_int(row);
    point->attempt = (uint32_t)lyap_row_int(row);
    point->state = lyap_word_state(lyap_row_text(row));
    point->verdict = lyap_word_verdict(lyap_row_text(row));
    decode_action(row, &point->action);
    point->is_event_only = lyap_row_int(row) != 0;
    point->is_gap = lyap_row_int(row) != 0;
    /* Borrowed, as every text of a record; lyap_point_copy makes it owned. */
    point->labels_json = (char *)lyap_row_text(row);
    decode_twins(lyap_row_text(row), point);
    decode_metrics(rows, row, point);
}

static void decode_tensor(struct lyap_rows *rows, struct lyap_row *row,
                          struct lyap_record *ret_record)
{
    struct lyap_tensor_record *tensor = &ret_record->u.tensor;
    ret_record->key = rows->rank++;
    tensor->name = lyap_row_text(row);
    tensor->step = lyap_row_int(row);
    tensor->row.tensor = (uint32_t)lyap_row_int(row);
    for (unsigned i = 0; i < LYAP_TENSOR_METRIC_COUNT; i++)
        tensor->row.values[i] = lyap_row_double(row);
}

static void decode_attempt(struct lyap_row *row, struct lyap_record *ret_record)
{
    struct lyap_attempt_record *attempt = &ret_record->u.attempt;
    attempt->run_id = lyap_row_int(row);
    attempt->attempt = (uint32_t)lyap_row_int(row);
    ret_record->key = attempt->attempt;
    lyap_row_copy(row, attempt->key, sizeof attempt->key);
    attempt->started_ns = lyap_row_int(row);
    attempt->ended_ns = lyap_row_int(row); /* NULL reads as 0 */
    attempt->first_step = lyap_row_step(row);
    attempt->last_step = lyap_row_step(row);
    attempt->reference_loss = lyap_row_double(row);
    attempt->healthy_lr = lyap_row_double(row);
}

static void decode_event(struct lyap_row *row, struct lyap_record *ret_record)
{
    struct lyap_event_record *event = &ret_record->u.event;
    ret_record->key = event->id = lyap_row_int(row);
    event->run_id = lyap_row_int(row);
    event->attempt = (uint32_t)lyap_row_int(row);
    event->step = lyap_row_int(row);
    event->time_ns = lyap_row_int(row);
    event->kind = lyap_word_event(lyap_row_text(row));
    event->detail_json = lyap_row_text(row);
}

static void decode_rule(struct lyap_row *row, struct lyap_record *ret_record)
{
    struct lyap_rule *rule = &ret_record->u.rule;
    *rule = (struct lyap_rule){ 0 };
    ret_record->key = lyap_row_int(row);
    lyap_row_copy(row, rule->name, sizeof rule->name);
    rule->version = (uint32_t)lyap_row_int(row);
    rule->updated_ns = lyap_row_int(row);
    rule->is_enabled = lyap_row_int(row) != 0;
    rule->is_builtin = lyap_row_int(row) != 0;
    lyap_row_copy(row, rule->metric, sizeof rule->metric);
    lyap_row_copy(row, rule->tensor_pattern, sizeof rule->tensor_pattern);
    rule->comparison = lyap_word_comparison(lyap_row_text(row));
    rule->threshold = lyap_row_double(row);
    rule->clear = lyap_row_double(row);
    rule->for_steps = (uint32_t)lyap_row_int(row);
    rule->clear_steps = (uint32_t)lyap_row_int(row);
    rule->is_once = lyap_row_int(row) != 0;
    rule->min_points = (uint32_t)lyap_row_int(row);
    rule->cooldown_steps = (uint32_t)lyap_row_int(row);
    rule->cooldown_s = (uint32_t)lyap_row_int(row);
    rule->notify_per_hour = (uint32_t)lyap_row_int(row);
    lyap_row_copy(row, rule->cause, sizeof rule->cause);
    rule->severity = lyap_word_severity(lyap_row_text(row));
    rule->action = lyap_word_action(lyap_row_text(row));
    lyap_row_copy(row, rule->run_pattern, sizeof rule->run_pattern);
    rule->runs_json = lyap_row_text(row);
    rule->source = lyap_row_text(row);
    rule->notify_json = lyap_row_text(row);
    rule->is_deleted = lyap_row_int(row) != 0;
}

static void decode_silence(struct lyap_row *row, struct lyap_record *ret_record)
{
    struct lyap_silence *silence = &ret_record->u.silence;
    ret_record->key = silence->id = lyap_row_int(row);
    lyap_row_copy(row, silence->run, sizeof silence->run);
    lyap_row_copy(row, silence->rule, sizeof silence->rule);
    const char *severity = lyap_row_text(row);
    silence->severity = severity ? (int)lyap_word_severity(severity) : -1;
    silence->labels_json = lyap_row_text(row);
    silence->comment = lyap_row_text(row);
    lyap_row_copy(row, silence->by, sizeof silence->by);
    silence->created_ns = lyap_row_int(row);
    silence->until_ns = lyap_row_int(row);
}

static void decode_group(struct lyap_row *row, struct lyap_record *ret_record)
{
    struct lyap_alert_group *group = &ret_record->u.group;
    ret_record->key = group->id = lyap_row_int(row);
    lyap_row_copy(row, group->run, sizeof group->run);
    group->attempt = (uint32_t)lyap_row_int(row);
    lyap_row_copy(row, group->cause, sizeof group->cause);
    group->severity = (enum lyap_severity)lyap_row_int(row);
    group->pending = (uint32_t)lyap_row_int(row);
    group->firing = (uint32_t)lyap_row_int(row);
    group->silenced = (uint32_t)lyap_row_int(row);
    group->tensors = (uint32_t)lyap_row_int(row);
    group->first_step = lyap_row_step(row);
    group->updated_ns = lyap_row_int(row);
    group->notified_ns = lyap_row_int(row); /* NULL reads as 0 */
    group->rules = lyap_row_text(row);
}

/* NULL reads as 0. */
static void decode_told(struct lyap_row *row, struct lyap_alert *alert)
{
    alert->firing_ns = lyap_row_int(row);
    alert->resolved_ns = lyap_row_int(row);
    alert->acked_ns = lyap_row_int(row);
    alert->ack_until_ns = lyap_row_int(row);
    lyap_row_copy(row, alert->acked_by, sizeof alert->acked_by);
    lyap_row_copy(row, alert->ack_comment, sizeof alert->ack_comment);
    lyap_row_copy(row, alert->cause, sizeof alert->cause);
    alert->group_id = lyap_row_int(row);
    alert->silence_id = lyap_row_int(row);
    alert->silenced_until_ns = lyap_row_int(row);
    alert->notified_ns = lyap_row_int(row);
    alert->held = lyap_word_held(lyap_row_text(row));
    alert->notice = LYAP_NOTICE_NONE;
    alert->is_turn = false;
}

static void decode_alert(struct lyap_row *row, struct lyap_record *ret_record)
{
    struct lyap_alert *alert = &ret_record->u.alert;
    ret_record->key = alert->id = lyap_row_int(row);
    lyap_row_copy(row, alert->run, sizeof alert->run);
    alert->run_id = lyap_row_int(row);
    alert->attempt = (uint32_t)lyap_row_int(row);
    lyap_row_copy(row, alert->rule, sizeof alert->rule);
    alert->rule_version = (uint32_t)lyap_row_int(row);
    alert->tensor = lyap_row_text(row);
    alert->state = lyap_word_alert_state(lyap_row_text(row));
    alert->severity = lyap_word_severity(lyap_row_text(row));
    alert->pending_step = lyap_row_step(row);
    alert->firing_step = lyap_row_step(row);
    alert->resolved_step = lyap_row_step(row);
    alert->updated_ns = lyap_row_int(row);
    decode_told(row, alert);
    alert->value = lyap_row_double(row);
    alert->threshold = lyap_row_double(row);
    alert->summary = lyap_row_text(row);
    alert->evidence_json = lyap_row_text(row);
}

static void decode_receiver(struct lyap_row *row, struct lyap_record *ret_record)
{
    struct lyap_receiver *receiver = &ret_record->u.receiver;
    ret_record->key = lyap_row_int(row);
    lyap_row_copy(row, receiver->name, sizeof receiver->name);
    receiver->type = lyap_word_receiver_type(lyap_row_text(row));
    receiver->format = lyap_word_receiver_format(lyap_row_text(row));
    receiver->target = lyap_row_text(row);
    receiver->secret = lyap_row_text(row);
    receiver->min_severity = lyap_word_severity(lyap_row_text(row));
    receiver->labels_json = lyap_row_text(row);
    receiver->is_from_file = lyap_row_int(row) != 0;
}

static void decode_delivery(struct lyap_row *row, struct lyap_record *ret_record)
{
    struct lyap_delivery *delivery = &ret_record->u.delivery;
    ret_record->key = delivery->id = lyap_row_int(row);
    delivery->alert_id = lyap_row_int(row);
    lyap_row_copy(row, delivery->receiver, sizeof delivery->receiver);
    delivery->kind = lyap_word_alert_state(lyap_row_text(row));
    delivery->state = lyap_word_delivery_state(lyap_row_text(row));
    delivery->attempts = (uint32_t)lyap_row_int(row);
    delivery->created_ns = lyap_row_int(row);
    delivery->next_ns = lyap_row_int(row); /* NULL reads as 0 */
    delivery->delivered_ns = lyap_row_int(row);
    lyap_row_copy(row, delivery->error, sizeof delivery->error);
    delivery->payload_json = lyap_row_text(row);
}

static void decode_tensor_point(struct lyap_rows *rows, struct lyap_row *row,
                                struct lyap_record *ret_record)
{
    decode_tensor(rows, row, ret_record);
    ret_record->key = ret_record->u.tensor.step;
}

void lyap_decode(struct lyap_rows *rows, struct lyap_record *ret_record)
{
    struct lyap_row row = { .stmt = rows->bind.stmt };
    ret_record->table = rows->table;
    switch (rows->table) {
    case LYAP_TABLE_RUNS:
        decode_run(&row, ret_record);
        break;
    case LYAP_TABLE_POINTS:
        decode_point(rows, &row, ret_record);
        break;
    case LYAP_TABLE_TENSORS:
        decode_tensor(rows, &row, ret_record);
        break;
    case LYAP_TABLE_LAYERS:
        lyap_decode_layer(&row, ret_record);
        break;
    case LYAP_TABLE_ATTEMPTS:
        decode_attempt(&row, ret_record);
        break;
    case LYAP_TABLE_EVENTS:
        decode_event(&row, ret_record);
        break;
    case LYAP_TABLE_TENSOR_POINTS:
        decode_tensor_point(rows, &row, ret_record);
        break;
    case LYAP_TABLE_SILENCES:
        decode_silence(&row, ret_record);
        break;
    case LYAP_TABLE_ALERT_GROUPS:
        decode_group(&row, ret_record);
        break;
    case LYAP_TABLE_RULES:
    case LYAP_TABLE_RULE_VERSIONS:
        decode_rule(&row, ret_record);
        break;
    case LYAP_TABLE_ALERTS:
        decode_alert(&row, ret_record);
        break;
    case LYAP_TABLE_RECEIVERS:
        decode_receiver(&row, ret_record);
        break;
    case LYAP_TABLE_DELIVERIES:
        decode_delivery(&row, ret_record);
        break;
    case LYAP_TABLE_SERIES: /* series.c makes its own rows */
        assert(0);
    }
}
