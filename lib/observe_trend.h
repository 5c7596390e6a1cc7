/* observe_trend.h - the part of an observer that looks at trends. THREADS: one owner at a time. */
#ifndef LYAP_OBSERVE_TREND_H
#define LYAP_OBSERVE_TREND_H

#include "lyap/observe.h"

/* Pushes the columns of `point` to the observer's series and sees how they moved. */
void lyap_observe_trends(struct lyap_observer *observer, const struct lyap_point *point);

#endif
