/* JSON -> rule. */
#include "codec.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "codec_json.h"
#include "lyap/expr.h"

/* Conditions of the engine that are no expression (record.h). */
static const char *const conditions[] = { "silent_seconds", "nonfinite" };

static enum lyap_status copy_string(const char *key, const json_t *value, char *ret, size_t bytes,
                                    struct lyap_error *reterr)
{
    const char *text;
    const enum lyap_status status = api_json_get_string(key, value, bytes - 1, &text, reterr);
    if (status == LYAP_OK)
        memcpy(ret, text, strlen(text) + 1);
    return status;
}

static enum lyap_status set_metric(void *target, const char *key, const json_t *value,
                                   struct lyap_error *reterr)
{
    struct lyap_rule *rule = target;
    return copy_string(key, value, rule->metric, sizeof rule->metric, reterr);
}

static enum lyap_status set_tensor(void *target, const char *key, const json_t *value,
                                   struct lyap_error *reterr)
{
    struct lyap_rule *rule = target;
    if (json_is_null(value))
        return LYAP_OK;
    return copy_string(key, value, rule->tensor_pattern, sizeof rule->tensor_pattern, reterr);
}

static enum lyap_status set_comparison(void *target, const char *key, const json_t *value,
                                       struct lyap_error *reterr)
{
    struct lyap_rule *rule = target;
    const char *text = json_string_value(value);
    if (!text || !lyap_comparison_parse(text, &rule->comparison))
        return lyap_error_set(reterr, LYAP_E_INVALID, "field '%s' must be one of > >= < <=", key);
    return LYAP_OK;
}

static enum lyap_status set_severity(void *target, const char *key, const json_t *value,
                                     struct lyap_error *reterr)
{
    struct lyap_rule *rule = target;
    const char *text = json_string_value(value);
    if (!text || !lyap_severity_parse(text, &rule->severity))
        return lyap_error_set(reterr, LYAP_E_INVALID,
                              "field '%s' must be one of info, warning, critical", key);
    return LYAP_OK;
}

static enum lyap_status set_action(void *target, const char *key, const json_t *value,
                                   struct lyap_error *reterr)
{
    struct lyap_rule *rule = target;
    const char *text = json_string_value(value);
    if (json_is_null(value))
        return LYAP_OK;
    if (!text || !lyap_action_parse(text, &rule->action))
        return lyap_error_set(reterr, LYAP_E_INVALID,
                              "field '%s' must be one of continue, reduce_lr, skip, rollback, stop",
                              key);
    return LYAP_OK;
}

static enum lyap_status set_threshold(void *target, const char *key, const json_t *value,
                                      struct lyap_error *reterr)
{
    struct lyap_rule *rule = target;
    const enum lyap_status status = api_json_get_number(key, value, &rule->threshold, reterr);
    if (status == LYAP_OK && isnan(rule->threshold))
        return lyap_error_set(reterr, LYAP_E_INVALID,
                              "field '%s' is NaN, which compares false with everything", key);
    return status;
}

static enum lyap_status set_clear(void *target, const char *key, const json_t *value,
                                  struct lyap_error *reterr)
{
    struct lyap_rule *rule = target;
    return json_is_null(value) ? LYAP_OK : api_json_get_number(key, value, &rule->clear, reterr);
}

static enum lyap_status set_steps(const char *key, const json_t *value, int64_t min,
                                  uint32_t *ret_steps, struct lyap_error *reterr)
{
    int64_t steps = 0;
    const struct api_json_range range = { min, LYAP_WINDOW_MAX };
    const enum lyap_status status = api_json_get_int(key, value, range, &steps, reterr);
    if (status == LYAP_OK)
        *ret_steps = (uint32_t)steps;
    return status;
}

static enum lyap_status set_for(void *target, const char *key, const json_t *value,
                                struct lyap_error *reterr)
{
    return set_steps(key, value, 1, &((struct lyap_rule *)target)->for_steps, reterr);
}

static enum lyap_status set_clear_for(void *target, const char *key, const json_t *value,
                                      struct lyap_error *reterr)
{
    return set_steps(key, value, 1, &((struct lyap_rule *)target)->clear_steps, reterr);
}

static enum lyap_status set_min_points(void *target, const char *key, const json_t *value,
                                       struct lyap_error *reterr)
{
    return set_steps(key, value, 0, &((struct lyap_rule *)target)->min_points, reterr);
}

static enum lyap_status set_count(const char *key, const json_t *value, int64_t max,
                                  uint32_t *ret_count, struct lyap_error *reterr)
{
    int64_t count = 0;
    const struct api_json_range range = { 0, max };
    const enum lyap_status status = api_json_get_int(key, value, range, &count, reterr);
    if (status == LYAP_OK)
        *ret_count = (uint32_t)count;
    return status;
}

static enum lyap_status set_cooldown(void *target, const char *key, const json_t *value,
                                     struct lyap_error *reterr)
{
    return set_count(key, value, LYAP_WINDOW_MAX, &((struct lyap_rule *)target)->cooldown_steps,
                     reterr);
}

static enum lyap_status set_cooldown_s(void *target, const char *key, const json_t *value,
                                       struct lyap_error *reterr)
{
    return set_count(key, value, LYAP_RULE_SECONDS_MAX, &((struct lyap_rule *)target)->cooldown_s,
                     reterr);
}

static enum lyap_status set_notify_per_hour(void *target, const char *key, const json_t *value,
                                            struct lyap_error *reterr)
{
    return set_count(key, value, LYAP_RULE_RATE_MAX, &((struct lyap_rule *)target)->notify_per_hour,
                     reterr);
}

/* The rule's name is what is meant without one, and is what GET answers then. */
static enum lyap_status set_cause(void *target, const char *key, const json_t *value,
                                  struct lyap_error *reterr)
{
    struct lyap_rule *rule = target;
    if (json_is_null(value))
        return LYAP_OK;
    const enum lyap_status status =
        copy_string(key, value, rule->cause, sizeof rule->cause, reterr);
    if (status == LYAP_OK && strcmp(rule->cause, rule->name) == 0)
        rule->cause[0] = '\0';
    return status;
}

static enum lyap_status set_run(void *target, const char *key, const json_t *value,
                                struct lyap_error *reterr)
{
    struct lyap_rule *rule = target;
    if (json_is_null(value))
        return LYAP_OK;
    return copy_string(key, value, rule->run_pattern, sizeof rule->run_pattern, reterr);
}

static enum lyap_status set_once(void *target, const char *key, const json_t *value,
                                 struct lyap_error *reterr)
{
    return api_json_get_bool(key, value, &((struct lyap_rule *)target)->is_once, reterr);
}

static enum lyap_status set_enabled(void *target, const char *key, const json_t *value,
                                    struct lyap_error *reterr)
{
    return api_json_get_bool(key, value, &((struct lyap_rule *)target)->is_enabled, reterr);
}

static enum lyap_status set_runs(void *target, const char *key, const json_t *value,
                                 struct lyap_error *reterr)
{
    struct lyap_rule *rule = target;
    char *json = NULL;
    if (json_is_null(value))
        return LYAP_OK;
    const enum lyap_status status = api_json_get_labels(key, value, &json, reterr);
    if (status == LYAP_OK)
        rule->runs_json = json;
    return status;
}

/* Whether the receivers exist the engine says, which has them. */
static enum lyap_status set_notify(void *target, const char *key, const json_t *value,
                                   struct lyap_error *reterr)
{
    struct lyap_rule *rule = target;
    size_t i;
    const json_t *item;
    if (json_is_null(value))
        return LYAP_OK;
    if (!json_is_array(value) || json_array_size(value) > LYAP_NOTIFY_COUNT_MAX)
        return lyap_error_set(reterr, LYAP_E_INVALID,
                              "field '%s' must be null or at most %d names of receivers", key,
                              LYAP_NOTIFY_COUNT_MAX);
    json_array_foreach(value, i, item) if (
        !json_is_string(item) ||
        !lyap_rule_name_is_valid(json_string_value(
            item))) return lyap_error_set(reterr, LYAP_E_INVALID,
                                          "field '%s': entry %zu is not the name of a receiver",
                                          key, i);
    rule->notify_json = json_dumps(value, JSON_COMPACT);
    return rule->notify_json ? LYAP_OK : LYAP_E_NOMEM;
}

static enum lyap_status ignore(void *target, const char *key, const json_t *value,
                               struct lyap_error *reterr)
{
    (void)target, (void)key, (void)value, (void)reterr;
    return LYAP_OK; /* what GET answers may be sent back as it is */
}

static const struct api_json_field fields[] = {
    { "metric", set_metric },
    { "tensor", set_tensor },
    { "comparison", set_comparison },
    { "threshold", set_threshold },
    { "for", set_for },
    { "clear", set_clear },
    { "clear_for", set_clear_for },
    { "once", set_once },
    { "min_points", set_min_points },
    { "severity", set_severity },
    { "action", set_action },
    { "runs", set_runs },
    { "enabled", set_enabled },
    { "notify", set_notify },
    { "rule", ignore },
    { "version", ignore },
    { "builtin", ignore },
    { "source", ignore },
    { "updated", ignore },
    { "cooldown", set_cooldown },
    { "cooldown_s", set_cooldown_s },
    { "notify_per_hour", set_notify_per_hour },
    { "cause", set_cause },
    { "run", set_run },
};

static enum lyap_status check_metric(const struct lyap_rule *rule, struct lyap_error *reterr)
{
    struct lyap_expr expr;
    enum lyap_condition condition;
    if (lyap_condition_parse(rule->metric, &condition))
        return LYAP_OK;
    for (size_t i = 0; i < sizeof conditions / sizeof *conditions; i++)
        if (strcmp(rule->metric, conditions[i]) == 0)
            return LYAP_OK;
    return lyap_expr_parse(rule->metric, rule->tensor_pattern[0] != '\0', &expr, reterr);
}

static enum lyap_status check_rule(const struct lyap_rule *rule, bool has_threshold,
                                   struct lyap_error *reterr)
{
    if (!rule->metric[0])
        return lyap_error_set(reterr, LYAP_E_MISSING_FIELD, "field 'metric' is missing");
    if (!has_threshold)
        return lyap_error_set(reterr, LYAP_E_MISSING_FIELD, "field 'threshold' is missing");
    const bool is_upper = rule->comparison == LYAP_CMP_GT || rule->comparison == LYAP_CMP_GE;
    if (is_upper ? rule->clear > rule->threshold : rule->clear < rule->threshold)
        return lyap_error_set(reterr, LYAP_E_INVALID,
                              "field 'clear' is %g, on the firing side of threshold %g",
                              rule->clear, rule->threshold);
    return check_metric(rule, reterr);
}

enum lyap_status api_decode_rule(const char *name, const char *json, size_t length,
                                 struct lyap_rule *ret_rule, struct lyap_error *reterr)
{
    struct lyap_rule rule = { .is_enabled = true,
                              .comparison = LYAP_CMP_GT,
                              .clear = NAN,
                              .for_steps = 1,
                              .clear_steps = 1,
                              .severity = LYAP_SEVERITY_WARNING,
                              .action = LYAP_ACTION_CONTINUE };
    json_t *object = NULL;
    if (!lyap_rule_name_is_valid(name))
        return lyap_error_set(reterr, LYAP_E_INVALID,
                              "rule name '%.80s' is not of 1 to %d characters A-Z a-z 0-9 . _ -",
                              name, LYAP_RULE_NAME_BYTES_MAX);
    memcpy(rule.name, name, strlen(name) + 1);
    enum lyap_status status = api_json_object(json, length, &object, reterr);
    if (status == LYAP_OK)
        status = api_json_fields(object, fields, sizeof fields / sizeof *fields, &rule, reterr);
    if (status == LYAP_OK)
        status = check_rule(&rule, json_object_get(object, "threshold") != NULL, reterr);
    json_decref(object);
    if (status == LYAP_OK)
        *ret_rule = rule;
    else
        api_rule_release(&rule);
    return status;
}

void api_rule_release(struct lyap_rule *rule)
{
    free((void *)(uintptr_t)rule->runs_json);
    free((void *)(uintptr_t)rule->notify_json);
    rule->runs_json = rule->notify_json = NULL;
}
