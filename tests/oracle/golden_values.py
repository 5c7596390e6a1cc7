#!/usr/bin/env python3
"""Writes tests/oracle/golden_values.h, what oracle.py answers on fixed inputs:
`/usr/bin/python3 tests/oracle/golden_values.py > tests/oracle/golden_values.h`, then clang-format -i."""
import math
import os
import sys

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import oracle  # noqa: E402
from detector import Detector  # noqa: E402


def number(x):
    if math.isnan(x):
        return "NAN"
    if math.isinf(x):
        return "INFINITY" if x > 0 else "-INFINITY"
    return repr(float(x))


def table(name, rows, comment):
    """A two-dimensional array of doubles."""
    rows = [list(np.ravel(r)) for r in rows]
    print(f"/* {comment} */")
    print(f"static const double {name}[{len(rows)}][{len(rows[0])}] = {{")
    for row in rows:
        print("    { " + ", ".join(number(x) for x in row) + " },")
    print("};\n")


def transitions():
    rows = []
    kinds = {"gd": 1, "heavyball": 2, "nesterov": 3, "adam": 4}
    for opt, lr, beta, wd in (
        ("gd", 0.015, 0, 0), ("gd", 0.0199, 0, 0.3), ("heavyball", 0.01, 0.9, 0), ("heavyball", 0.037, 0.9, 0.01),
        ("nesterov", 0.01, 0.9, 0), ("nesterov", 0.02, 0.5, 0.1), ("adam", 0.3, 0.9, 0), ("adam", 1e-3, 0.9, 0.1),
    ):
        for lam in (-0.5, 0.0, 1.0, 10.0, 90.0, 400.0):
            a = {
                "gd": lambda: oracle.A_gd(lr, lam, wd), "heavyball": lambda: oracle.A_heavyball(lr, beta, lam, wd),
                "nesterov": lambda: oracle.A_nesterov(lr, beta, lam, wd), "adam": lambda: oracle.A_adam(lr, beta, lam, wd),
            }[opt]()
            rows.append([kinds[opt], lr, beta, wd, lam, oracle.spectral_radius(a), oracle.limit(opt, lr, beta, wd)])
    table("golden_transition", rows, "method, lr, beta, wd, lambda, spectral radius, limit")
    args = (0.01, 0.9, 0.99, 1e-3, 3 * 1.3**2, 1.3**3, 0.4, 0.7, 0.1)
    table("golden_adam3", [oracle.A_adam3(*args)], "A_adam3(.01, .9, .99, 1e-3, 3*1.3^2, 1.3^3, .4, .7, .1)")


def ritz():
    rng = oracle.SplitMix64(11)
    q, _ = np.linalg.qr(rng.normals(60, 60))
    spectrum = np.concatenate([[50.0], np.linspace(0, 5, 59)])
    h = q * spectrum @ q.T
    x = oracle.run_quadratic("gd", h, 0.0395, 0, 12, rng.normals(60))
    s = np.diff(x, axis=0)
    y = s @ h
    grams = [oracle.gram(s, s), oracle.gram(s, y), oracle.gram(y, y)]
    table("golden_ritz_quadratic", grams, "T8: S, Y, Z of twelve exact pairs, 12 x 12 each")
    e, r, rank, asym = oracle.ritz(*grams, 1e-6)
    table("golden_ritz_quadratic_result", [[e[0], r[0], e[-1], r[-1], rank, asym]],
          "largest value and residual, least, rank, asymmetry at tol 1e-6")
    rng = oracle.SplitMix64(31)
    s, e = rng.normals(6, 40), rng.normals(6, 40)
    y = s * np.linspace(-1, 3, 40) + 0.1 * e
    grams = [oracle.gram(s, s), oracle.gram(s, y), oracle.gram(y, y)]
    table("golden_ritz_noisy", grams, "S, Y, Z of six noisy pairs, 6 x 6 each")
    e, r, rank, asym = oracle.ritz(*grams, 1e-2)
    table("golden_ritz_noisy_result", [list(e) + list(r) + [rank, asym]], "values, residuals, rank, asymmetry at tol 1e-2")


def level():
    rng = oracle.SplitMix64(41)
    monitor, level_, rows = oracle.LevelMonitor(), 0.0, []
    for t in range(400):
        level_ = 0.9 * level_ + 0.05 * rng.normal()
        loss = math.exp(-t / 300 + level_ + (1.2 if t >= 330 else 0.0))
        out = monitor.push(loss)
        rows.append([loss, *(out if out else (math.nan, math.nan)), monitor.ref if monitor.ref is not None else math.nan,
                     monitor.m])
    table("golden_level", rows, "loss, log e-process, log M, reference and margin after the push")
    rng = oracle.SplitMix64(42)
    detector, rows = oracle.EDetector(0.7), []
    for _ in range(60):
        r = rng.normal() + 0.4
        rows.append([r, *detector.push(r)])
    table("golden_edetector", rows, "residual, log e-process, log M; scale .7")


def drift():
    rng = oracle.SplitMix64(61)
    losses, walk, rows = [], 0.0, []
    for t in range(1400):
        walk = 0.8 * walk + 0.05 * rng.normal()
        losses.append(2 * math.exp(-t / 500) + walk + (0.004 * (t - 900) if t > 900 else 0))
    means = [(losses[i + 16] - losses[i]) / 16 for i in range(0, len(losses) - 16, 16)]
    burn = np.array(means[:32])
    scale = 1.4826 * np.median(np.abs(burn - np.median(burn)))
    d, newest = oracle.EDetector(1.0), math.nan
    for n in range(33, len(means) + 1):
        newest = d.push(means[n - 1] / scale)[1]
        if newest >= math.log(1e4):
            d = oracle.EDetector(1.0)
        kept = np.array(means[max(0, n - 64):n])
        rows.append([16 * n, kept.mean() / scale, oracle.newey_west_se(kept) / scale, newest])
    table("golden_drift", rows, "pushes after the first; level, its error, log M (SplitMix64 61, see golden_values.py)")


def detector():
    rng = oracle.SplitMix64(51)
    d, rows = Detector(), []
    for t in range(90):
        loss = 2 * math.exp(-t / 25) + 0.1 + 0.02 * rng.normal() + (0.8 * (t - 70) if t > 70 else 0)
        work, kappa, dpd = 0.1 * rng.normal(), 3 + 2 * rng.normal(), 0.5 + rng.uniform()
        rows.append([loss, work, kappa, dpd, *d.loss(loss), d.work(work), *d.secant(kappa, dpd)])
    table("golden_detector", rows, "loss, W, kappa, <D,PD>; E, x, sigma, lambda, rise, t, W5, med3, EMA ratio")


def energies():
    h = np.diag([1.0, 3.0, 7.0])
    lr, b = 0.02, 0.9
    x = oracle.run_quadratic("heavyball", h, lr, b, 40, np.array([1.0, -2.0, 0.5]))
    loss = 0.5 * np.einsum("ti,ij,tj->t", x, h, x)
    d = np.diff(x, axis=0)
    n2, g = (d**2).sum(1), x @ h
    rows = [
        [loss[t], loss[t + 1], g[t] @ d[t], g[t] @ g[t], n2[t - 1], n2[t],
         oracle.r_heavyball(loss[t], loss[t + 1], n2[t - 1], n2[t], lr, b, 7.0, g[t] @ g[t])]
        for t in range(1, 30)
    ]
    table("golden_heavy_ball", rows, "L0, L1, <g0,D>, |g0|^2, |D_before|^2, |D|^2, r_heavyball(lr .02, beta .9, ell 7)")
    x, m, v, rec = np.array([1.0, -2.0, 0.5]), np.zeros(3), np.zeros(3), []
    for t in range(1, 40):
        g = h @ x
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g * g
        p, e = np.sqrt(v / (1 - 0.999**t)) + 1e-8, 0.01 / (1 - 0.9**t)
        step = -e * m / p
        rec.append((0.5 * x @ h @ x, step, p, e, 0.9**t))
        x = x + step
    rows = []
    for t in range(1, len(rec) - 1):
        (l0, d1, p1, e1, c1), (_, d0, p0, e0, c0) = rec[t], rec[t - 1]
        q0, q1, q1p = d0 @ (p0 * d0), d1 @ (p1 * d1), d1 @ (p0 * d1)
        ell = (7.0 / p1).max()
        # the partial carries P = (1 - b1^t)(sqrt(vhat) + eps) of SPEC 2.2 and the raw rate: the same inequality
        rows.append([l0, rec[t + 1][0], q0 * (1 - c0), q1 * (1 - c1), q1p * (1 - c0), ell / (1 - c1),
                     oracle.r_adam(l0, rec[t + 1][0], q0, q1, q1p, e0, e1, 0.9, ell)])
    table("golden_adam", rows, "L0, L1, q0, q1, q1prev (P of SPEC 2.2), ell_P, r_adam; raw rate .01")
    d = 0.3
    table("golden_trapezoid", [[*oracle.trapezoid(0.0, d**3, 0.0, 3 * d**3), *oracle.trapezoid(0.1, 0.7, -0.2, 0.5)]],
          "T, tau of the cubic at .3; of (.1, .7, -.2, .5)")


def network():
    net = oracle.GoldenNet()
    rows = []
    for lr, beta, steps in ((0.1, 0.0, 300), (0.5, 0.0, 300), (0.9, 0.0, 300), (0.02, 0.9, 300)):
        th, m, ths, gs, ls = net.th0.copy(), np.zeros(net.d), [], [], []
        for _ in range(steps + 1):
            loss, g = net.loss_grad(th)
            ths.append(th), gs.append(g), ls.append(loss)
            m = beta * m + g
            th = th - lr * m
        ev = np.linalg.eigvalsh(net.hessian(ths[-1]))
        s, y = np.diff(ths[-9:], axis=0), np.diff(gs[-9:], axis=0)
        e, r, _, _ = oracle.ritz(oracle.gram(s, s), oracle.gram(s, y), oracle.gram(y, y), 1e-2)
        step = ths[1] - ths[0]
        t, tau = oracle.trapezoid(ls[0], ls[1], gs[0] @ step, gs[1] @ step)
        rows.append([lr, beta, ls[-1], np.linalg.norm(gs[-1]), ev[-1], ev[0], e[0], r[0],
                     oracle.ritz_accept(e, r) is not None, tau])
    table("golden_network", rows, "lr, beta; at t = 300 loss, |g|, lambda_1, lambda_min, Ritz W = 8, residual, accepted; tau of step 0")


def main():
    print("/* golden_values.h - what tests/oracle/oracle.py answers; made by tests/oracle/golden_values.py. */")
    print("#ifndef LYAP_GOLDEN_VALUES_H\n#define LYAP_GOLDEN_VALUES_H\n\n#include <math.h>\n")
    for part in (transitions, ritz, level, drift, detector, energies, network):
        part()
    print("#endif")


if __name__ == "__main__":
    main()
