/* What the trainer prints. */
#include "report.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { INPUTS_A_LINE = 4, TENSORS_SHOWN = 3 };

static long earlier(long a, long b)
{
    return a < b ? a : b;
}

void report_init(struct report *report, const struct options *options, struct lyap_client *client)
{
    *report = (struct report){ .options = options,
                               .client = client,
                               .fault_at = earlier(options->raise_at, earlier(options->poison_at,
                                                                              options->corrupt_at)),
                               .loss_before = NAN,
                               .alerted_at = -1,
                               .tripled_at = -1,
                               .advised_at = -1 };
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Infinite losses sort last; NaN does not occur here. */
static double median_loss(const struct report *report)
{
    double sorted[REPORT_LOSSES];
    const size_t count =
        report->loss_count < REPORT_LOSSES ? (size_t)report->loss_count : REPORT_LOSSES;
    if (count == 0)
        return NAN;
    memcpy(sorted, report->losses, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, compare);
    return sorted[count / 2];
}

static bool is_due(const struct report *report, long step)
{
    const long since_fault = step - report->fault_at;
    return step % report->options->report_every == 0 || (since_fault >= 0 && since_fault < 6);
}

static void print_value(const char *name, const struct lyap_value *value)
{
    if (value->reason == LYAP_REASON_NONE)
        printf("  %s %-6.3g", name, value->value);
    else
        printf("  %s %-6s", name, "-");
}

static void print_progress(long step, double loss, double lr, const struct lyap_client_reply *reply)
{
    printf("  step %4ld  loss %-8.4g lr %-7.3g", step, loss, lr);
    if (reply) {
        print_value("sharpness/limit", &reply->point.metrics[LYAP_METRIC_STABILITY_RATIO]);
        printf("  %s, %s", lyap_run_state_name(reply->point.state),
               lyap_verdict_name(reply->point.verdict));
    }
    printf("\n");
}

static void print_text(const json_t *evidence, const char *key)
{
    const char *text = json_string_value(json_object_get(evidence, key));
    if (text)
        printf("        %s: %s\n", key, text);
}

/* The numbers behind the alert, so many a line. */
static void print_inputs(json_t *inputs)
{
    const char *key;
    json_t *value;
    int count = 0;
    json_object_foreach(inputs, key, value)
    {
        if (!json_is_number(value))
            continue;
        printf("%s%s %.4g",
               count % INPUTS_A_LINE ? ", "
               : count               ? "\n                "
                                     : "        inputs: ",
               key, json_number_value(value));
        count++;
    }
    printf("%s", count ? "\n" : "");
}

/* The sub-rules that fire: every observable of theirs is beyond its threshold. */
static void print_part(json_t *part)
{
    json_t *observables = json_object_get(part, "observables"), *observable;
    size_t index;
    json_array_foreach(observables, index, observable)
    {
        const double threshold = json_number_value(json_object_get(observable, "threshold"));
        const double value = json_number_value(json_object_get(observable, "value"));
        if (threshold < 0 ? value >= threshold : value <= threshold)
            return;
    }
    printf("        %s:", json_string_value(json_object_get(part, "rule")));
    json_array_foreach(observables, index, observable)
    {
        printf("%s %s %.3g (threshold %.3g)", index ? "," : "",
               json_string_value(json_object_get(observable, "name")),
               json_number_value(json_object_get(observable, "value")),
               json_number_value(json_object_get(observable, "threshold")));
    }
    printf("\n");
}

static void print_tensors(json_t *tensors)
{
    json_t *tensor;
    size_t index;
    json_array_foreach(tensors, index, tensor)
    {
        const char *name = json_string_value(json_object_get(tensor, "name"));
        if (name && index < TENSORS_SHOWN)
            printf("%s%s %.0f %%", index ? ", " : "        tensors: ", name,
                   100 * json_number_value(json_object_get(tensor, "share")));
    }
    printf("%s", json_array_size(tensors) > 0 ? "\n" : "");
}

static void print_alert_record(json_t *alert)
{
    json_t *evidence = json_object_get(alert, "evidence"), *part;
    size_t index;
    const char *summary = json_string_value(json_object_get(alert, "summary"));
    if (summary)
        printf("        %s\n", summary);
    print_text(evidence, "formula");
    json_array_foreach(json_object_get(evidence, "parts"), index, part)
    {
        print_part(part);
    }
    print_tensors(json_object_get(evidence, "tensors"));
    print_inputs(json_object_get(evidence, "inputs"));
}

/* Asks for the alert's record: the push reply has only its name. */
static void print_alert(struct report *report, const struct lyap_client_alert *alert, long step)
{
    char path[256], *text = NULL;
    struct lyap_error err = LYAP_ERROR_NULL;
    json_error_t json_error;
    printf("  >>>   alert at step %ld: %s (%s)\n", step, alert->rule,
           lyap_severity_name(alert->severity));
    snprintf(path, sizeof path, "/v1/alerts?run=%s&limit=1000", report->options->run);
    if (lyap_client_get(report->client, path, &text, &err) != LYAP_OK)
        return;
    json_t *root = json_loads(text, 0, &json_error), *record;
    size_t index;
    json_array_foreach(json_object_get(root, "alerts"), index, record)
    {
        if (json_integer_value(json_object_get(record, "id")) == alert->id)
            print_alert_record(record);
    }
    json_decref(root);
    lyap_client_free(text);
}

static bool is_new(struct report *report, int64_t id)
{
    for (uint32_t i = 0; i < report->seen_count; i++)
        if (report->seen[i] == id)
            return false;
    if (report->seen_count == REPORT_ALERTS_MAX)
        return false;
    report->seen[report->seen_count++] = id;
    return true;
}

static void note_alerts(struct report *report, long step, const struct lyap_client_reply *reply)
{
    for (uint32_t i = 0; i < reply->alert_count; i++) {
        const struct lyap_client_alert *alert = &reply->alerts[i];
        if (alert->state != LYAP_ALERT_FIRING || alert->severity == LYAP_SEVERITY_INFO ||
            !is_new(report, alert->id))
            continue;
        if (report->alerted_at < 0) {
            report->alerted_at = step;
            snprintf(report->rule, sizeof report->rule, "%s", alert->rule);
        }
        print_alert(report, alert, step);
    }
}

static void note_loss(struct report *report, long step, double loss)
{
    const bool is_after = step >= report->fault_at;
    if (is_after && isnan(report->loss_before))
        report->loss_before = median_loss(report);
    if (is_after && report->tripled_at < 0 && !(loss <= 3 * report->loss_before)) {
        report->tripled_at = step;
        printf("        the loss has tripled at step %ld: %.3g, it was %.3g\n", step, loss,
               report->loss_before);
    }
    report->losses[report->loss_count++ % REPORT_LOSSES] = isnan(loss) ? INFINITY : loss;
}

void report_step(struct report *report, long step, double loss, double lr,
                 const struct lyap_client_reply *reply)
{
    if (is_due(report, step))
        print_progress(step, loss, lr, reply);
    if (step == report->options->raise_at)
        printf("        from here on the learning rate is %g\n", report->options->raise_lr);
    if (reply)
        note_alerts(report, step, reply);
    note_loss(report, step, loss);
}

void report_advice(struct report *report, long step, const struct lyap_action *action, double lr,
                   long to)
{
    report->advised_at = step;
    printf("  <<<   lyapd advises %s", lyap_action_name(action->kind));
    if (action->kind == LYAP_ACTION_REDUCE_LR)
        printf(" to at most %.4g; the trainer follows, with %.4g\n", action->lr, lr);
    else if (action->kind == LYAP_ACTION_SKIP)
        printf("; the trainer leaves out the update of step %ld\n", step);
    else if (action->kind == LYAP_ACTION_ROLLBACK && to >= 0)
        printf(" to step %" PRId64 "; the trainer goes on from step %ld, with %.4g\n", action->step,
               to, lr);
    else if (action->kind == LYAP_ACTION_ROLLBACK)
        printf(" to step %" PRId64 "; the trainer has no checkpoint that old\n", action->step);
    else
        printf("; the trainer follows\n");
    if (action->reason[0])
        printf("        %s\n", action->reason);
}

static void print_lead(const struct report *report)
{
    if (report->alerted_at < 0)
        printf("  no alert\n");
    else if (report->tripled_at < 0)
        printf("  alert %s at step %ld; the loss never tripled\n", report->rule,
               report->alerted_at);
    else
        printf("  alert %s at step %ld, the loss had tripled at step %ld: %ld steps of lead\n",
               report->rule, report->alerted_at, report->tripled_at,
               report->tripled_at - report->alerted_at);
}

bool report_end(struct report *report, double accuracy)
{
    const double loss = median_loss(report);
    const bool is_alerted = report->alerted_at >= 0;
    /* A value that is not finite gives no sign before it is there. */
    const bool is_sudden = report->fault_at != report->options->raise_at;
    const bool is_in_time =
        is_alerted && report->alerted_at >= report->fault_at &&
        (report->tripled_at < 0 || report->alerted_at - (is_sudden ? 1 : 0) < report->tripled_at);
    printf("  end: loss %.3g, accuracy %.1f %%\n", loss, 100 * accuracy);
    print_lead(report);
    switch (report->options->expectation) {
    case EXPECT_CALM:
        return !is_alerted;
    case EXPECT_ALERT:
        return is_in_time && report->tripled_at >= 0;
    case EXPECT_RESCUE:
        return is_in_time && report->advised_at >= 0 && loss <= report->loss_before;
    case EXPECT_NOTHING:
        break;
    }
    return true;
}
