/* annotation.h - what a metric column cannot say: why it is absent, an unusual trust class, NaN,
 * the sign of zero. A point refers to one interned text: {"sharpness": "no-probe", "loss": "-0"}.
 * THREADS: pure functions. */
#ifndef LYAP_STORE_ANNOTATION_H
#define LYAP_STORE_ANNOTATION_H

#include "lyap/point.h"

/* Words of one metric: a reason, a trust class other than the metric's own, and "-0" or "-0-error"
 * where SQLite would drop the sign. NaN stands in the column nan_metrics. */
struct lyap_marks {
    uint8_t reason[LYAP_METRIC_COUNT];
    uint8_t trust[LYAP_METRIC_COUNT];
    uint8_t zero[LYAP_METRIC_COUNT]; /* LYAP_MARK_ZERO_* */
};
enum { LYAP_MARK_ZERO_VALUE = 1, LYAP_MARK_ZERO_ERROR = 2 };

/* Longest text: every metric with its longest words. */
enum { LYAP_ANNOTATION_BYTES = 3 + LYAP_METRIC_COUNT * 128 };

void lyap_marks_of(const struct lyap_point *point, struct lyap_marks *ret_marks);
/* No marks: an empty text. */
void lyap_marks_write(const struct lyap_marks *marks, char ret_text[LYAP_ANNOTATION_BYTES]);
/* NULL: no marks. Unknown metrics and words are skipped. */
void lyap_marks_read(const char *text, struct lyap_marks *ret_marks);

/* Comma list of the metrics that are there and NaN; false when there is none. */
bool lyap_nans_write(const struct lyap_point *point, char ret_text[LYAP_ANNOTATION_BYTES]);
/* Flags by metric; NULL: none. */
void lyap_nans_read(const char *text, bool ret_is_nan[LYAP_METRIC_COUNT]);

#endif
