/* Energies and dissipation residuals. */
#include "lyap/energy.h"

#include <math.h>

static const double TINY = 1e-300; /* divisors: 0/0 becomes 0 */

double lyap_energy_trapezoid(double loss0, double loss1, double work0, double work1,
                             double *ret_tau)
{
    const double t = loss1 - loss0 - 0.5 * (work0 + work1);
    *ret_tau = t / fmax(0.5 * (fabs(work0) + fabs(work1)), TINY);
    return t;
}

double lyap_energy_kappa_loss(double loss0, double loss1, double work0, double delta_sq)
{
    return 2 * (loss1 - loss0 - work0) / delta_sq;
}

double lyap_energy_kappa_grad(double work0, double work1, double delta_sq)
{
    return (work1 - work0) / delta_sq;
}

double lyap_energy_smoothness(const struct lyap_energy_terms *terms)
{
    return (terms->change + terms->bound) / fmax(terms->scale, TINY);
}

double lyap_energy_dissipation(const struct lyap_energy_terms *terms)
{
    return (terms->change + fmax(terms->bound, 0)) / fmax(terms->scale, TINY);
}

struct lyap_energy_terms lyap_energy_descent(const struct lyap_energy_input *in)
{
    return (struct lyap_energy_terms){ .change = in->loss1 - in->loss0,
                                       .bound = -in->work0 - 0.5 * in->ell * in->delta_sq,
                                       .scale = fabs(in->work0) };
}

struct lyap_energy_terms lyap_energy_gd(const struct lyap_energy_input *in)
{
    return (struct lyap_energy_terms){ .change = in->loss1 - in->loss0,
                                       .bound = (1 / in->lr1 - 0.5 * in->ell) * in->delta_sq,
                                       .scale = fabs(in->work0) };
}

struct lyap_energy_terms lyap_energy_heavy_ball(const struct lyap_energy_input *in)
{
    const double half = 0.5 * in->beta;
    const double rate = 1 / in->lr1 - half * (1 / in->lr0 + 1 / in->lr1);
    return (struct lyap_energy_terms){
        .change = in->loss1 - in->loss0 + half * (in->delta_sq / in->lr1 - in->before_sq / in->lr0),
        .bound = (rate - 0.5 * in->ell) * in->delta_sq,
        .scale = in->lr1 * in->grad0_sq,
    };
}

struct lyap_energy_terms lyap_energy_adam(const struct lyap_energy_input *in)
{
    const double c = 1 / (1 - in->beta), half = 0.5 * in->beta;
    const double now = in->delta_sq / in->lr1;
    return (struct lyap_energy_terms){
        .change = in->loss1 - in->loss0 + c * half * (now - in->before_sq / in->lr0),
        .bound = c * (now - half * in->delta_p_before / in->lr0 - half * now) -
                 0.5 * in->ell * in->delta_sq,
        .scale = now,
    };
}

struct lyap_energy_h1h2 lyap_energy_h1h2(double objective0, double objective1,
                                         double subgradient_norm, double delta_sq, double lr)
{
    return (struct lyap_energy_h1h2){ .decrease = lr * (objective0 - objective1) / delta_sq,
                                      .error = lr * subgradient_norm / sqrt(delta_sq) };
}

double lyap_energy_subgradient_norm(double grad_diff_sq, double grad_diff_delta, double delta_sq,
                                    double lr)
{
    const double sq = grad_diff_sq + delta_sq / (lr * lr) - 2 * grad_diff_delta / lr;
    return sqrt(fmax(sq, 0));
}
