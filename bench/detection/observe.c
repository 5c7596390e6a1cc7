/* Computes anew what the score sees of stored points, and the scores: an observable or a table that
 * changes needs no training. bench_observe < FILE > FILE, both as bench_replay writes them without
 * --tensors; metrics that FILE does not have are absent, of its observables only `gap` is read. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lyap/metric.h"
#include "lyap/observe.h"
#include "lyap/score.h"

enum { LOST = 1, COLUMNS_MAX = 512, HEADER_MAX = 1 << 16 };

/* Columns of the input: names, and where what is needed stands; -1: nowhere. */
struct columns {
    unsigned count;
    int metrics[LYAP_METRIC_COUNT], gap, event;
};

static void die(const char *message)
{
    (void)fprintf(stderr, "bench_observe: %s\n", message);
    exit(1);
}

static void place(struct columns *c, const char *name)
{
    const int at = (int)c->count;
    for (unsigned i = 0; i < LYAP_METRIC_COUNT; i++)
        if (strcmp(name, lyap_metric_info((enum lyap_metric)i)->name) == 0)
            c->metrics[i] = at;
    if (strcmp(name, "seen gap") == 0)
        c->gap = at;
    if (strcmp(name, "event") == 0)
        c->event = at;
    if (++c->count > COLUMNS_MAX)
        die("too many columns");
}

/* {"columns":["a","b",...],...: no name has an escape. */
static void read_header(struct columns *c)
{
    static char text[HEADER_MAX];
    unsigned char start[8];
    if (fread(start, 1, sizeof start, stdin) != sizeof start || memcmp(start, "LYP1", 4) != 0)
        die("not an output of bench_replay");
    const uint32_t size =
        start[4] | (uint32_t)start[5] << 8 | (uint32_t)start[6] << 16 | (uint32_t)start[7] << 24;
    if (size >= sizeof text || fread(text, 1, size, stdin) != size)
        die("a header too long");
    text[size] = '\0';
    *c = (struct columns){ .gap = -1, .event = -1 };
    for (unsigned i = 0; i < LYAP_METRIC_COUNT; i++)
        c->metrics[i] = -1;
    char *list = strchr(text, '['), *end = list ? strchr(list, ']') : NULL;
    if (!end)
        die("no columns");
    *end = '\0';
    for (char *save = NULL, *name = strtok_r(list + 1, "\",", &save); name;
         name = strtok_r(NULL, "\",", &save))
        place(c, name);
    if (c->gap < 0 || c->event < 0)
        die("no column of gaps or of events");
}

static void write_header(void)
{
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);
    if (!out)
        die("out of memory");
    (void)fprintf(out, "{\"columns\":[");
    for (unsigned i = 0; i < LYAP_OBSERVABLE_COUNT; i++)
        (void)fprintf(out, "\"seen %s\",", lyap_observable_name((enum lyap_observable)i));
    (void)fprintf(out, "\"instability_score\",\"instability_score_next\"]}");
    (void)fclose(out);
    const uint32_t size = (uint32_t)length;
    (void)fwrite("LYP1", 1, 4, stdout);
    (void)fwrite(&size, sizeof size, 1, stdout);
    (void)fwrite(text, 1, length, stdout);
    free(text);
}

static void observe(struct lyap_observer *observer, const struct columns *c, const double *row)
{
    double out[LYAP_OBSERVABLE_COUNT + 2];
    for (unsigned i = 0; i < LYAP_OBSERVABLE_COUNT + 2; i++)
        out[i] = NAN;
    if (row[c->event] != LOST) {
        struct lyap_point point;
        lyap_point_init(&point);
        point.is_gap = row[c->gap] > 0;
        for (unsigned i = 0; i < LYAP_METRIC_COUNT; i++) {
            const double value = c->metrics[i] < 0 ? (double)NAN : row[c->metrics[i]];
            point.metrics[i].reason = isnan(value) ? LYAP_REASON_WARMING_UP : LYAP_REASON_NONE;
            point.metrics[i].value = value;
        }
        lyap_observer_step(observer, &point);
        lyap_point_release(&point);
        memcpy(out, observer->seen, sizeof observer->seen);
        double shares[LYAP_OBSERVABLE_COUNT];
        out[LYAP_OBSERVABLE_COUNT] = lyap_score(LYAP_SCORE_NOW, observer->seen, shares);
        out[LYAP_OBSERVABLE_COUNT + 1] = lyap_score(LYAP_SCORE_NEXT, observer->seen, shares);
    }
    (void)fwrite(out, sizeof *out, sizeof out / sizeof *out, stdout);
}

int main(void)
{
    static double row[COLUMNS_MAX];
    static struct lyap_observer observer;
    struct columns columns;
    read_header(&columns);
    write_header();
    lyap_observer_init(&observer);
    while (fread(row, sizeof *row, columns.count, stdin) == columns.count)
        observe(&observer, &columns, row);
    return fflush(stdout) == 0 && !ferror(stdout) ? 0 : 1;
}
