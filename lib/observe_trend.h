/* observe_trend.h - the part of an observer that looks at trends. THREADS: one owner at a time. */
#ifndef LYAP_OBSERVE_TREND_H
#define LYAP_OBSERVE_TREND_H

#include "lyap/observe.h"

/* How the columns of `point`, which the observer already remembers, moved. */
void lyap_observe_trends(struct lyap_observer *o, const struct lyap_point *point);

#endif
