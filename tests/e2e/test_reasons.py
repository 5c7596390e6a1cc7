"""What lyapd must not say: after a gap, a restart, a late start, a wrong declaration, rounding, a
skipped or non-finite step, every metric that cannot be known is absent with the reason that
docs/spec.md, docs/wire.md and docs/metrics.md give."""
import os
import sys
import unittest

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)),
                os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "http")]
import reference  # noqa: E402
import numpy as np  # noqa: E402
import trainings  # noqa: E402
from blackbox import DaemonCase  # noqa: E402
from trainings import Job, Network, Optimizer  # noqa: E402

TWO_SNAPSHOTS = ("update_norm", "update_ratio", "grad_cosine", "update_cosine",
                 "curvature_along_step", "secant_curvature",
                 "net_work", "overshoot_work", "update_identity", "delta_precision",
                 "work_residual", "energy_change",
                 "sufficient_decrease")
STEP = ("predicted_decrease", "predicted_change")
LIMITS = ("stability_limit", "stability_ratio", "transition_rate")
ENERGIES = reference.ENERGIES


class ReasonCase(DaemonCase):
    def start(self, declared, lr, full_batch=False, **options):
        job = Job(Network(), Optimizer(declared["type"], 103, **{k: v for k, v in declared.items()
                                                                 if k != "type"}), lr, **options)
        document = {"optimizer": declared,
                    "tensors": [{"name": n, "shape": list(s)} for n, s in job.model.shapes.items()]}
        if full_batch:
            document["data"] = "full-batch"
        self.daemon.put("/v1/runs/r", document)
        return job, iter(job)

    def push(self, job, s, dtype="F64", lr=True, **more):
        s = dict(s, **more)
        metadata = trainings.metadata_of(s, s["lr"])
        if not lr:
            del metadata["lr"]
        return self.ok(self.daemon.push_tensors("r",
                                                trainings.tensors_of(s, job.slices,
                                                                     job.model.shapes, dtype),
                                                metadata))

    def absent(self, answer, reason, *names):
        for name in names:
            metric = answer["metrics"][name]
            self.assertEqual((metric["value"], metric.get("reason")), (None, reason), name)

    def present(self, answer, *names):
        for name in names:
            self.assertIsNotNone(answer["metrics"][name]["value"], (name, answer["metrics"][name]))

    def value(self, answer, name):
        self.present(answer, name)
        return answer["metrics"][name]["value"]


class State(ReasonCase):
    def test_a_late_joiner_is_asked_once_for_its_state(self):
        job, stream = self.start({"type": "adam"}, 0.01)
        for _ in range(5):
            s = next(stream)
        first = self.push(job, s)
        self.absent(first, "needs-optimizer-state", *STEP, "second_moment_ratio")
        self.assertEqual(sorted(first["want"]), ["exp_avg", "exp_avg_sq"])
        second = self.push(job, next(stream))
        self.assertEqual(second["want"], [])
        self.absent(second, "needs-optimizer-state", *STEP, "second_moment_ratio",
                    "update_identity", "update_norm_p",
                    "secant_curvature", "edge_ratio")
        self.present(second, "update_norm", "net_work", "overshoot_work", "curvature_along_step")
        s = next(stream)
        third = self.push(job, s, m=job.rule.m, v=job.rule.v, optimizer_step=job.rule.t)
        twin = job.rule.copy()
        p = twin.update(s["theta"], s["g"], s["lr"])
        expected = -float(s["g"] @ p) / self.value(third, "progress_scale")
        self.assertAlmostEqual(self.value(third, "predicted_decrease") / expected, 1, 6)
        rms = [np.sqrt(np.mean((s["g"] ** 2 / twin.v_hat)[c])) for c in job.slices.values()]
        self.assertAlmostEqual(self.value(third, "second_moment_ratio") / max(rms), 1, 6)
        fourth = self.push(job, next(stream))
        self.assertLess(self.value(fourth, "update_identity"), 1e-6)
        self.present(fourth, "update_norm_p", "secant_curvature", "edge_ratio", *STEP)

    def test_a_gap_loses_what_was_rebuilt(self):
        job, stream = self.start({"type": "adamw", "weight_decay": 0.01}, 0.01, batch=8)
        for _ in range(5):
            answer = self.push(job, next(stream))
        self.present(answer, *STEP, "update_identity")
        next(stream)
        answer = self.push(job, next(stream))
        self.assertTrue(answer["gap"])
        self.absent(answer, "needs-optimizer-state", *STEP, "second_moment_ratio")
        self.assertIn(answer["metrics"]["update_identity"]["reason"],
                      ("step-gap", "needs-optimizer-state"))
        self.assertEqual(sorted(answer["want"]), ["exp_avg", "exp_avg_sq"])

    def test_a_restart_loses_it_too(self):
        job, stream = self.start({"type": "adam"}, 0.01)
        for _ in range(5):
            self.push(job, next(stream))
        self.daemon.kill()
        self.daemon.start()
        answer = self.push(job, next(stream))
        self.absent(answer, "no-previous-snapshot", *TWO_SNAPSHOTS)
        self.absent(answer, "needs-optimizer-state", *STEP, "second_moment_ratio")
        self.assertEqual(sorted(answer["want"]), ["exp_avg", "exp_avg_sq"])
        self.absent(self.push(job, next(stream)), "needs-optimizer-state", "update_identity",
                    "update_norm_p", *STEP)

    def test_a_wrong_declaration_drops_it(self):
        """Declared as Adam with another beta1: omega says so, formulas and the rebuilt state go."""
        job, stream = self.start({"type": "adam"}, 0.01, full_batch=True)
        self.daemon.put("/v1/runs/r", {"optimizer": {"type": "adam", "beta1": 0.3}})
        for _ in range(3):
            answer = self.push(job, next(stream))
        self.assertGreater(self.value(answer, "update_identity"), 0.05)
        self.absent(answer, "optimizer-mismatch", "stability_limit", *ENERGIES)
        self.absent(self.push(job, next(stream)), "needs-optimizer-state", "update_identity", *STEP)


class Momentum(ReasonCase):
    HEAVY = {"type": "sgd", "momentum": 0.9}

    def test_a_warm_up_from_a_zero_rate_is_no_mismatch(self):
        """D_0 = 0 says nothing of the momentum g_0 that it left behind."""
        for kind in (self.HEAVY, dict(self.HEAVY, nesterov=True), {"type": "sgd"}, {"type": "adam"},
                     {"type": "rmsprop", "momentum": 0.5, "beta2": 0.99}):
            job, stream = self.start(kind, lambda t: 0.01 * min(t / 4, 1), full_batch=True)
            self.daemon.put("/v1/runs/r", {"attempt": "new", "attempt_key": repr(kind)})
            for step in range(8):
                answer = self.push(job, next(stream))
                omega = answer["metrics"]["update_identity"]["value"]
                self.assertTrue(omega is None or omega < 1e-6, (kind, step, omega))
            self.present(answer, "update_identity", *STEP)

    def test_a_late_joiner_and_a_gap_do_not_know_it(self):
        job, stream = self.start(self.HEAVY, 0.02)
        for _ in range(5):
            s = next(stream)
        first = self.push(job, s)
        self.assertEqual([first["metrics"][n]["value"] for n in STEP], [None, None])
        second = self.push(job, next(stream))
        self.assertIsNone(second["metrics"]["update_identity"]["value"])
        self.present(second, "predicted_decrease")
        self.assertLess(self.value(self.push(job, next(stream)), "update_identity"), 1e-9)
        next(stream)
        after = self.push(job, next(stream))
        self.absent(after, "step-gap", "update_identity")
        self.assertEqual([after["metrics"][n]["value"] for n in STEP], [None, None])
        self.assertIsNone(self.push(job, next(stream))["metrics"]["update_identity"]["value"])
        self.assertLess(self.value(self.push(job, next(stream)), "update_identity"), 1e-9)

    def test_clipping_with_momentum(self):
        job, stream = self.start(self.HEAVY, 0.05, full_batch=True, clip=0.5, probe_every=1)
        for _ in range(10):
            answer = self.push(job, next(stream))
        self.assertLess(self.value(answer, "update_identity"), 1e-9)
        self.present(answer, "energy", "energy_change")

    def test_a_clip_factor_is_divided_out(self):
        job, stream = self.start(self.HEAVY, 0.05, full_batch=True)
        document = {"optimizer": self.HEAVY, "data": "full-batch"}
        self.daemon.put("/v1/runs/f", document)
        for _ in range(6):
            s = next(stream)
            plain = self.push(job, s)["metrics"]
            half = dict(s, g=s["g"] * 0.25)
            tensors = trainings.tensors_of(half, job.slices, job.model.shapes)
            reply = self.daemon.push_tensors("f", tensors,
                                             trainings.metadata_of(half, s["lr"], clip_factor=0.25))
            for name, metric in self.ok(reply)["metrics"].items():
                if name not in ("update_cosine", "sharpness", "sharpness_residual",
                                "visited_curvature"):
                    x, y = plain[name]["value"], metric["value"]
                    self.assertEqual(x is None, y is None, name)
                    self.assertTrue(x is None or name not in ("grad_norm", "net_work",
                                                              "update_identity", "work_residual",
                                                              "predicted_decrease")
                                    or abs(x - y) < 1e-12, (name, x, y))

    def test_a_tensor_without_gradient_is_frozen(self):
        """No update, in spite of weight decay and momentum."""
        declared = dict(self.HEAVY, weight_decay=0.1)
        job, stream = self.start(declared, 0.05)
        frozen = job.slices["fc1.weight"]
        decay = np.full(103, 0.1)
        decay[frozen] = 0
        job.rule.c["weight_decay"] = decay
        for _ in range(6):
            s = job.snapshot()
            s["g"][frozen] = 0
            tensors = trainings.tensors_of(s, job.slices, job.model.shapes)
            del tensors["grad/fc1.weight"]
            answer = self.ok(self.daemon.push_tensors("r", tensors,
                                                      trainings.metadata_of(s, s["lr"])))
            p = job.rule.copy().update(s["theta"], s["g"], s["lr"])
            expected = -float(s["g"] @ p) / self.value(answer, "progress_scale")
            self.assertAlmostEqual(self.value(answer, "predicted_decrease"), expected, 10)
            job.advance(s)
        self.assertLess(self.value(answer, "update_identity"), 1e-9)

    def test_a_pushed_update_spans_a_gap(self):
        """It is the last update alone; what needs the gradient before it is absent."""
        job, stream = self.start({"type": "sgd"}, 0.3, full_batch=True, extras=("delta",))
        for _ in range(4):
            self.push(job, next(stream))
        next(stream)
        s = next(stream)
        answer = self.push(job, s)
        self.assertAlmostEqual(self.value(answer, "update_norm"), float(np.linalg.norm(s["delta"])),
                               12)
        expected = float(s["g"] @ s["delta"]) / self.value(answer, "progress_scale")
        self.assertAlmostEqual(self.value(answer, "overshoot_work"), expected, 12)
        self.absent(answer, "step-gap", "update_identity", "net_work", "curvature_along_step",
                    "work_residual", *ENERGIES)

    def test_a_new_attempt_inherits_the_reference_loss(self):
        job, stream = self.start({"type": "sgd"}, 0.3)
        first = reference.Detector()
        for _ in range(8):
            s = next(stream)
            self.push(job, s)
            first.loss(s["loss"])
        self.ok(self.daemon.put("/v1/runs/r", {"attempt": "new", "attempt_key": "k"}))
        second = reference.Detector(first.reference)
        for step in range(8):
            s = next(stream)
            answer = self.push(job, s)
            scale, excess = second.loss(s["loss"])[:2]
            self.assertAlmostEqual(self.value(answer, "progress_scale"), scale, 13)
            self.assertAlmostEqual(self.value(answer, "loss_excess"), excess, 12)
            if step == 0:
                self.absent(answer, "no-previous-snapshot", *TWO_SNAPSHOTS)


class Declaration(ReasonCase):
    def test_a_wrong_optimizer_is_named_and_its_formulas_are_silent(self):
        job, stream = self.start({"type": "sgd"}, 0.3, full_batch=True, probe_every=1)
        self.daemon.put("/v1/runs/r", {"optimizer": {"type": "sgd", "momentum": 0.9}})
        wrong, last = Optimizer("sgd", 103, momentum=0.9), None
        for step in range(14):
            s = next(stream)
            answer = self.push(job, s)
            if step > 1:
                d = s["theta"] - last["theta"]
                # heavy ball: -eta g + beta D_{t-1}; the momentum follows from the pushed D
                omega = np.linalg.norm(d - (-0.3 * last["g"] + 0.9 * before)) / np.linalg.norm(d)
                self.assertAlmostEqual(self.value(answer, "update_identity"), omega, 9)
                self.absent(answer, "optimizer-mismatch", *LIMITS, *ENERGIES, "sufficient_decrease",
                            "relative_error")
                self.present(answer, "net_work", "work_residual")
            before = s["theta"] - last["theta"] if last else None
            last = s
        self.present(answer, "sharpness")
        self.assertEqual(wrong.t, 0)
        self.assertEqual([a["rule"] for a in self.ok(self.daemon.get("/v1/alerts?run=r"))["alerts"]
                          if a["rule"] == "optimizer-mismatch"], ["optimizer-mismatch"])

    def test_nothing_declared(self):
        job = Job(Network(), Optimizer("sgd", 103), 0.3)
        for s, _ in zip(job, range(4)):
            answer = self.push(job, s, lr=False)
        self.absent(answer, "no-lr", "lr")
        self.absent(answer, "no-optimizer", *STEP, *LIMITS, "update_identity")
        self.absent(answer, "different-batch", "work_residual", "inconsistency", *ENERGIES,
                    "sharpness")
        self.present(answer, "net_work", "overshoot_work", "update_norm", "curvature_along_step")

    def test_no_rate(self):
        job, stream = self.start({"type": "sgd"}, 0.3, full_batch=True)
        for _ in range(4):
            answer = self.push(job, next(stream), lr=False)
        self.absent(answer, "no-lr", "lr", *STEP, *LIMITS, "edge_ratio", "energy",
                    "sufficient_decrease")
        self.present(answer, "work_residual", "net_work")

    def test_sign_methods_have_no_linear_limit_and_sgd_no_second_moment(self):
        job, stream = self.start({"type": "lion", "beta1": 0.9, "beta2": 0.99}, 0.01,
                                 full_batch=True)
        for _ in range(3):
            answer = self.push(job, next(stream))
        self.absent(answer, "no-linear-limit", *LIMITS, "edge_ratio")
        self.absent(answer, "not-applicable", "second_moment_ratio")


class Function(ReasonCase):
    def test_two_batches_are_not_one_function_and_equal_ids_are(self):
        job, stream = self.start({"type": "sgd"}, 0.2, batch=8)
        for step in range(8):
            s = next(stream)
            if step in (3, 6):  # the same rows again
                job.rows = job.last_rows
                loss, g = job.model.at(s["theta"], job.rows)
                s.update(loss=float(loss), g=g)
            answer = self.push(job, s, batch_id="batch %d" % (step - (step in (3, 6))))
            if step in (3, 6):
                self.present(answer, "work_residual", "energy", "sufficient_decrease",
                             "relative_error", "curvature_along_step")
                self.assertEqual(answer["metrics"]["curvature_along_step"]["trust"], "I")
            elif step:
                self.absent(answer, "different-batch", "work_residual", "inconsistency", *ENERGIES,
                            "sufficient_decrease", "sharpness")
                self.assertEqual(answer["metrics"]["curvature_along_step"]["trust"], "C")

    def test_a_gap(self):
        """W, A and kappa are those over the gap; what needs the very update is absent."""
        job, stream = self.start({"type": "sgd"}, 0.3, full_batch=True)
        for _ in range(4):
            s = next(stream)
            self.push(job, s)
        next(stream)
        now = next(stream)
        answer = self.push(job, now)
        self.absent(answer, "step-gap", "update_identity", *ENERGIES, "sufficient_decrease",
                    "relative_error", "update_cosine")
        d, scale = now["theta"] - s["theta"], self.value(answer, "progress_scale")
        self.assertAlmostEqual(self.value(answer, "overshoot_work"), float(now["g"] @ d) / scale,
                               12)
        self.assertAlmostEqual(self.value(answer, "net_work"),
                               float((now["g"] + s["g"]) @ d) / 2 / scale, 12)
        self.assertAlmostEqual(self.value(answer, "curvature_along_step"),
                               float((now["g"] - s["g"]) @ d) / float(d @ d), 10)
        self.present(answer, "work_residual", *STEP)

    def test_no_loss_and_a_zero_update(self):
        job, stream = self.start({"type": "sgd"}, lambda t: 0.3 if t < 2 else 0.0, full_batch=True)
        for _ in range(2):
            s = next(stream)
            self.push(job, s)
        s = next(stream)
        del s["loss"]
        answer = self.push(job, dict(s))
        self.absent(answer, "no-loss", "loss", "work_residual", *ENERGIES, "loss_excess",
                    "loss_ratio")
        self.present(answer, "net_work")
        s["loss"] = 1.0
        s = next(stream)
        answer = self.push(job, s)
        self.absent(answer, "zero-update", "update_identity", "curvature_along_step",
                    "delta_precision", "update_cosine")
        self.assertEqual(self.value(answer, "update_norm"), 0)


class Values(ReasonCase):
    def test_bf16_parameters_drown_small_updates(self):
        job, stream = self.start({"type": "sgd"}, 0.005, full_batch=True, probe_every=0)
        for _ in range(4):
            s = dict(next(stream))
            tensors = {}
            for name, roles in trainings.arrays_of(s, job.slices).items():
                for role, x in roles.items():
                    bits = reference.oracle.to_bf16(x.astype(np.float32)).view(np.uint32) >> 16
                    raw = bits.astype("<u2").tobytes()
                    tensors[role + "/" + name] = (job.model.shapes[name], raw, "BF16")
            answer = self.ok(self.daemon.push_tensors("r", tensors,
                                                      trainings.metadata_of(s, s["lr"])))
        kept = reference.oracle.to_bf16(s["theta"].astype(np.float32)).astype(float)
        ratio = reference.oracle.delta_noise_ratio(np.linalg.norm(kept),
                                                   self.value(answer, "update_norm"), 2.0**-8)
        self.assertGreater(ratio, 0.1)
        self.assertAlmostEqual(self.value(answer, "delta_precision"), ratio, 12)
        self.absent(answer, "delta-precision", "sharpness", "work_residual", "inconsistency",
                    *ENERGIES, "sufficient_decrease",
                    "relative_error")

    def test_a_skipped_step_leaves_no_mark(self):
        job, stream = self.start({"type": "adam"}, 0.01, full_batch=True)
        for _ in range(4):
            self.push(job, next(stream))
        s = next(stream)
        bad = dict(s, g=np.full(103, np.inf), skipped="true")
        answer = self.push(job, bad)
        self.assertTrue(answer["event_only"])
        self.absent(answer, "skipped", *TWO_SNAPSHOTS, *STEP, *LIMITS, *ENERGIES)
        answer = self.push(job, dict(s, step=s["step"] + 1))
        self.assertLess(self.value(answer, "update_identity"), 1e-6)
        self.present(answer, *STEP, "work_residual", "energy", "update_cosine")
        job.advance(s)
        answer = self.push(job, dict(job.snapshot(), step=s["step"] + 2))
        self.assertLess(self.value(answer, "update_identity"), 1e-6)

    def test_a_nonfinite_step_is_a_gap(self):
        job, stream = self.start({"type": "sgd"}, 0.3, full_batch=True)
        for _ in range(4):
            self.push(job, next(stream))
        s = next(stream)
        g = s["g"].copy()
        g[3] = np.nan
        answer = self.push(job, dict(s, g=g))
        self.assertTrue(answer["event_only"])
        self.assertEqual(self.value(answer, "nonfinite_grad"), 1)
        self.absent(answer, "nonfinite", *TWO_SNAPSHOTS, *STEP, *LIMITS, *ENERGIES, "grad_norm")
        answer = self.push(job, next(stream))
        self.absent(answer, "step-gap", "update_identity", *ENERGIES)
        self.present(answer, "net_work", *STEP)

    def test_no_tensors(self):
        for step in range(3):
            answer = self.ok(self.daemon.push_json("bare", {"step": step, "loss": 1.0 / (step + 1),
                                                            "lr": 0.1}))
        self.absent(answer, "no-tensors", "param_norm", "grad_norm", *TWO_SNAPSHOTS)
        self.present(answer, "loss_excess", "loss_ratio", "progress_scale")

    def test_sketch_retention_keeps_no_snapshots(self):
        job, stream = self.start({"type": "sgd", "momentum": 0.9}, 0.05, full_batch=True)
        self.daemon.put("/v1/runs/r", {"retention": "sketch"})
        for _ in range(5):
            answer = self.push(job, next(stream))
        self.absent(answer, "sketch-retention", "work_residual", "inconsistency", "update_identity")
        self.present(answer, "update_norm", "net_work", "energy", "update_cosine")
        rows = self.ok(self.daemon.get("/v1/runs/r/tensors"))["tensors"]
        for row in rows:
            self.assertIsNone(row["metrics"]["update_norm"])
            self.assertIsNone(row["metrics"]["update_z"])


if __name__ == "__main__":
    unittest.main()
