/* energy.h - work identity, energies of the declared optimizers and their residuals (SPEC 3.0-3.5).
 * The update D led from t-1 to t; "0" names what belongs to its start, "1" to its end.
 * THREADS: pure functions. */
#ifndef LYAP_ENERGY_H
#define LYAP_ENERGY_H

#include "lyap/status.h"

/* T = L1 - L0 - (<g0,D> + <g1,D>)/2 of one function; *ret_tau is T over the mean work. */
LYAP_API double lyap_energy_trapezoid(double loss0, double loss1, double work0, double work1,
                                      double *ret_tau);
/* 2 (L1 - L0 - <g0,D>) / |D|^2 and <g1 - g0, D> / |D|^2. */
LYAP_API double lyap_energy_kappa_loss(double loss0, double loss1, double work0, double delta_sq);
LYAP_API double lyap_energy_kappa_grad(double work0, double work1, double delta_sq);

/* The two residuals of one energy inequality dE <= -c|D|^2. */
struct lyap_energy_terms {
    double change; /* dE = E1 - E0 */
    double bound;  /* c|D|^2, of either sign */
    double scale;  /* positive work scale */
};
/* (dE + c|D|^2)/scale: <= 0 for any step while the hypotheses hold; tests them, not dissipation. */
LYAP_API double lyap_energy_smoothness(const struct lyap_energy_terms *terms);
/* (dE + max(c,0)|D|^2)/scale: <= 0 iff the energy did not rise and fell as promised. */
LYAP_API double lyap_energy_dissipation(const struct lyap_energy_terms *terms);

struct lyap_energy_input {
    double loss0, loss1;   /* of the function (with the energy of coupled decay) */
    double work0;          /* <g0, D> */
    double grad0_sq;       /* |g0|^2 */
    double delta_sq;       /* |D|^2, or <D,P D> with the P of this update */
    double before_sq;      /* |D_before|^2, or <D_before, P_before D_before> */
    double delta_p_before; /* <D, P_before D>; preconditioned methods */
    double lr0, lr1; /* of the update before and of this one; with SPEC 2.2's P the raw rates */
    double beta;     /* momentum or beta1 */
    double ell;      /* smoothness in the norm of delta_sq */
};
/* Any update: E = L, c|D|^2 = -<g0,D> - ell/2 |D|^2 (clipped GD, 3.0). */
LYAP_API struct lyap_energy_terms lyap_energy_descent(const struct lyap_energy_input *in);
/* GD: E = L, c = 1/eta - ell/2; scale |<g0,D>|. */
LYAP_API struct lyap_energy_terms lyap_energy_gd(const struct lyap_energy_input *in);
/* Heavy ball: E = L + beta/(2 eta)|D_before|^2; scale eta |g0|^2. With a changing rate
 * c = 1/eta1 - (beta/2)(1/eta0 + 1/eta1) - ell/2, the same proof. */
LYAP_API struct lyap_energy_terms lyap_energy_heavy_ball(const struct lyap_energy_input *in);
/* Adam and RMSProp (beta 0), 3.4; scale <D,P D>/eta1. */
LYAP_API struct lyap_energy_terms lyap_energy_adam(const struct lyap_energy_input *in);

/* Attouch-Bolte-Svaiter pair of prox(eta r) steps on F = f + r, in units of 1/eta (3.5); GD is
 * r = 0. w = g1 - g0 - D/eta. */
struct lyap_energy_h1h2 {
    double decrease; /* a eta */
    double error;    /* b eta */
};
LYAP_API struct lyap_energy_h1h2 lyap_energy_h1h2(double objective0, double objective1,
                                                  double subgradient_norm, double delta_sq,
                                                  double lr);
/* |w| from |g1 - g0|^2, <g1 - g0, D> and |D|^2. */
LYAP_API double lyap_energy_subgradient_norm(double grad_diff_sq, double grad_diff_delta,
                                             double delta_sq, double lr);

#endif
