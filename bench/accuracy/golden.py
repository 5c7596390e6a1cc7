"""The golden cases of docs/spec.md 7 and the C tests that hold them: runs these and says which
passed."""

import os
import subprocess
import tempfile

from service import BUILD
from table import Outcome, Table

# Case, what is checked, tolerance, {program: tests}.
CASES = (
    ("7.0", "SplitMix64 of seed 1: 0x910a2dec89025cc1, 0xbeeb8da1658eec67", "every bit",
     {"golden": ["test_generator"]}),
    ("T1", "40 x 25 with singular values 5, 4, 3, 1: 5 by power iteration; its factors, its "
     "transpose; the stream follows the iteration", "1e-9",
     {"spectral": ["test_known_sigma"], "spectral_state": ["invariances"]}),
    ("T2", "3 x 3 of ones, circular: 9; bounds of zero-padded kernels lie above", "1e-13",
     {"conv": ["test_closed_forms", "test_certificates"]}),
    ("T3", "skew 2 x 2, h = 0.5: sqrt(1.25), attained; the gated matrix: mu = 4.5249", "1e-14",
     {"residual": ["test_closed_forms"]}),
    ("T4", "derivative of Adam's update, 1000 random states", "1e-8",
     {"update_gain": ["test_oracle", "test_adam_derivative"]}),
    ("T5", "exponents of six trajectories at curvatures 1, 10, 90; stable just below every limit, "
     "unstable just above; 38/eta; 38000 - 1.9", "0.02 (finite trajectories), 1e-12",
     {"golden": ["test_exponents"],
      "transition": ["test_golden", "test_limit_separates", "test_closed_forms"]}),
    ("T6", "3 x 3 Jacobian of scalar Adam", "1e-8 (differences), 1e-14 (reference)",
     {"transition": ["test_adam3"]}),
    ("T7", "Jordan block subexponential, -0.02 t decay, +0.02 t exponential, sine bounded; mode "
     "energies bound every power of 1000 matrices", "exact verdicts, rate 1e-12",
     {"growth": ["test_golden_cases", "test_bound_of_powers"]}),
    ("T8", "Ritz value 50 of a quadratic in 60 dimensions, accepted", "1e-3",
     {"ritz": ["test_quadratic"]}),
    ("T9", "noise artefact: eta rho = 1 - cos(W pi/(W+1)); heavy ball in (0.9, 1) 2(1+beta)",
     "1e-12", {"ritz": ["test_noise_artefact"]}),
    ("T10", "cubic: T = -D^3/2; quadratic: T = 0", "1e-15", {"energy": ["test_trapezoid"]}),
    ("T11", "descent tight on a quadratic; diverging GD: smoothness <= 0, dissipation > 0",
     "1e-14, sign", {"energy": ["test_gd_diverging"]}),
    ("T12", "heavy ball and Adam on diag(1, 3, 7): residuals <= 0", "1e-9",
     {"energy": ["test_heavy_ball_golden", "test_adam_golden"]}),
    ("T13", "lasso: (2, -0.5, 0); a eta >= 1/2, b eta <= 2", "1e-7",
     {"energy": ["test_h1h2_lasso"]}),
    ("T14", "projection on a ball: twins do not part, the limit is the boundary point", "1e-8",
     {"profile_energy": ["test_ball"]}),
    ("T15", "mean square of {1, 3} at eta 0.4: 0.2; both without replacement: 0.04", "1e-15",
     {"golden": ["test_mean_square"], "growth": ["test_theorem_and_mean_square"]}),
    ("T16", "sketches add over cuts, shards and vectors; those of the reference", "1e-12",
     {"golden": ["test_sketches"], "sketch": ["vectors_of_the_reference", "any_cut_adds_up"]}),
    ("T17", "1 + 2^-9 and 1.01 in BF16; every pattern", "every bit",
     {"golden": ["test_bf16"], "dtype": ["every_bfloat16"]}),
    ("T18", "alternating residual never alarms, a constant one does; alarm at the 19th push",
     "1e-12, the push", {"level": ["test_edetector_golden", "test_edetector_closed_form",
                                   "test_level_golden", "test_level_delay"]}),
    ("T19", "golden network: loss 1.867987566347, |g| 1.651191554533, lambda 3.0175374739, "
     "2.3104859565, -1.2629751432, sigma 2.0273794906, 1.2455626322; after 300 steps at eta 0.1, "
     "0.5, 0.9 and with momentum", "1e-9 (eta 0.5: 1e-6)",
     {"golden": ["test_golden_start"], "profile": ["test_golden_network"]}),
)


def outcomes(program):
    """{test: whether all its runs passed} of a Check program."""
    with tempfile.TemporaryDirectory() as folder:
        report = os.path.join(folder, "tap")
        subprocess.run([os.path.join(BUILD, "bin", "test_" + program)], check=False,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                       env=dict(os.environ, CK_TAP_LOG_FILE_NAME=report,
                                CK_DEFAULT_TIMEOUT="300", OPENBLAS_NUM_THREADS="1"))
        found = {}
        with open(report, encoding="utf-8") as file:
            for line in file:
                if " - " in line:
                    test = line.split(" - ", 1)[1].split(":")[2]
                    found[test] = found.get(test, True) and line.startswith("ok")
    return found


def measure():
    programs = sorted({program for case in CASES for program in case[3]})
    passed = {program: outcomes(program) for program in programs}
    result, missing = Table(["case", "checked", "tolerance", "tests/lib", "result"]), 0
    for case, what, tolerance, tests in CASES:
        every = [(program, test) for program, names in tests.items() for test in names]
        bad = [test for program, test in every if not passed[program].get(test, False)]
        missing += bool(bad)
        where = "; ".join("`test_%s.c`: %s" % (program, ", ".join(names))
                          for program, names in tests.items())
        result.add([case, what, tolerance, where, "fails: " + ", ".join(bad) if bad else "passes"])
    return Outcome(result, missing, [("golden cases of SPEC 7 as C tests", "all",
                                      "%d of %d pass" % (len(CASES) - missing, len(CASES)))])
