/* forward_fixture.h - a profile of declared layers, fed with exact sums of small weights, for the
 * tests of the representation family. THREADS: one test at a time. */
#ifndef FORWARD_FIXTURE_H
#define FORWARD_FIXTURE_H

#include "lyap/profile.h"
#include "network_support.h"
#include "support.h"

enum { FORWARD_WIDTH_MAX = 5, FORWARD_LAYERS_MAX = 4 };

extern struct test_network net; /* described by the test, taken over by forward_begin */
extern struct lyap_declaration declaration;
extern struct lyap_profile *profile;
extern struct lyap_partial partial;
extern struct lyap_point point; /* of the newest step */
extern double weights[FORWARD_LAYERS_MAX][FORWARD_WIDTH_MAX * FORWARD_WIDTH_MAX];
extern double moved_sq;      /* |D|^2 of every tensor; NaN: unknown */
extern double input_diff_sq; /* of the perturbed input; NaN: not pushed */

void forward_forget(void);
void forward_teardown(void); /* and nothing is left */
/* A profile of what `net` holds. */
void forward_begin(void);
void forward_put(enum lyap_reduce row, uint32_t tensor, double value);
double forward_norm(const double *values, uint32_t rows, uint32_t cols);
/* One step on the weights; the rows of the layers. */
const struct lyap_layer_row *forward_step(int64_t at);
/* What the worker would bring for the step that was just made. */
void forward_work(void);
/* Which must be there. */
double forward_value(const struct lyap_layer_row *row, enum lyap_layer_metric metric);
double forward_metric(enum lyap_metric metric);
struct lyap_layer forward_layer(enum lyap_layer_kind kind, enum lyap_activation activation);

#endif
