/* Answers of the daemon. */
#include "reply.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lyap/metric.h"

/* -1 when the text is not there or not of the table. */
static int word_index(const json_t *value, const char *(*name_of)(int), int count)
{
    const char *text = json_string_value(value);
    for (int i = 0; text && i < count; i++)
        if (strcmp(text, name_of(i)) == 0)
            return i;
    return -1;
}

static const char *answer_name(int index)
{
    static const char *const names[] = { "accepted", "duplicate", "waiting" };
    return names[index];
}

static const char *state_name(int index)
{
    return lyap_run_state_name((enum lyap_run_state)index);
}

static const char *verdict_name(int index)
{
    return lyap_verdict_name((enum lyap_verdict)index);
}

static double number_of(const json_t *value)
{
    const char *word = json_string_value(value);
    if (json_is_number(value))
        return json_number_value(value);
    if (word && strcmp(word, "Infinity") == 0)
        return INFINITY;
    if (word && strcmp(word, "-Infinity") == 0)
        return -INFINITY;
    return NAN;
}

static struct lyap_value value_of(const json_t *object, uint8_t trust)
{
    const json_t *value = json_object_get(object, "value");
    const char *trust_text = json_string_value(json_object_get(object, "trust"));
    const char *reason_text = json_string_value(json_object_get(object, "reason"));
    struct lyap_value ret = { .value = number_of(value),
                              .error = number_of(json_object_get(object, "error")),
                              .trust = trust,
                              .reason = LYAP_REASON_NONE };
    for (int i = 0; trust_text && i <= LYAP_TRUST_C; i++)
        if (strcmp(trust_text, lyap_trust_name((enum lyap_trust)i)) == 0)
            ret.trust = (uint8_t)i;
    if (!value || json_is_null(value)) {
        enum lyap_reason reason;
        ret.reason = LYAP_REASON_NOT_PUSHED;
        if (reason_text && lyap_reason_parse(reason_text, &reason))
            ret.reason = (uint8_t)reason;
    }
    return ret;
}

static void parse_metrics(json_t *metrics, struct lyap_point *point)
{
    const char *name;
    json_t *object;
    json_object_foreach(metrics, name, object)
    {
        enum lyap_metric metric;
        if (lyap_metric_parse(name, &metric))
            point->metrics[metric] = value_of(object, (uint8_t)lyap_metric_info(metric)->trust);
    }
}

/* Whose distances twin_log ... twin_log_4 are. */
static void parse_twins(const json_t *twins, struct lyap_point *point)
{
    for (size_t i = 0; i < LYAP_TWIN_COUNT_MAX; i++) {
        const char *name = json_string_value(json_array_get(twins, i));
        if (name)
            strncat(point->twin_names[i], name, LYAP_TWIN_NAME_BYTES_MAX);
    }
}

static void parse_action(const json_t *object, struct lyap_action *action)
{
    const char *kind = json_string_value(json_object_get(object, "kind"));
    const char *reason = json_string_value(json_object_get(object, "reason"));
    const json_t *step = json_object_get(object, "step");
    *action = (struct lyap_action){ .kind = LYAP_ACTION_CONTINUE, .lr = NAN };
    if (kind && lyap_action_parse(kind, &action->kind))
        action->lr = number_of(json_object_get(object, "lr"));
    action->step = json_is_integer(step) ? json_integer_value(step) : -1; /* 0 is a step */
    if (reason)
        strncat(action->reason, reason, sizeof action->reason - 1);
}

static bool parse_alert(const json_t *object, struct lyap_client_alert *ret)
{
    const char *rule = json_string_value(json_object_get(object, "rule"));
    const char *state = json_string_value(json_object_get(object, "state"));
    const char *severity = json_string_value(json_object_get(object, "severity"));
    *ret = (struct lyap_client_alert){ .since_step = -1 };
    if (!rule || !state || !severity || !lyap_alert_state_parse(state, &ret->state) ||
        !lyap_severity_parse(severity, &ret->severity))
        return false;
    strncat(ret->rule, rule, sizeof ret->rule - 1);
    ret->id = json_integer_value(json_object_get(object, "id"));
    const json_t *since = json_object_get(object, "since_step");
    if (json_is_integer(since))
        ret->since_step = json_integer_value(since);
    return true;
}

static bool wants(const json_t *want, const char *what)
{
    size_t index;
    json_t *item;
    json_array_foreach(want, index, item)
    {
        const char *text = json_string_value(item);
        if (text && strcmp(text, what) == 0)
            return true;
    }
    return false;
}

static json_t *load(const char *text, size_t length, struct lyap_error *reterr)
{
    json_error_t error;
    json_t *root = json_loadb(text, length, JSON_REJECT_DUPLICATES, &error);
    if (json_is_object(root))
        return root;
    lyap_error_set(reterr, LYAP_E_FORMAT, "the daemon's answer is no JSON object: %s",
                   root ? "another type" : error.text);
    json_decref(root);
    return NULL;
}

enum lyap_status reply_parse_push(const char *text, size_t length,
                                  struct lyap_client_reply *ret_reply, struct lyap_error *reterr)
{
    struct lyap_client_reply reply = { .alert_count = 0 };
    json_t *root = load(text, length, reterr), *alert;
    if (!root)
        return LYAP_E_FORMAT;
    lyap_point_init(&reply.point);
    const int answer = word_index(json_object_get(root, "status"), answer_name, 3);
    const json_t *step = json_object_get(root, "step");
    const int state = word_index(json_object_get(root, "state"), state_name, LYAP_STATE_COUNT);
    const int verdict =
        word_index(json_object_get(root, "verdict"), verdict_name, LYAP_VERDICT_COUNT);
    if (answer >= 0)
        reply.answer = (enum lyap_client_answer)answer;
    if (json_is_integer(step))
        reply.point.step = json_integer_value(step);
    if (state >= 0)
        reply.point.state = (enum lyap_run_state)state;
    if (verdict >= 0)
        reply.point.verdict = (enum lyap_verdict)verdict;
    reply.point.attempt = (uint32_t)json_integer_value(json_object_get(root, "attempt"));
    parse_action(json_object_get(root, "action"), &reply.point.action);
    parse_metrics(json_object_get(root, "metrics"), &reply.point);
    parse_twins(json_object_get(root, "twins"), &reply.point);
    reply.wants_state = wants(json_object_get(root, "want"), "exp_avg");
    size_t index;
    json_array_foreach(json_object_get(root, "alerts"), index, alert)
    {
        if (reply.alert_count < LYAP_CLIENT_ALERTS_MAX &&
            parse_alert(alert, &reply.alerts[reply.alert_count]))
            reply.alert_count++;
    }
    json_decref(root);
    if (answer < 0)
        return lyap_error_set(reterr, LYAP_E_FORMAT,
                              "the daemon's answer has no status accepted, duplicate or waiting");
    *ret_reply = reply;
    return LYAP_OK;
}

enum lyap_status reply_parse_run(const char *text, size_t length, struct reply_run *ret_run,
                                 struct lyap_error *reterr)
{
    struct reply_run run = { 0 };
    json_t *root = load(text, length, reterr);
    if (!root)
        return LYAP_E_FORMAT;
    const json_t *attempt = json_object_get(root, "attempt");
    const char *seed = json_string_value(json_object_get(root, "sketch_seed"));
    const json_int_t number = json_integer_value(attempt);
    run.attempt = (uint32_t)number;
    run.has_seed = seed && *seed >= '0' && *seed <= '9';
    if (run.has_seed)
        run.sketch_seed = strtoull(seed, NULL, 10);
    json_decref(root);
    if (number < 1 || number > UINT32_MAX)
        return lyap_error_set(reterr, LYAP_E_FORMAT, "the daemon's answer has no attempt number");
    *ret_run = run;
    return LYAP_OK;
}

enum lyap_status reply_problem(long http_status, const char *text, size_t length,
                               struct lyap_error *reterr)
{
    json_error_t error;
    json_t *root = json_loadb(text, length, 0, &error);
    const char *type = json_string_value(json_object_get(root, "type"));
    const char *title = json_string_value(json_object_get(root, "title"));
    const char *detail = json_string_value(json_object_get(root, "detail"));
    const char *slug = type;
    for (const char *at = type; at && *at; at++) /* the last part of a URL or URN */
        if (*at == '/' || *at == ':')
            slug = at + 1;
    enum lyap_status status = http_status >= 500 ? LYAP_E_INTERNAL : LYAP_E_INVALID;
    for (int i = 1; slug && i < LYAP_STATUS_COUNT; i++)
        if (strcmp(slug, lyap_status_slug((enum lyap_status)i)) == 0)
            status = (enum lyap_status)i;
    lyap_error_set(reterr, status, "the daemon answers %ld: %s", http_status,
                   detail  ? detail
                   : title ? title
                           : "no explanation");
    json_decref(root);
    return status;
}
