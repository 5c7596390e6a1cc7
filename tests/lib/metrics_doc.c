/* Writes docs/metrics.md from the tables of metric.h to standard output; with a path as argument
 * checks that the file there is what it would write. */
#include <stdio.h>
#include <stdlib.h>

#include "lyap/metric.h"

static const char head[] =
    "# Metrics\n\n"
    "Made by `metrics_doc` from the tables of `lib/include/lyap/metric.h`; do not edit. "
    "SPEC is [spec.md](spec.md).\n\n"
    "Trust: **I** identity or certified inequality, true up to rounding; **E** estimator with a "
    "stated error; **C** indicative only. The class is the best one: a value made from sketches is "
    "E at best, and one of two different batches C. A metric that is absent says why (the last "
    "table). D = D_{t-1} = theta_t - theta_{t-1}, the update that led here; p = p_t, the coming "
    "one; P the preconditioner (1 for SGD).\n\n"
    "## Of a point\n\n| metric | trust | unit | formula | needs | source "
    "|\n|---|---|---|---|---|---|\n";

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

static void put_rows(FILE *out)
{
    for (unsigned i = 0; i < LYAP_METRIC_COUNT; i++) {
        const struct lyap_metric_info *m = lyap_metric_info((enum lyap_metric)i);
        fprintf(out, "| `%s` | %s | %s | ", m->name, lyap_trust_name(m->trust), m->unit);
        put_cell(out, m->formula);
        fprintf(out, " | %s | %s |\n", m->needs, m->source);
    }
    fputs("\n## Of a tensor\n\n| metric | formula |\n|---|---|\n", out);
    for (unsigned i = 0; i < LYAP_TENSOR_METRIC_COUNT; i++) {
        fprintf(out, "| `%s` | ", lyap_tensor_metric_name((enum lyap_tensor_metric)i));
        put_cell(out, lyap_tensor_metric_formula((enum lyap_tensor_metric)i));
        fputs(" |\n", out);
    }
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
