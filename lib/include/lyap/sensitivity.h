/* Written by bench/detection/fit.py. Thresholds of instability_score at three
 * sensitivities; their operating points are in docs/detection.md. THREADS: constants. */
#ifndef LYAP_SENSITIVITY_H
#define LYAP_SENSITIVITY_H

#define LYAP_SCORE_EARLY   0.143
#define LYAP_SCORE_DEFAULT 0.500
#define LYAP_SCORE_PAGER   0.789

#endif
