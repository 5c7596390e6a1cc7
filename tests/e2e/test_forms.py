"""The same numbers by other ways: narrow and extreme dtypes, sketches alone, pushed state, stored
series, a clean restart."""
import os
import sys
import unittest

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)),
                os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "http")]
import reference  # noqa: E402
import numpy as np  # noqa: E402
import trainings  # noqa: E402
from test_invariances import ADAMW, SGD, InvarianceCase  # noqa: E402
from trainings import Wide  # noqa: E402


class Dtypes(InvarianceCase):
    def bodies(self):
        """(dtype, bytes, the numbers they mean)."""
        random = np.random.default_rng(3)
        wild = random.normal(size=1003) * 10.0 ** random.integers(-45, 38, 1003)
        yield "F64", (wild * 1e100).tobytes(), wild * 1e100
        for x in (wild.astype("<f4"), (random.normal(size=1003) * 1e-6).astype("<f2"),
                  (random.normal(size=1003) * 1e3).astype("<f2")):
            yield {4: "F32", 2: "F16"}[x.itemsize], x.tobytes(), x.astype(np.float64)
        raw = random.integers(0, 0x7F00,
                              1003).astype("<u2") | (random.integers(0, 2,
                                                                     1003).astype("<u2") << 15)
        yield "BF16", raw.tobytes(), (raw.astype("<u4") << 16).view("<f4").astype(np.float64)

    def test_every_dtype_is_widened_exactly(self):
        for i, (dtype, raw, x) in enumerate(self.bodies()):
            x = np.where(np.arange(x.size) % 9, x, 0)
            width = len(raw) // x.size
            raw = b"".join(raw[j * width:(j + 1) * width] if j % 9 else b"\0" * width
                           for j in range(x.size))
            tensors = {"param/w": ((17, 59), raw, dtype), "grad/w": ((17, 59), raw, dtype)}
            got = self.ok(self.daemon.push_tensors("t%d" % i, tensors,
                                                   {"step": 0, "loss": 1, "lr": 0.1}))["metrics"]
            row = self.rows("t%d" % i)["w"]
            norm = float(np.abs(x).max()) * float(np.linalg.norm(x / np.abs(x).max()))
            for value in (got["param_norm"]["value"], got["grad_norm"]["value"], row["param_norm"]):
                self.assertLess(abs(value / norm - 1), 1e-12, (dtype, value, norm))
            self.assertEqual(row["abs_max"], float(np.abs(x).max()), dtype)
            self.assertAlmostEqual(row["zero_fraction"], float((x == 0).mean()), 15)

    def test_counts_of_what_is_not_finite(self):
        for dtype, kind in (("F64", "<f8"), ("F32", "<f4"), ("F16", "<f2")):
            x = np.ones(300, kind)
            x[[0, 63, 64, 299]], x[[5, 128]] = np.nan, [np.inf, -np.inf]
            tensors = {"param/w": ((300,), x.tobytes(), dtype),
                       "grad/w": ((300,), np.ones(300, kind).tobytes(), dtype)}
            got = self.ok(self.daemon.push_tensors("n" + dtype, tensors,
                                                   {"step": 0, "loss": 1, "lr": 0.1}))["metrics"]
            self.assertEqual((got["nonfinite_param"]["value"], got["nonfinite_grad"]["value"]),
                             (6, 0))
            self.assertEqual(got["param_norm"]["reason"], "nonfinite")

    def test_the_largest_elements(self):
        """Up to 2^480 squares neither overflow nor lose digits; what is above counts as not finite
        (docs/sketch.md)."""
        ones = np.ones(130).tobytes()
        for run, size in (("huge", 2.0**480), ("beyond", 2.0**481)):
            x = np.linspace(0.5, 1, 130) * size
            tensors = {"param/w": ((130,), x.tobytes(), "F64"), "grad/w": ((130,), ones, "F64")}
            got = self.ok(self.daemon.push_tensors(run, tensors,
                                                   {"step": 0, "loss": 1, "lr": 0.1}))["metrics"]
            above = int((x > 2.0**480).sum())
            self.assertEqual(got["nonfinite_param"]["value"], above)
            if above:
                self.assertEqual(got["param_norm"]["reason"], "nonfinite")
            else:
                want = size * float(np.linalg.norm(x / size))
                self.assertLess(abs(got["param_norm"]["value"] / want - 1), 1e-12,
                                (size, got["param_norm"]))


class Sketches(InvarianceCase):
    def expected(self, last, s, sk, scale):
        """What two snapshots' sketches say."""
        d, g0, g1 = sk(s["theta"]) - sk(last["theta"]), sk(last["g"]), sk(s["g"])
        norms = float(np.linalg.norm(s["g"]) * np.linalg.norm(last["g"]))
        return {"update_norm": float(np.linalg.norm(d)),
                "net_work": float((g0 + g1) @ d) / 2 / scale,
                "overshoot_work": float(g1 @ d) / scale,
                "curvature_along_step": float((g1 - g0) @ d) / float(d @ d),
                "update_ratio": float(np.linalg.norm(d) / np.linalg.norm(last["theta"])),
                "grad_cosine": min(max(float(g0 @ g1) / norms, -1), 1)}

    def test_sketch_retention_and_the_least_partial(self):
        """A full push in sketch retention and a partial of the required rows alone: from the same
        definition of the sketch."""
        job = self.training(SGD, 0.01, Wide())
        for run, retention in (("full", "sketch"), ("partial", "auto")):
            seed = self.declare(run, SGD, job.model.shapes, retention=retention, data="full-batch")
            sk = lambda x: reference.sketch({n: x[c] for n, c in job.slices.items()},
                                            seed)  # noqa: E731
            client, last = trainings.PartialClient(job.slices, job.model.shapes, job.rule.copy(),
                                                   seed, 2.0**-53), None
            for s in self.snapshots(self.training(SGD, 0.01, Wide()), 6):
                if run == "full":
                    got = self.whole(run, s, job)["metrics"]
                else:
                    rows = client.tensors(s, None)
                    least = {n: t for n, t in rows.items() if n in ("sketch/param", "sketch/grad")
                             or n.startswith("reduce/param_")
                             or n.startswith("reduce/grad_")
                             and n[12:] in ("count", "sq", "abs", "zeros", "nonfinite", "max",
                                            "block_sq")}
                    self.assertEqual(len(least), 16)
                    keys = trainings.metadata_of(s, s["lr"], **client.keys())
                    got = self.ok(self.daemon.push_tensors(run, least, keys))["metrics"]
                if last:
                    for name, want in self.expected(last, s, sk,
                                                    got["progress_scale"]["value"]).items():
                        self.assertIsNotNone(got[name]["value"], (run, s["step"], name, got[name]))
                        self.assertLess(abs(got[name]["value"] - want), 1e-9 * max(abs(want), 1),
                                        (run, s["step"], name))
                        self.assertEqual(got[name]["trust"], "E", (run, name))
                last = s

    def test_pushed_state_makes_the_coming_update_exact(self):
        """Sketch retention keeps no m and v: with them in the push P is exact, side by side or
        not."""
        job = self.training(ADAMW, 0.01)
        self.declare("near", ADAMW, job.model.shapes, retention="sketch")
        self.declare("bare", ADAMW, job.model.shapes, retention="sketch")
        for s, _ in zip(job, range(6)):
            with_state = dict(s, m=job.rule.m, v=job.rule.v, optimizer_step=job.rule.t)
            near = self.whole("near", with_state, job)["metrics"]
            bare = self.whole("bare", s, job)["metrics"]
            twin = job.rule.copy()
            want = -float(s["g"] @ twin.update(s["theta"], s["g"],
                                               s["lr"])) / near["progress_scale"]["value"]
            self.assertLess(abs(near["predicted_decrease"]["value"] - want), 1e-9 * abs(want),
                            s["step"])
            if s["step"]:
                self.assertEqual(bare["predicted_decrease"].get("reason"), "needs-optimizer-state",
                                 s["step"])


class Stored(InvarianceCase):
    def test_the_series_are_what_was_answered(self):
        job = self.training(dict(type="sgd"), 0.4, probe_every=2, probe=True)
        self.declare("r", dict(type="sgd"), job.model.shapes, data="full-batch", windows=[8])
        found = [self.whole("r", s, job)["metrics"] for s in self.snapshots(job, 70)]
        document = self.ok(self.daemon.get("/v1/runs/r/profile?limit=1000"))
        self.assertEqual(document["step"], list(range(70)))
        names = set(found[0]) & set(document["series"])
        self.assertEqual(names, set(found[0]))
        for name in names:
            self.assertEqual(document["series"][name], [p[name]["value"] for p in found], name)
        query = "metric=loss&metric=sharpness&points=10"
        rolled = self.ok(self.daemon.get("/v1/runs/r/profile?" + query))
        size = rolled["resolution"]
        self.assertGreater(size, 1)
        for name in ("loss", "sharpness"):
            whole = [p[name]["value"] for p in found]
            present = [v for v in whole if v is not None]
            self.assertEqual(min(v for v in rolled["min"][name] if v is not None), min(present))
            self.assertEqual(max(v for v in rolled["max"][name] if v is not None), max(present))

    def restarted(self, kill):
        declared = dict(type="sgd", momentum=0.5)
        run = "kill" if kill else "stop"
        job = self.training(declared, 0.1, probe_every=1)
        seed = self.declare(run, declared, job.model.shapes, data="full-batch")
        ref = reference.Reference(job.slices, job.rule.copy(), seed, True)
        for s in self.snapshots(job, 34):
            if s["step"] == 20:
                if kill:
                    self.daemon.kill()
                else:
                    self.assertEqual(self.daemon.stop(), 0)
                self.daemon.start()
                ref.restart(keep_sketches=not kill)
            got, want = self.whole(run, s, job)["metrics"], ref.push(dict(s))[0]
            if s["step"] == 20 and not kill:  # the difference of two saved sketches
                self.assertEqual((got["update_norm"]["trust"], got["energy"]["trust"]), ("E", "E"))
                self.assertEqual(got["work_residual"]["value"], None)
                continue
            for name in ("sharpness", "sharpness_residual", "visited_curvature", "stability_ratio",
                         "transition_rate",
                         "unstable_ratio", "energy", "loss_spread"):
                value = got[name]["value"]
                if isinstance(want.get(name), float):
                    self.assertIsNotNone(value, (run, s["step"], name, got[name]))
                    self.assertLess(abs(value - want[name]), 1e-8 * max(abs(want[name]), 1),
                                    (run, s["step"], name))
                else:
                    self.assertIsNone(value, (run, s["step"], name))

    def test_sketch_windows_survive_a_clean_stop(self):
        self.restarted(kill=False)

    def test_sketch_windows_refill_after_a_kill(self):
        self.restarted(kill=True)


class Losses(InvarianceCase):
    def series(self, start, jumps, noise, count):
        random, level, out = np.random.default_rng(12), start, []
        for t in range(count):
            level += jumps.get(t, 0.0)
            out.append(level + noise * float(random.normal()))
        return out

    def test_losses_alone(self):
        """Detector and level monitor on series that jump, also below zero, where the monitor is
        linear from then on."""
        for run, losses in (("positive", self.series(1.0, {150: 2.0, 260: 9.0}, 0.02, 340)),
                            ("negative", self.series(-1.0, {150: 3.0, 260: 1.5}, 0.02, 340)),
                            ("crossing", self.series(1.0, {40: -1.5, 190: 3.0}, 0.05, 300))):
            answers = self.daemon.push_ndjson(run, [{"step": i, "loss": x} for i,
                                                    x in enumerate(losses)])[1]
            ref, alarms = reference.Reference({}, None, 0), 0
            for i, (loss, answer) in enumerate(zip(losses, answers)):
                want, got = {}, answer["metrics"]
                ref._losses({"loss": loss}, want)
                alarms += want.get("loss_level_evidence", 0) >= np.log(1e4)
                for name in ("progress_scale", "loss_excess", "loss_spread", "loss_ratio",
                             "loss_slope", "loss_slope_t",
                             "loss_level_evidence"):
                    value = got[name]["value"]
                    self.assertEqual(value is None, name not in want,
                                     (run, i, name, got[name], want.get(name)))
                    if value is not None:
                        self.assertLess(abs(value - want[name]), 1e-9 * max(abs(want[name]), 1),
                                        (run, i, name))
            self.assertGreaterEqual(alarms, 1, run)


if __name__ == "__main__":
    unittest.main()
