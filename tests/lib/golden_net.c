/* The golden network. */
#include "golden_net.h"

#include <math.h>
#include <string.h>

#include "support.h"

enum { W1 = 0, B1 = 60, W2 = 70, B2 = 100 };

void golden_net_init(struct golden_net *net)
{
    struct test_rng rng = { 20251221 };
    memset(net->start, 0, sizeof net->start);
    test_rng_normals(&rng, &net->x[0][0], NET_SAMPLES * NET_IN);
    test_rng_normals(&rng, &net->target[0][0], NET_SAMPLES * NET_OUT);
    for (int i = 0; i < 60; i++)
        net->start[W1 + i] = test_rng_normal(&rng) / sqrt(NET_IN);
    for (int i = 0; i < 30; i++)
        net->start[W2 + i] = test_rng_normal(&rng) / sqrt(NET_HIDDEN);
}

/* One sample: hidden a, its slope s = 1 - a^2, error e / samples. */
static void forward(const struct golden_net *net, const double *theta, int n, double *a, double *e)
{
    for (int j = 0; j < NET_HIDDEN; j++) {
        double z = theta[B1 + j];
        for (int i = 0; i < NET_IN; i++)
            z += theta[W1 + j * NET_IN + i] * net->x[n][i];
        a[j] = tanh(z);
    }
    for (int o = 0; o < NET_OUT; o++) {
        double z = theta[B2 + o] - net->target[n][o];
        for (int j = 0; j < NET_HIDDEN; j++)
            z += theta[W2 + o * NET_HIDDEN + j] * a[j];
        e[o] = z / NET_SAMPLES;
    }
}

double golden_net_grad(const struct golden_net *net, const double *theta, double *ret_grad)
{
    double loss = 0;
    memset(ret_grad, 0, NET_SIZE * sizeof *ret_grad);
    for (int n = 0; n < NET_SAMPLES; n++) {
        double a[NET_HIDDEN], e[NET_OUT];
        forward(net, theta, n, a, e);
        for (int o = 0; o < NET_OUT; o++) {
            loss += .5 * e[o] * e[o] * NET_SAMPLES;
            ret_grad[B2 + o] += e[o];
            for (int j = 0; j < NET_HIDDEN; j++)
                ret_grad[W2 + o * NET_HIDDEN + j] += e[o] * a[j];
        }
        for (int j = 0; j < NET_HIDDEN; j++) {
            double back = 0;
            for (int o = 0; o < NET_OUT; o++)
                back += e[o] * theta[W2 + o * NET_HIDDEN + j];
            back *= 1 - a[j] * a[j];
            ret_grad[B1 + j] += back;
            for (int i = 0; i < NET_IN; i++)
                ret_grad[W1 + j * NET_IN + i] += back * net->x[n][i];
        }
    }
    return loss;
}

/* Pearlmutter's R operator of one sample, added to ret. */
static void sample_hvp(const struct golden_net *net, int n, const double *theta, const double *v,
                       double *ret)
{
    double a[NET_HIDDEN], e[NET_OUT], ra[NET_HIDDEN], re[NET_OUT];
    forward(net, theta, n, a, e);
    for (int j = 0; j < NET_HIDDEN; j++) {
        double z = v[B1 + j];
        for (int i = 0; i < NET_IN; i++)
            z += v[W1 + j * NET_IN + i] * net->x[n][i];
        ra[j] = (1 - a[j] * a[j]) * z;
    }
    for (int o = 0; o < NET_OUT; o++) {
        double z = v[B2 + o];
        for (int j = 0; j < NET_HIDDEN; j++)
            z += theta[W2 + o * NET_HIDDEN + j] * ra[j] + v[W2 + o * NET_HIDDEN + j] * a[j];
        re[o] = z / NET_SAMPLES;
        ret[B2 + o] += re[o];
        for (int j = 0; j < NET_HIDDEN; j++)
            ret[W2 + o * NET_HIDDEN + j] += re[o] * a[j] + e[o] * ra[j];
    }
    for (int j = 0; j < NET_HIDDEN; j++) {
        double back = 0, forth = 0;
        for (int o = 0; o < NET_OUT; o++) {
            back += e[o] * theta[W2 + o * NET_HIDDEN + j];
            forth += re[o] * theta[W2 + o * NET_HIDDEN + j] + e[o] * v[W2 + o * NET_HIDDEN + j];
        }
        const double rd = forth * (1 - a[j] * a[j]) - 2 * back * a[j] * ra[j];
        ret[B1 + j] += rd;
        for (int i = 0; i < NET_IN; i++)
            ret[W1 + j * NET_IN + i] += rd * net->x[n][i];
    }
}

void golden_net_hvp(const struct golden_net *net, const double *theta, const double *v, double *ret)
{
    memset(ret, 0, NET_SIZE * sizeof *ret);
    for (int n = 0; n < NET_SAMPLES; n++)
        sample_hvp(net, n, theta, v, ret);
}

double golden_net_lambda(const struct golden_net *net, const double *theta, int iterations)
{
    const double shift = 2; /* lambda_min stays above -2 */
    struct test_rng rng = { 2 };
    double v[NET_SIZE], y[NET_SIZE], lambda = 0;
    test_rng_normals(&rng, v, NET_SIZE);
    for (int t = 0; t < iterations; t++) {
        double norm = 0;
        for (int i = 0; i < NET_SIZE; i++)
            norm += v[i] * v[i];
        norm = sqrt(norm);
        for (int i = 0; i < NET_SIZE; i++)
            v[i] /= norm;
        golden_net_hvp(net, theta, v, y);
        lambda = 0;
        for (int i = 0; i < NET_SIZE; i++) {
            lambda += v[i] * y[i];
            v[i] = y[i] + shift * v[i];
        }
    }
    return lambda;
}
