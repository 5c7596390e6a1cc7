/* golden_net.h - the 6-10-3 tanh network of SPEC 7.9 with exact gradient and Hessian-vector
 * product. */
#ifndef GOLDEN_NET_H
#define GOLDEN_NET_H

enum { NET_IN = 6, NET_HIDDEN = 10, NET_OUT = 3, NET_SAMPLES = 24, NET_SIZE = 103 };

struct golden_net {
    double x[NET_SAMPLES][NET_IN], target[NET_SAMPLES][NET_OUT];
    double start[NET_SIZE]; /* W1 10x6, b1 10, W2 3x10, b2 3, row-major */
};

void golden_net_init(struct golden_net *net);
double golden_net_grad(const struct golden_net *net, const double *theta, double *ret_grad);
void golden_net_hvp(const struct golden_net *net, const double *theta, const double *v,
                    double *ret);
/* Largest eigenvalue of the Hessian, by power iteration on H + shift. */
double golden_net_lambda(const struct golden_net *net, const double *theta, int iterations);

#endif
