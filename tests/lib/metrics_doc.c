/* Writes docs/metrics.md from the tables of metric.h to standard output; with a path as argument
 * checks that the file there is what it would write. */
#include <stdio.h>
#include <stdlib.h>

#include "lyap/metric_note.h"
#include "lyap/observe.h"

static const char head[] =
    "# Metrics\n\n"
    "Made by `metrics_doc` from the tables of `lib/include/lyap/`: `metric.h`, `metric_note.h`, "
    "`layer_row.h`, `observe.h`; do not edit. SPEC is [spec.md](spec.md), E1 to E13 are the tables "
    "of "
    "[evidence.md](evidence.md).\n\n"
    "Trust: **I** identity or certified inequality, true up to rounding; **E** estimator with a "
    "stated error; **C** indicative only. The class is the best one: a value made from sketches is "
    "E at best, and one of two different batches C. The error is the answer's field `error` where "
    "it is "
    "a number; `rounding`: the value is exact but for that; \"none stated\": an estimate whose "
    "error "
    "nobody knows. A metric that is absent says why (the last table). D = D_{t-1} = theta_t - "
    "theta_{t-1}, the update that led here; p = p_t, the coming one; P the preconditioner (1 for "
    "SGD); "
    "r a Ritz residual; k the size of a sketch.\n\n"
    "## Of a point\n\n| metric | trust | unit | formula | error | needs | hypotheses | source "
    "|\n|---|---|---|---|---|---|---|---|\n";

static const char layers_head[] = "\n## Of a layer\n\nOf declared layers: `GET "
                                  "/v1/runs/{run}/layers`, with how the gain was bounded and "
                                  "of which step (docs/api.md).\n\n| value | trust | formula | "
                                  "error | needs | hypotheses | source "
                                  "|\n|---|---|---|---|---|---|---|\n";

static const char score_head[] =
    "\n## Parts of the score\n\nWhat `instability_score` and `instability_score_next` look at, all "
    "of them "
    "functions of stored columns (source: docs/detection.md); an alert and a point name the "
    "largest parts. "
    "A part has the trust of the metrics it is of, and no error of its own: that of the score is "
    "its "
    "calibration. Where its metric is absent, the trees have a way of their own for that: this "
    "changes "
    "the score, too, but is not named.\n\n| part | trust | formula "
    "|\n|---|---|---|\n";

/* As code: < and _ are not markup there; a bar still ends the cell unless escaped. */
static void put_cell(FILE *out, const char *text)
{
    fputc('`', out);
    for (; *text; text++) {
        if (*text == '|')
            fputc('\\', out);
        fputc(*text, out);
    }
    fputc('`', out);
}

/* Free text: only a bar would be markup. */
static void put_text(FILE *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '|')
            fputc('\\', out);
        fputc(*text, out);
    }
    fputs(" | ", out);
}

static void put_points(FILE *out)
{
    for (unsigned i = 0; i < LYAP_METRIC_COUNT; i++) {
        const struct lyap_metric_info *m = lyap_metric_info((enum lyap_metric)i);
        const struct lyap_metric_note note = lyap_metric_note((enum lyap_metric)i);
        fprintf(out, "| `%s` | %s | %s | ", m->name, lyap_trust_name(m->trust), m->unit);
        put_cell(out, m->formula);
        fputs(" | ", out);
        put_text(out, note.error);
        put_text(out, m->needs);
        put_text(out, note.hypotheses);
        fprintf(out, "%s |\n", m->source);
    }
}

static void put_tensors(FILE *out)
{
    fputs("\n## Of a tensor\n\n| metric | trust | formula | error | needs | source "
          "|\n|---|---|---|---|---|---|\n",
          out);
    for (unsigned i = 0; i < LYAP_TENSOR_METRIC_COUNT; i++) {
        const enum lyap_tensor_metric metric = (enum lyap_tensor_metric)i;
        const struct lyap_metric_note note = lyap_tensor_metric_note(metric);
        fprintf(out, "| `%s` | %s | ", lyap_tensor_metric_name(metric),
                lyap_trust_name(note.trust));
        put_cell(out, lyap_tensor_metric_formula(metric));
        fputs(" | ", out);
        put_text(out, note.error);
        put_text(out, note.needs);
        fprintf(out, "%s |\n", note.source);
    }
}

static void put_layers(FILE *out)
{
    fputs(layers_head, out);
    for (unsigned i = 0; i < LYAP_LAYER_METRIC_COUNT; i++) {
        const enum lyap_layer_metric metric = (enum lyap_layer_metric)i;
        const struct lyap_metric_note note = lyap_layer_metric_note(metric);
        fprintf(out, "| `%s` | %s | ", lyap_layer_metric_name(metric), lyap_trust_name(note.trust));
        put_cell(out, lyap_layer_metric_formula(metric));
        fputs(" | ", out);
        put_text(out, note.error);
        put_text(out, note.needs);
        put_text(out, note.hypotheses);
        fprintf(out, "%s |\n", note.source);
    }
}

/* The class of the metric of the same name; of windows and differences of several: an estimate. */
static const char *trust_of(enum lyap_observable observable)
{
    enum lyap_metric metric;
    return lyap_metric_parse(lyap_observable_name(observable), &metric)
               ? lyap_trust_name(lyap_metric_info(metric)->trust)
               : lyap_trust_name(LYAP_TRUST_E);
}

static void put_parts(FILE *out)
{
    fputs(score_head, out);
    for (unsigned i = 0; i < LYAP_OBSERVABLE_COUNT; i++) {
        const enum lyap_observable observable = (enum lyap_observable)i;
        fprintf(out, "| `%s` | %s | ", lyap_observable_name(observable), trust_of(observable));
        put_cell(out, lyap_observable_formula(observable));
        fputs(" |\n", out);
    }
}

static void put_rows(FILE *out)
{
    put_points(out);
    put_tensors(out);
    put_layers(out);
    put_parts(out);
    fputs("\n## Why a metric is absent\n\n| reason | meaning |\n|---|---|\n", out);
    for (unsigned i = 1; i < LYAP_REASON_COUNT; i++)
        fprintf(out, "| `%s` | %s |\n", lyap_reason_name((enum lyap_reason)i),
                lyap_reason_text((enum lyap_reason)i));
}

static int compare(FILE *made, const char *path)
{
    FILE *file = fopen(path, "r");
    if (!file) {
        fprintf(stderr, "%s cannot be read\n", path);
        return EXIT_FAILURE;
    }
    int line = 1, a, b;
    rewind(made);
    do {
        a = fgetc(made);
        b = fgetc(file);
        line += a == '\n';
    } while (a == b && a != EOF);
    fclose(file);
    if (a == b)
        return EXIT_SUCCESS;
    fprintf(stderr, "%s is stale from line %d on: metrics_doc > %s\n", path, line, path);
    return EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    FILE *out = argc > 1 ? tmpfile() : stdout;
    if (!out)
        return EXIT_FAILURE;
    fputs(head, out);
    put_rows(out);
    return argc > 1 ? compare(out, argv[1]) : EXIT_SUCCESS;
}
