#!/usr/bin/env python3
"""Writes tests/oracle/representation_values.h, what oracle.py answers about bounds and windows:
`/usr/bin/python3 tests/oracle/representation_values.py > tests/oracle/representation_values.h`,
then clang-format -i. Inputs the C tests make themselves from the same generator are given by seed."""
import math
import os
import sys

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import oracle  # noqa: E402
from golden_values import table  # noqa: E402

VERDICTS = ["DECAY", "BOUNDED", "INCONCLUSIVE", "SUBEXPONENTIAL", "GROWTH_UNRESOLVED", "EXPONENTIAL"]


def log_norms(kind, size, amount, noise, seed):
    """The series of tests/lib/test_growth.c: a law of log growth plus level or random-walk noise."""
    rng = oracle.SplitMix64(seed)
    y, walk = [], 0.0
    for t in range(size):
        law = {0: amount * t, 1: amount * math.log1p(t), 2: amount * math.sin(t), 3: amount * math.sqrt(t)}[kind % 4]
        e = noise * rng.normal()
        walk += e
        y.append(law + (walk if kind >= 4 else e))
    return y


def growth():
    rows = []
    for kind in range(8):
        for size, amount, noise, seed in (
            (65, 0.02, 0.1, 1), (128, -0.03, 0.1, 2), (257, 0.02, 0.3, 3), (401, 1.0, 0.05, 4), (300, 0.5, 0.0, 5),
            (999, 0.02, 0.1, 6), (400, 0.015, 0.2, 9), (80, 0.001, 0.02, 7), (263, -1.0, 0.3, 8),
        ):
            fit = oracle.verdict(log_norms(kind, size, amount, noise, seed))
            rows.append([kind, size, amount, noise, seed, VERDICTS.index(fit["verdict"]), fit["rate"], fit["ci"],
                         fit["G"], fit["logM"], fit["logM_block"], fit.get("ratio", math.nan)])
    table("golden_growth", rows, "kind, size, amount, noise, seed; verdict, rate, ci, G, logM, logM_block, ratio")
    rows = []
    for lam in (0.5, 5.0, 100.0, 300.0, 379.0):
        a = oracle.A_heavyball(0.01, 0.9, lam)
        rows.append([*a.ravel(), *oracle.dlyap(a).ravel(), *oracle.energy_prediction(a)])
    table("golden_dlyap", rows, "A of heavy ball (lr .01, beta .9); P; rate, M")
    a = oracle.A_adam3(0.01, 0.9, 0.99, 1e-3, 2.0, 0.3, 0.4, 0.7, 0.1)
    q = np.array([[2.0, 0.5, 0.1], [0.5, 1.0, 0.0], [0.1, 0.0, 3.0]])
    table("golden_dlyap3", [a.ravel(), q.ravel(), oracle.dlyap(a).ravel(), oracle.dlyap(a, q).ravel()],
          "A_adam3, Q; P for I, P for Q")
    table("golden_dlyap3_bound", [oracle.energy_prediction(a)], "rate, M")


def update_gain():
    rng = oracle.SplitMix64(61)
    rows = []
    for step, lr, b1, b2, eps in ((1, 1e-3, 0.9, 0.999, 1e-8), (5, 1e-2, 0.9, 0.99, 1e-6), (1000, 0.1, 0.0, 0.9, 1e-3)):
        g, m = rng.normals(6) * 10.0 ** np.arange(-5, 1), rng.normals(6) * 0.1
        v = rng.normals(6) ** 2 * 10.0 ** np.arange(-6.0, 0)
        g[1], v[1] = 0.0, 0.0                              # a dead coordinate
        m[1] = 0.0
        exact, frozen = oracle.adam_gain(g, m, v, step, lr, b1, b2, eps)
        rows.append([step, lr, b1, b2, eps, *g, *m, *v, *exact, *frozen, oracle.energy_weighted_gain(exact, g)])
    table("golden_adam_gain", rows, "step, lr, b1, b2, eps; six g, m, v, exact, frozen gains; g^2-weighted exact gain")


def spectral():
    rows = []
    for seed, (m, n), b, iters, k in ((1, (7, 5), 2, 1, 0), (2, (5, 7), 2, 3, 1), (3, (12, 12), 3, 2, 3), (4, (30, 4), 1, 5, 4),
                                      (5, (1, 9), 1, 1, 5), (6, (9, 1), 1, 2, 6), (7, (40, 25), 4, 2, 6), (8, (8, 8), 8, 1, 8)):
        rng = oracle.SplitMix64(seed)
        w, v = rng.normals(m, n), rng.normals(n, b)
        v, _ = np.linalg.qr(v)                         # one start, or the products differ by rotation
        sigma, _, residual = oracle.sigma_power(w, v, iters)
        stream, _ = oracle.sigma_stream(w.T @ (w @ v), v)
        rows.append([seed, m, n, b, iters, k, sigma, residual, stream, oracle.sigma_gram_upper(w, k),
                     oracle.sigma_cheap_upper(w), np.linalg.norm(w, 2)])
    table("golden_spectral", rows, "seed, m, n, b, iterations, k; sigma_power, its residual, sigma_stream, gram upper, cheap upper, sigma_1")
    w = oracle.known_sigma_matrix(40, 25, [5.0, 4.0, 3.0, 1.0], 7)
    table("golden_known_sigma", w, "T1: 40 x 25 with singular values 5 4 3 1")


def conv():
    rows = []
    for seed, shape, n1, n2, stride in ((1, (1, 1, 3, 3), 8, 8, 1), (2, (4, 3, 3, 3), 6, 6, 1), (3, (2, 5, 1, 4), 5, 9, 2),
                                        (4, (3, 3, 5, 2), 7, 8, 3), (5, (6, 1, 3, 3), 5, 4, 2), (6, (1, 6, 2, 2), 3, 3, 1),
                                        (7, (4, 4, 1, 1), 2, 2, 1), (8, (8, 4, 3, 3), 11, 10, 2)):
        k = oracle.SplitMix64(seed).normals(*shape)
        rows.append([seed, *shape, n1, n2, stride, oracle.conv_reshape_bound(k), oracle.conv_reshape_bound(k, stride),
                     oracle.conv_fft_norm(k, n1, n2), oracle.conv_zero_upper(k, n1, n2)])
    table("golden_conv", rows, "seed, co, ci, kh, kw, n1, n2, s; reshape bound at stride 1 and s, torus norm, zero-padding bound")


def layers():
    rows = []
    for seed, n in ((1, 1), (2, 2), (3, 5), (4, 12)):
        a = oracle.SplitMix64(seed).normals(n, n) - np.eye(n)
        mu, norm = oracle.log_norm2(a), np.linalg.norm(a, 2)
        rows.append([seed, n, mu, norm, oracle.residual_gain(0.3, norm, mu), oracle.residual_cfl(norm, mu)])
    a = np.array([[-1.0, 10.0], [-10.0, -1.0]])
    rows.append([0, 2, oracle.log_norm2(a), np.linalg.norm(a, 2),
                 oracle.residual_gain(0.3, np.linalg.norm(a, 2), -1.0), oracle.residual_cfl(np.linalg.norm(a, 2), -1.0)])
    table("golden_residual", rows, "seed, n; of normals - I (seed 0: [[-1,10],[-10,-1]]) mu_2, norm, gain at h .3, CFL")
    rows = []
    for seed, tokens, n, rms in ((5, 3, 8, 0), (6, 4, 5, 1), (7, 1, 16, 0)):
        rng = oracle.SplitMix64(seed)
        gamma, x = rng.normals(n), rng.normals(tokens, n)
        rows.append([seed, tokens, n, rms, oracle.layernorm_gain(gamma, x, 1e-5, bool(rms))])
    table("golden_norm_gain", rows, "seed, tokens, n, rms; gain at eps 1e-5 of gamma, then x")
    rng = oracle.SplitMix64(6)
    x, a, v, w = rng.normals(5, 4), rng.normals(4, 4), rng.normals(4, 4), rng.normals(4, 7)
    p = np.exp(x @ a @ x.T / 2)
    p /= p.sum(1, keepdims=True)
    table("golden_attention", [[oracle.attention_gain(x, a, v, 4), oracle.attention_gain(x, a, v, 4, p), np.linalg.norm(p, 2),
                                np.linalg.norm(a.T @ w, 2)]], "bound; bound with P pushed; |P|_2; |A'W|_2")
    gains = [2.0, 0.5, 1.129, 0.0, 3e-5]
    table("golden_log_product", [[*gains, oracle.log_product(gains), oracle.log_product(gains[:3])]], "gains; log product; of the first three")


def main():
    print("/* representation_values.h - what tests/oracle/oracle.py answers about bounds and windows; made by")
    print(" * tests/oracle/representation_values.py. */")
    print("#ifndef LYAP_REPRESENTATION_VALUES_H\n#define LYAP_REPRESENTATION_VALUES_H\n\n#include <math.h>\n")
    for part in (growth, update_gain, spectral, conv, layers):
        part()
    print("#endif")


if __name__ == "__main__":
    main()
