"""Every number that lyapd reports, against an independent NumPy reading of docs/spec.md
(reference.py), on small trainings with every optimizer; and the invariances of SPEC 6.6 from
outside. A metric of docs/metrics.md that is not compared here fails the last test.
LYAPD_ORACLE_TABLE=1 prints the differences."""
import os
import sys
import unittest

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)),
                os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "http")]
import reference  # noqa: E402
import numpy as np  # noqa: E402
import trainings  # noqa: E402
from blackbox import DaemonCase  # noqa: E402
from trainings import Bowl, Job, Network  # noqa: E402

# Differences of sums of like size: the absolute error they may have, in their own unit.
FLOORS = {"work_residual": 1e-7, "curvature_of_loss": 1e-6, "inconsistency": 1e-7,
          "update_identity": 1e-8, "update_z": 2e-4,
          "update_z_median": 2e-4, "grad_z": 2e-4, "grad_z_median": 2e-4,
          "delta_precision": 1e-16,
          "energy_change": 1e-9, "smoothness_residual": 1e-7, "dissipation_residual": 1e-7,
          "dissipation_window": 1e-7,
          "loss_level_evidence": 1e-9, "sharpness_residual": 1e-5, "predicted_change": 1e-9}
TOLERANCE = 1e-8
STATE_TOLERANCE = 1e-6  # Adam's state is rebuilt in two F32 a parameter
table, absent, ratios = {}, {}, []
compared = set()  # (scope, name) of what was found equal to, or within, the reference's


def difference(name, value, expected, has_state=False):
    scale = max(abs(expected), FLOORS.get(name.split()[-1], 1e-12) / TOLERANCE)
    found = abs(value - expected) / scale
    key = name + " (state)" if has_state else name
    compared.add(tuple(name.split()) if " " in name else ("point", name))
    table[key] = max(table.get(key, 0.0), found)
    return found


def top_curvature(model, s, weight):
    """Exact top eigenvalue of P^-1/2 H P^-1/2."""
    return float(np.linalg.eigvalsh(model.hessian(s["theta"]) / np.sqrt(np.outer(weight,
                                                                                 weight)))[-1])


class OracleCase(DaemonCase):
    is_curvature_checked = False

    def declare(self, run, job, optimizer, **more):
        tensors = [{"name": n, "shape": list(s)} for n, s in job.model.shapes.items()]
        reply = self.daemon.put("/v1/runs/" + run,
                                dict({"optimizer": optimizer, "tensors": tensors}, **more))
        self.assertIn(reply.status, (200, 201), reply)
        return int(reply.json["sketch_seed"])

    def near(self, name, value, want, where, has_state=False):
        tolerance = STATE_TOLERANCE if has_state else TOLERANCE
        self.assertLess(difference(name, value, want, has_state), tolerance,
                        (where, name, value, want))

    def compare_spectral(self, name, value, sigma, where, scope="point"):
        """Bounds of the largest singular value, which is the reference's."""
        compared.add((scope, name))
        if name == "spectral_norm":
            self.assertLessEqual(value, sigma * (1 + 1e-9), where)
            self.assertGreaterEqual(value, 0.9 * sigma, where)
        elif name == "spectral_norm_upper":
            self.assertGreaterEqual(value, sigma * (1 - 1e-9), where)
        else:
            self.assertGreaterEqual(value, 0, where)

    def compare(self, got, expected, where, has_state=False, sigma=None):
        for name, metric in got.items():
            value, want = metric["value"], expected.get(name)
            if name.startswith("spectral_"):
                if value is None:
                    self.assertTrue(metric["reason"], (where, name))
                else:
                    self.compare_spectral(name, value, sigma, where)
            elif isinstance(want, reference.Bound):
                compared.add(("point", name))
                self.assertIsNotNone(value, (where, name, metric, want))
                self.assertTrue(want.holds(value), (where, name, value, want))
            elif isinstance(want, str):
                self.assertEqual((value, metric.get("reason")), (None, want), (where, name))
            elif want is None:
                self.assertIsNone(value, (where, name, value, "the reference has none"))
                self.assertTrue(metric["reason"], (where, name))
                absent.setdefault(where[0], {}).setdefault((name, metric["reason"]),
                                                           []).append(where[1])
            else:
                self.assertIsNotNone(value, (where, name, metric, want))
                self.near(name, value, want, where, has_state)

    def compare_rows(self, run, expected, where, has_state=False, sigmas=None):
        rows = {r["tensor"]: r["metrics"]
                for r in self.ok(self.daemon.get("/v1/runs/%s/tensors" % run))["tensors"]}
        self.assertEqual(set(rows), set(expected), where)
        for tensor, sigma in (sigmas or {}).items():
            for name in ("spectral_norm", "spectral_residual", "spectral_norm_upper"):
                if rows[tensor][name] is not None:
                    self.compare_spectral(name, rows[tensor][name], sigma, where, "tensor")
            if rows[tensor]["spectral_norm"] is not None:
                compared.add(("tensor", "spectral_norm_error"))
                self.assertLessEqual(sigma * (1 - 1e-9), rows[tensor]["spectral_norm"]
                                     + rows[tensor]["spectral_norm_error"], where)
        for tensor, row in expected.items():
            for name, want in row.items():
                value = rows[tensor][name]
                if want is None:
                    self.assertIsNone(value, (where, tensor, name))
                else:
                    self.assertIsNotNone(value, (where, tensor, name))
                    self.near("tensor " + name, value, want, (where, tensor), has_state)

    def train(self, run, job, declared, steps, *, full_batch=False, form="F64", rates=None,
              horizon=None, **more):
        """Trains, pushes, and compares every metric of every step."""
        if full_batch:
            more["data"] = "full-batch"
        if "acts" in job.extras:
            more["layers"] = job.model.layers
        if horizon is not None:
            more["steps"] = horizon
        seed = self.declare(run, job, declared, windows=[8, 64], **more)
        twin = job.rule.copy()
        ref = reference.Reference(job.slices, twin, seed, full_batch, form, 8)
        ref.steps = horizon
        client = trainings.PartialClient(job.slices, job.model.shapes, twin.copy(), seed, ref.unit,
                                         full_batch)
        points, self.truths = [], []
        for s in job:
            pushed = s["lr"] if rates is None else rates(s["step"])
            if form == "JSON":
                body = trainings.document_of(s, job.slices, job.model.shapes, pushed)
                answer = self.ok(self.daemon.push_json(run, body))
            elif form == "partial":
                tensors = client.tensors(s, ref.weight(s))
                answer = self.ok(self.daemon.push_tensors(run, tensors,
                                                          trainings.metadata_of(s, pushed,
                                                                                **client.keys())))
            else:
                tensors = trainings.tensors_of(s, job.slices, job.model.shapes, form)
                answer = self.ok(self.daemon.push_tensors(run, tensors,
                                                          trainings.metadata_of(s, pushed)))
            weight = ref.weight(s)
            point, rows = ref.push(dict(s))
            points.append(answer["metrics"])
            if "pair" in s and self.is_curvature_checked:
                self.truths.append((s["step"], answer["metrics"]["sharpness"],
                                    top_curvature(job.model, s, weight)))
            has_state = ref.rule.v_hat is not None
            sigmas = {n: np.linalg.norm(s["theta"][job.slices[n]].reshape(shape[0], -1), 2)
                      for n, shape in job.model.shapes.items() if len(shape) > 1}
            sigma = max(sigmas.values(), default=None)
            self.compare(answer["metrics"], point, (run, s["step"]), has_state, sigma)
            if s["step"] % 5 in (1, 4):
                self.compare_rows(run, rows, (run, s["step"]), has_state, sigmas)
            if s["step"] + 1 >= steps:
                return points


GROUPS = [{"tensors": ["*.bias"], "lr": 0.1, "weight_decay": 0.3},
          {"tensors": ["nothing"], "weight_decay": 9.0}]
PROBED = dict(probe_every=3)
MINI = dict(batch=8, probe=True, probe_every=4, extras=("same_batch", "halves"))
CASES = {  # name: declaration, rate, options of Job, form
    "gd": (dict(type="sgd"), 0.5, PROBED, "F64"),
    "gd-path": (dict(type="sgd"), 0.5, {}, "F64"),
    "gd-json": (dict(type="sgd", weight_decay=0.05), 0.3, PROBED, "JSON"),
    "gd-clip": (dict(type="sgd"), 0.5, dict(PROBED, clip=0.6), "F64"),
    "gd-delta": (dict(type="sgd"), 0.5, dict(PROBED, extras=("delta",)), "F32"),
    "gd-groups": (dict(type="sgd", lr=0.3, weight_decay=0.01, groups=GROUPS), 0.3, PROBED, "F64"),
    "heavy-ball": (dict(type="sgd", momentum=0.9), 0.02, PROBED, "F64"),
    "heavy-ball-rates": (dict(type="sgd", momentum=0.8, weight_decay=0.02),
                         lambda t: 0.05 / (1 + t / 9), PROBED, "F64"),
    "heavy-ball-groups": (dict(type="sgd", lr=0.05, momentum=0.9, groups=GROUPS), 0.05, PROBED,
                          "F64"),
    "dampening": (dict(type="sgd", momentum=0.9, dampening=0.3), 0.05, PROBED, "F64"),
    "nesterov": (dict(type="sgd", momentum=0.9, nesterov=True, weight_decay=0.01), 0.02, PROBED,
                 "F64"),
    "adam": (dict(type="adam", weight_decay=0.01), 0.01, PROBED, "F64"),
    "adam-groups": (dict(type="adam", lr=0.01, groups=GROUPS), 0.01, PROBED, "F64"),
    "adamw": (dict(type="adamw", weight_decay=0.1, beta2=0.99), 0.02, PROBED, "F64"),
    "rmsprop": (dict(type="rmsprop", beta2=0.95, weight_decay=0.02), 0.005, PROBED, "F64"),
    "rmsprop-momentum": (dict(type="rmsprop", beta2=0.95, momentum=0.8), 0.003, PROBED, "F64"),
    "lion": (dict(type="lion", beta1=0.9, beta2=0.99, weight_decay=0.1), 0.01, PROBED, "F64"),
    "signsgd": (dict(type="signsgd"), 0.01, PROBED, "F64"),
    "prox": (dict(type="proxgd", prox={"kind": "l1", "lambda": 0.01}), 0.4, PROBED, "F64"),
    "prox-clip": (dict(type="proxgd", prox={"kind": "l1", "lambda": 0.01}), 0.4,
                  dict(PROBED, clip=0.6), "F64"),
    "prox-l2": (dict(type="proxgd", prox={"kind": "l2", "lambda": 0.05}), 0.4, PROBED, "F64"),
    "prox-group": (dict(type="proxgd", prox={"kind": "group_l1", "lambda": 0.1}), 0.4, PROBED,
                   "F64"),
    "prox-elastic": (dict(type="proxgd", prox={"kind": "elastic_net", "l1": 0.01, "l2": 0.03}),
                     0.4, PROBED, "F32"),
    "proj": (dict(type="projgd", set={"kind": "box", "low": -0.5, "high": 0.4}), 0.4, PROBED,
             "F32"),
    "proj-ball": (dict(type="projgd", set={"kind": "ball", "radius": 2.0}), 0.4, PROBED, "F64"),
    "proj-simplex": (dict(type="projgd", set={"kind": "simplex", "radius": 5.0}), 0.2, PROBED,
                     "F64"),
    "anchor-sgd": (dict(type="sgd", lr=0.1, groups=GROUPS), 0.1,
                   dict(PROBED, extras=("anchor",)), "F64"),
    "anchor-adamw": (dict(type="adamw", weight_decay=0.1), 0.01,
                     dict(extras=("anchor",)), "F64"),
    "adam-path": (dict(type="adam", weight_decay=0.02), 0.01, {}, "F64"),
    "rmsprop-path": (dict(type="rmsprop", beta2=0.95), 0.003, dict(batch=8, probe=True), "F32"),
    "mini-sgd": (dict(type="sgd", momentum=0.5), 0.05, MINI, "F64"),
    "mini-adamw": (dict(type="adamw", weight_decay=0.01), 0.01, dict(MINI, clip=0.8), "F32"),
    "mini-path": (dict(type="sgd"), 0.2, dict(batch=8, probe=True), "F32"),
    "mini-sparse": (dict(type="sgd", momentum=0.5), 0.1, dict(batch=8, probe=lambda t: t % 4 > 1),
                    "F64"),
    "adamw-groups": (dict(type="adamw", lr=0.01, weight_decay=0.1, groups=GROUPS), 0.01, PROBED,
                     "JSON"),
    "coarse-loss": (dict(type="sgd"), 0.001, dict(extras=("coarse",)), "F64"),
    "heavy-clip": (dict(type="sgd", momentum=0.9), 0.02, dict(PROBED, clip=0.8), "F64"),
    "mini-blind": (dict(type="sgd", momentum=0.9), 0.02, dict(batch=6), "F64"),
}


def constants_of(declared):
    constants = {k: v for k, v in declared.items()
                 if k not in ("type", "groups", "prox", "set", "lr")}
    for part in ("prox", "set"):
        constants.update({part if k == "kind" else k: v
                          for k, v in declared.get(part, {}).items()})
    return constants


def model_of(declared):
    if "prox" in declared or "set" in declared:
        return trainings.Objective(declared["type"], constants_of(declared))
    return Network()


def job_of(name, **more):
    declared, lr, options, form = CASES[name]
    model = model_of(declared)
    rule = trainings.Optimizer(declared["type"], model.theta.size, **constants_of(declared))
    return Job(model, rule, lr, dtype="F32" if form == "F32" else "F64", **dict(options, **more))


def grouped(job, declared, rate):
    """Rate and decay of every coordinate, and what is pushed: base and groups."""
    lr, wd = np.full(job.theta.size, rate), np.full(job.theta.size,
                                                    declared.get("weight_decay", 0.0))
    for name, cut in job.slices.items():
        if name.endswith(".bias"):
            lr[cut], wd[cut] = GROUPS[0]["lr"], GROUPS[0]["weight_decay"]
    job.lr = lr
    job.rule.c["weight_decay"] = wd
    return lambda t: [rate, GROUPS[0]["lr"], declared["lr"]]


class Optimizers(OracleCase):
    def test_every_metric_of_every_step(self):
        for name, (declared, lr, _, form) in CASES.items():
            with self.subTest(name):
                job = job_of(name)
                rates = grouped(job, declared, lr) if "groups" in declared else None
                self.train(name, job, declared, 30, full_batch=not job.batch, form=form,
                           rates=rates)


class Sharpness(OracleCase):
    is_curvature_checked = True

    def test_of_the_golden_network_against_its_hessian(self):
        """Once the power iteration is warm (docs/detection.md: from the eleventh probe), on its own
        rows."""
        errors = []
        for name in ("gd", "heavy-ball", "nesterov", "adam", "adamw", "rmsprop", "mini-sgd"):
            job = job_of(name, probe_every=1)
            self.train(name, job, CASES[name][0], 40, full_batch=not job.batch)
            for step, sharpness, top in self.truths[12:]:
                self.assertIsNotNone(sharpness["value"], (name, step, sharpness))
                errors.append((abs(sharpness["value"] - top) / sharpness["error"], name, step))
                ratios.append(sharpness["value"] / top)
        within = [e for e in errors if e[0] <= 1]
        self.assertGreater(len(within), 0.9 * len(errors), sorted(errors)[-20:])
        self.assertLess(max(errors)[0], 3, sorted(errors)[-20:])


class Partials(OracleCase):
    def test_the_partial_of_a_client_gives_the_same_points(self):
        for name in ("gd", "gd-path", "gd-groups", "heavy-ball", "nesterov", "adam", "adamw",
                     "rmsprop", "signsgd", "mini-sgd", "prox-group", "proj-simplex", "anchor-adamw",
                     "rmsprop-path"):
            with self.subTest(name):
                declared, lr, _, _ = CASES[name]
                job = job_of(name)
                rates = grouped(job, declared, lr) if "groups" in declared else None
                self.train(name, job, declared, 24, full_batch=not job.batch, form="partial",
                           rates=rates)


class Instability(OracleCase):
    def test_a_rate_above_the_limit(self):
        """The level monitor's alarm, the crossing of the limit, the score: a quadratic whose rate
        is raised past 2/90."""
        model = Bowl()
        job = Job(model, trainings.Optimizer("sgd", model.theta.size), lambda t: 0.015 if t < 70
                  else 0.028, probe_every=2,
                  probe=True)
        points = self.train("bowl", job, {"type": "sgd"}, 210, full_batch=True)
        self.assertGreater(max(p["unstable_ratio"]["value"] or 0 for p in points), 1.2)
        self.assertGreater(max(p["limit_crossing"]["value"] or 0 for p in points), 1.2)
        self.assertGreater(max(p["loss_level_evidence"]["value"] or 0 for p in points), 9.21)
        self.assertGreater(max(p["instability_score"]["value"] or 0 for p in points), 0.5)


class Saddle(OracleCase):
    def test_a_negative_curvature(self):
        """The pairs find it: growth at lambda_min for plain descent and with momentum."""
        for name, declared in (("saddle", dict(type="sgd", weight_decay=0.1)),
                               ("saddle-heavy", dict(type="sgd", momentum=0.6))):
            model = Bowl()
            values, vectors = np.linalg.eigh(model.h)
            values[-1] = -25.0
            model.h = vectors * values @ vectors.T
            rule = trainings.Optimizer("sgd", model.theta.size, **constants_of(declared))
            job = Job(model, rule, 0.004, probe_every=2)
            job.direction = vectors[:, -1] + 0.02 * vectors[:, -2]
            points = self.train(name, job, declared, 30, full_batch=True)
            self.assertLess(min(p["curvature_min"]["value"] or 0 for p in points), -20)
            self.assertGreater(points[-1]["rate_at_lambda_min"]["value"], 0)


class Drift(OracleCase):
    def test_of_the_probe_over_many_batch_means(self):
        """Past the burn-in of 32 batch means, into a higher rate: mini-batches with a probe."""
        job = Job(Network(), trainings.Optimizer("sgd", 103), lambda t: 0.05 if t < 560 else 0.4,
                  batch=4, probe=True, extras=("same_batch",))
        points = self.train("drift", job, {"type": "sgd"}, 640)
        levels = [p["energy_drift"]["value"] for p in points]
        self.assertIsNone(levels[510])
        self.assertEqual(points[510]["energy_drift"]["reason"], "warming-up")
        self.assertIsNotNone(levels[512])
        self.assertGreater(points[-1]["energy_drift"]["error"], 0)
        self.assertIsNotNone(points[-1]["drift_evidence"]["value"])
        self.assertIsNotNone(points[-1]["mean_square_gain"]["value"])


class Perturbations(OracleCase):
    def test_twins_of_real_trainings(self):
        """Rates, gains and verdicts of four twins, `active` among them, past a full window."""
        for name, declared, lr, horizon, model in (
                ("twins-sgd", dict(type="sgd"), 0.5, 1000, Network()),
                ("twins-heavy", dict(type="sgd", momentum=0.9), 0.02, None, Network()),
                ("twins-adamw", dict(type="adamw", weight_decay=0.1), 0.02, 500, Network()),
                ("twins-unstable", dict(type="sgd"), 0.024, 10000, Bowl())):
            with self.subTest(name):
                rule = trainings.Optimizer(declared["type"], model.theta.size,
                                           **constants_of(declared))
                batch = 8 if isinstance(model, Network) else 0
                job = Job(model, rule, lr, batch=batch, extras=("twins",))
                points = self.train(name, job, declared, 80, horizon=horizon)
        self.assertGreater(points[-1]["sensitive_horizon"]["value"], 0)


class Representation(OracleCase):
    def test_declared_layers_and_pushed_activations(self):
        for name, model in (("layered", trainings.Layered()), ("residual", trainings.Residual())):
            with self.subTest(name):
                rule = trainings.Optimizer("sgd", model.theta.size)
                self.train(name, Job(model, rule, 0.1, extras=("acts",)), {"type": "sgd"}, 30,
                           full_batch=True)


class Still(OracleCase):
    def test_tensors_that_do_not_take_part(self):
        model = trainings.Idle()
        job = Job(model, trainings.Optimizer("sgd", model.theta.size), 0.05, dtype="F32")
        points = self.train("idle", job, {"type": "sgd"}, 45, form="F32")
        self.assertEqual(points[-1]["dead_tensors"]["value"], 1)
        self.assertEqual(points[-1]["stuck_tensors"]["value"], 1)


# Metrics that no reference is made for, each with the reason.
NOT_COMPARED = {}


class Table(unittest.TestCase):
    """Runs last (load_tests below)."""

    def test_every_metric_of_the_table_is_compared(self):
        if not was_everything_run:
            self.skipTest("other tests were left out or failed")
        found = {("tensor" if is_tensor else "point", name) for is_tensor, name in documented()}
        missing = found - compared
        print("of %d metrics %d are compared; not: %s"
              % (len(found), len(found & compared), sorted(missing)), file=sys.stderr)
        self.assertEqual(missing - set(NOT_COMPARED), set(), "neither compared nor explained")
        self.assertEqual(set(NOT_COMPARED) - missing, set(), "explained, but compared")
        self.assertEqual(compared - found, set(), "compared, but not in docs/metrics.md")


def documented():
    """(is of a tensor, name) of the tables of docs/metrics.md."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "docs", "metrics.md")
    with open(path, encoding="utf-8") as file:
        parts = file.read().split("\n## ")
    for part in parts[1:]:
        if part.startswith(("Of a point", "Of a tensor")):
            for line in part.splitlines():
                if line.startswith("| `"):
                    yield part.startswith("Of a tensor"), line.split("`")[1]


was_everything_run = False


class Marked(unittest.TestSuite):
    """Everything but the table."""

    def run(self, result, debug=False):
        global was_everything_run
        super().run(result, debug)
        was_everything_run = result.wasSuccessful()
        return result


def load_tests(loader, tests, pattern):
    if loader.testNamePatterns:
        return tests
    cases = [value for value in globals().values()
             if isinstance(value, type) and issubclass(value, unittest.TestCase)]
    own = [case for case in cases if case.__module__ == __name__ and case is not Table]
    suite = unittest.TestSuite([Marked([loader.loadTestsFromTestCase(case) for case in own])])
    suite.addTest(loader.loadTestsFromTestCase(Table))
    return suite


def print_table():
    if ratios:
        print("sharpness / exact: %.3f .. %.3f of %d" % (min(ratios), max(ratios), len(ratios)),
              file=sys.stderr)
    for name, found in sorted(table.items()):
        print("%-32s %.1e" % (name, found), file=sys.stderr)


if __name__ == "__main__":
    if os.environ.get("LYAPD_ORACLE_TABLE"):
        unittest.addModuleCleanup(print_table)
    unittest.main()
