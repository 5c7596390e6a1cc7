/* Activations: the table against the derivatives of the functions themselves. */
#include <math.h>
#include <string.h>

#include "lyap/activation.h"
#include "support.h"

static const char *const names[LYAP_ACTIVATION_COUNT] = {
#define NAME(name, wire, least, largest, derivation) wire,
    LYAP_ACTIVATION_TABLE(NAME)
#undef NAME
};

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

static double softplus(double x)
{
    return log1p(exp(x));
}

static double value_of(enum lyap_activation activation, double x)
{
    static const double scale = 1.0507009873554805, alpha = 1.6732632423543772;
    switch (activation) {
    case LYAP_ACTIVATION_IDENTITY:
        return x;
    case LYAP_ACTIVATION_RELU:
        return fmax(x, 0);
    case LYAP_ACTIVATION_RELU6:
        return fmin(fmax(x, 0), 6);
    case LYAP_ACTIVATION_LEAKY_RELU:
        return x > 0 ? x : .01 * x;
    case LYAP_ACTIVATION_HARDTANH:
        return fmin(fmax(x, -1), 1);
    case LYAP_ACTIVATION_TANH:
        return tanh(x);
    case LYAP_ACTIVATION_SIGMOID:
        return sigmoid(x);
    case LYAP_ACTIVATION_SOFTPLUS:
        return softplus(x);
    case LYAP_ACTIVATION_SOFTSIGN:
        return x / (1 + fabs(x));
    case LYAP_ACTIVATION_LOGSIGMOID:
        return -softplus(-x);
    case LYAP_ACTIVATION_ELU:
        return x > 0 ? x : expm1(x);
    case LYAP_ACTIVATION_SELU:
        return scale * (x > 0 ? x : alpha * expm1(x));
    case LYAP_ACTIVATION_GELU:
        return .5 * x * (1 + erf(x / sqrt(2)));
    case LYAP_ACTIVATION_SILU:
        return x * sigmoid(x);
    case LYAP_ACTIVATION_MISH:
        return x * tanh(softplus(x));
    case LYAP_ACTIVATION_HARDSWISH:
        return x * fmin(fmax(x + 3, 0), 6) / 6;
    case LYAP_ACTIVATION_COUNT:
        break;
    }
    return NAN;
}

/* tanh's approximation of GELU */
static double gelu_tanh(double x)
{
    return .5 * x * (1 + tanh(sqrt(2 / acos(-1)) * (x + .044715 * x * x * x)));
}

/* Slopes between neighbours stay in the range (mean value theorem), and come close to its ends. */
START_TEST(test_slopes)
{
    const double h = 1e-3;
    const int points = 20000;
    for (int i = 0; i < LYAP_ACTIVATION_COUNT; i++) {
        const enum lyap_activation activation = (enum lyap_activation)i;
        const struct lyap_activation_range range = lyap_activation_derivative(activation);
        double least = INFINITY, largest = -INFINITY;
        for (int k = -points; k < points; k++) {
            const double x = k * h;
            const double slope = (value_of(activation, x + h) - value_of(activation, x)) / h;
            least = fmin(least, slope);
            largest = fmax(largest, slope);
        }
        const char *name = names[i];
        ck_assert_msg(least >= range.least - 1e-9, "%s: %.9g", name, least);
        ck_assert_msg(largest <= range.largest + 1e-9, "%s: %.9g", name, largest);
        ck_assert_msg(largest >= range.largest - 2e-3, "%s: %.9g is loose", name, largest);
        ck_assert_msg(least <= range.least + 2e-2, "%s: %.9g is loose", name, least);
        ck_assert(lyap_activation_lipschitz(activation) >= fmax(fabs(least), largest) - 1e-9);
    }
    for (int k = -points; k < points; k++) {
        const double x = k * h;
        const double slope = (gelu_tanh(x + h) - gelu_tanh(x)) / h;
        ck_assert(slope <= lyap_activation_lipschitz(LYAP_ACTIVATION_GELU));
        ck_assert(slope >= lyap_activation_derivative(LYAP_ACTIVATION_GELU).least);
    }
}
END_TEST

/* 1000 random pairs of vectors. */
START_TEST(test_lipschitz)
{
    struct test_rng rng = { 7 };
    for (int trial = 0; trial < 1000; trial++)
        for (int i = 0; i < LYAP_ACTIVATION_COUNT; i++) {
            double inside = 0, outside = 0;
            for (int k = 0; k < 4; k++) {
                const double x = 3 * test_rng_normal(&rng), y = x + test_rng_normal(&rng);
                const double difference =
                    value_of((enum lyap_activation)i, x) - value_of((enum lyap_activation)i, y);
                inside += (x - y) * (x - y);
                outside += difference * difference;
            }
            ck_assert(sqrt(outside) <=
                      lyap_activation_lipschitz((enum lyap_activation)i) * sqrt(inside) + 1e-9);
        }
}
END_TEST

START_TEST(test_constants)
{
    static const struct {
        enum lyap_activation activation;
        double lipschitz;
        bool is_gate;
    } expected[] = {
        { LYAP_ACTIVATION_TANH, 1, true },        { LYAP_ACTIVATION_RELU, 1, true },
        { LYAP_ACTIVATION_LEAKY_RELU, 1, true },  { LYAP_ACTIVATION_SIGMOID, .25, true },
        { LYAP_ACTIVATION_GELU, 1.129, false },   { LYAP_ACTIVATION_SILU, 1.0999, false },
        { LYAP_ACTIVATION_SOFTPLUS, 1, true },    { LYAP_ACTIVATION_IDENTITY, 1, true },
        { LYAP_ACTIVATION_ELU, 1, true },         { LYAP_ACTIVATION_SELU, 1.7581, false },
        { LYAP_ACTIVATION_HARDSWISH, 1.5, false }
    };
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        const enum lyap_activation activation = expected[i].activation;
        ck_assert(lyap_activation_lipschitz(activation) == expected[i].lipschitz);
        ck_assert(lyap_activation_is_gate(activation) == expected[i].is_gate);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("activation");
    TCase *tests = tcase_create("activation");
    tcase_add_test(tests, test_slopes);
    tcase_add_test(tests, test_lipschitz);
    tcase_add_test(tests, test_constants);
    suite_add_tcase(suite, tests);
    return test_main(suite);
}
