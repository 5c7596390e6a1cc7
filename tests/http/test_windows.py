"""GET /v1/runs/{run}/profile/windows: mean, spread and slope over windows, against NumPy."""
import math
import unittest

import numpy as np

from blackbox import DaemonCase, Quadratic


class Windows(DaemonCase):
    def push(self, run, step, **more):
        return self.ok(self.daemon.push_json(run, dict({"step": step, "lr": 0.1}, **more)))

    def windows(self, run, query=""):
        return self.ok(self.daemon.get("/v1/runs/%s/profile/windows%s" % (run, query)))

    def check(self, got, steps, values):
        x, y = np.array(steps, float), np.array(values)
        self.assertEqual((got["count"], got["first_step"], got["last_step"]),
                         (len(values), steps[0], steps[-1]))
        self.assertAlmostEqual(got["mean"], y.mean(), delta=1e-15 * abs(y).max())  # a few roundings
        self.assertAlmostEqual(got["spread"], y.std(ddof=1), delta=1e-10)
        slope, offset = np.polyfit(x - x.mean(), y - y.mean(), 1)
        self.assertAlmostEqual(got["slope"], slope, delta=1e-9)
        rest = y - y.mean() - slope * (x - x.mean()) - offset
        error = math.sqrt(rest @ rest / (len(y) - 2) / np.sum((x - x.mean()) ** 2))
        self.assertAlmostEqual(got["slope_error"], error, delta=1e-9)

    def test_against_numpy_with_gaps_and_a_restart(self):
        random = np.random.default_rng(3)
        steps = [t for t in range(150) if t % 7 != 3]
        losses = [1e9 + float(v) for v in random.normal(size=len(steps))]  # sums of squares fail
        for t, loss in zip(steps, losses):
            self.push("r", t, loss=loss)
        before = self.windows("r", "?metric=loss&metric=lr")
        self.assertEqual([w["steps"] for w in before["windows"]], [64, 256, 1024])
        self.assertEqual(before["at"], steps[-1])
        for window in before["windows"]:
            inside = [i for i, t in enumerate(steps) if t > before["at"] - window["steps"]]
            self.check(window["metrics"]["loss"], [steps[i] for i in inside],
                       [losses[i] for i in inside])
            self.assertEqual(window["points"], len(inside))
            self.assertAlmostEqual(window["coverage"], len(inside) / window["steps"])
            self.assertEqual(window["metrics"]["lr"]["slope"], 0)
        past = self.windows("r", "?metric=loss&window=10&at=80")
        inside = [i for i, t in enumerate(steps) if 70 < t <= 80]
        self.check(past["windows"][0]["metrics"]["loss"], [steps[i] for i in inside],
                   [losses[i] for i in inside])
        self.daemon.kill()
        self.daemon.start()
        self.assertEqual(self.windows("r", "?metric=loss&metric=lr"), before)

    def test_not_enough_and_not_finite_are_said(self):
        self.push("few", 0, loss=2)
        loss = self.windows("few", "?metric=loss&metric=sharpness&window=8")["windows"][0]["metrics"]
        self.assertEqual((loss["loss"]["mean"], loss["loss"]["spread"], loss["loss"]["slope"],
                          loss["loss"]["reason"]), (2, None, None, "warming-up"))
        self.assertEqual((loss["sharpness"]["count"], loss["sharpness"]["absent"],
                          loss["sharpness"]["mean"]), (0, 1, None))
        for t, value in enumerate((1, "NaN", 3, "Infinity", 5), 1):
            self.push("few", t, loss=value)
        loss = self.windows("few", "?metric=loss&window=8")["windows"][0]["metrics"]["loss"]
        self.assertEqual((loss["count"], loss["nonfinite"], loss["mean"]), (4, 2, 11 / 4))

    def test_declared_windows_and_attempts(self):
        self.ok(self.daemon.put("/v1/runs/d", {"windows": [4, 16]}), 201)
        for t in range(20):
            self.push("d", t, loss=t)
        self.assertEqual([w["steps"] for w in self.windows("d", "?metric=loss")["windows"]], [4, 16])
        self.ok(self.daemon.put("/v1/runs/d", {"attempt": "new", "attempt_key": "k"}))
        self.push("d", 0, loss=100)
        now, old = self.windows("d", "?metric=loss"), self.windows("d", "?metric=loss&attempt=1")
        self.assertEqual(now["windows"][1]["metrics"]["loss"]["mean"], 100)
        self.assertEqual((old["at"], old["windows"][0]["metrics"]["loss"]["mean"]), (19, 17.5))

    def test_growth_of_a_twin(self):
        for t in range(80):
            self.push("t", t, loss=1, twin_log=0.1 * t)
        growth = self.windows("t", "?metric=twin_log&window=70")["windows"][0]["metrics"]["twin_log"]
        self.assertEqual(growth["growth"]["verdict"], "exponential")
        self.assertAlmostEqual(growth["growth"]["rate"], 0.1, delta=1e-9)
        growth = self.windows("t", "?metric=twin_log&window=20")["windows"][0]["metrics"]["twin_log"]
        self.assertEqual(growth["growth"], {"verdict": None, "reason": "warming-up"})

    def test_events_are_in_no_window(self):
        """A skipped step, and a push in which something is not finite (SPEC 6.4): neither their loss
        nor their rate nor their twin enters, finite or not."""
        w = lambda *x: {"param/w": {"shape": [2], "data": list(x)}, "grad/w": {"shape": [2], "data": [1, 1]}}
        for t in range(70):
            more = {"tensors": w(1, 2 - 0.01 * t)}
            if t == 20:
                more = dict(more, skipped=True, loss=500, twin_log=40)
            if t == 40:
                more = dict(more, tensors=w(1, "NaN"), loss=900, lr=7)
            if t == 50:
                more = dict(more, loss="NaN")
            self.push("e", t, **dict({"loss": 1 + 0.001 * t, "twin_log": 0.03 * t}, **more))
        kept = [t for t in range(70) if t not in (20, 40, 50)]
        query = "?metric=loss&metric=lr&metric=grad_norm&metric=twin_log&window=70"
        for _ in range(2):
            window = self.windows("e", query)["windows"][0]
            metrics = window["metrics"]
            self.assertEqual((window["points"], window["events"], window["coverage"]), (70, 3, 1))
            self.check(metrics["loss"], kept, [1 + 0.001 * t for t in kept])
            self.assertEqual((metrics["loss"]["nonfinite"], metrics["loss"]["left_out"]), (1, 2))
            self.check(metrics["lr"], kept, [0.1] * len(kept))
            self.assertEqual((metrics["lr"]["nonfinite"], metrics["lr"]["left_out"]), (0, 3))
            self.check(metrics["grad_norm"], kept, [math.sqrt(2)] * len(kept))
            growth = metrics["twin_log"]["growth"]
            self.assertLess(growth["log_gain"], 3)
            self.assertAlmostEqual(growth["rate"], 0.03, delta=1e-3)
            for found in metrics.values():
                self.assertEqual(found["count"] + found["absent"] + found["nonfinite"]
                                 + found["left_out"], window["points"])
            tensor = self.windows("e", "?metric=param_norm&tensor=w&window=70")["windows"][0]
            self.check(tensor["metrics"]["param_norm"], kept,
                       [math.hypot(1, 2 - 0.01 * t) for t in kept])
            self.daemon.kill()
            self.daemon.start()
        # What the live twin says and what the window says is one thing.
        live = self.ok(self.daemon.get("/v1/runs/e/profile/latest"))["metrics"]["twin_rate"]
        growth = self.windows("e", "?metric=twin_log&window=68")["windows"][0]["metrics"]["twin_log"]
        self.assertAlmostEqual(growth["growth"]["rate"], live["value"], delta=1e-12)

    def test_a_late_joiner(self):
        """A run that is first seen at step 100 000: windows have what there is, and say so."""
        first = 100_000
        self.ok(self.daemon.put("/v1/runs/late", {"windows": [8, 64]}), 201)
        self.push("late", first, loss=5)
        window = self.windows("late", "?metric=loss&metric=update_norm")["windows"][1]
        self.assertEqual((window["points"], window["coverage"]), (1, 1 / 64))
        self.assertEqual((window["metrics"]["loss"]["count"], window["metrics"]["loss"]["mean"]), (1, 5))
        self.assertEqual(window["metrics"]["update_norm"]["absent"], 1)
        for t in range(1, 20):
            self.push("late", first + t, loss=5 - 0.1 * t)
        now = self.windows("late", "?metric=loss")
        self.assertEqual(now["at"], first + 19)
        self.check(now["windows"][0]["metrics"]["loss"], list(range(first + 12, first + 20)),
                   [5 - 0.1 * t for t in range(12, 20)])
        self.check(now["windows"][1]["metrics"]["loss"], list(range(first, first + 20)),
                   [5 - 0.1 * t for t in range(20)])
        before = self.windows("late", "?metric=loss&at=%d" % (first - 1))["windows"][1]
        self.assertEqual((before["points"], before["coverage"], before["metrics"]["loss"]["mean"]),
                         (0, 0, None))
        beyond = self.windows("late", "?metric=loss&at=%d&window=8" % (first + 23))["windows"][0]
        self.check(beyond["metrics"]["loss"], list(range(first + 16, first + 20)),
                   [5 - 0.1 * t for t in range(16, 20)])

    def test_gaps_lose_what_needs_neighbours_and_nothing_else(self):
        """SPEC 6.5: over a gap there is no energy; what holds for any displacement is there."""
        self.ok(self.daemon.put("/v1/runs/gap", {"optimizer": {"type": "sgd"}, "data": "full-batch"}), 201)
        training = Quadratic()
        pushed = [t for t in range(60) if t % 6 < 3]  # three in a row, then three are missing
        for t in range(60):
            if t in pushed:
                self.ok(self.daemon.push_json("gap", training.snapshot()))
            training.advance()
        query = "".join("&metric=" + m for m in ("loss", "update_norm", "energy", "work_residual"))
        window = self.windows("gap", "?window=60" + query)["windows"][0]
        found = window["metrics"]
        self.assertEqual((window["points"], window["coverage"]), (30, 0.5))
        self.assertEqual((found["loss"]["count"], found["loss"]["absent"]), (30, 0))
        self.assertEqual((found["energy"]["count"], found["energy"]["absent"]), (20, 10))
        for metric in ("work_residual", "update_norm"):  # identities of any displacement
            self.assertEqual((found[metric]["count"], found[metric]["absent"]), (29, 1))
        linked = [t for t in pushed if t % 6]
        series = self.ok(self.daemon.get("/v1/runs/gap/profile?metric=energy"))["series"]["energy"]
        self.check(found["energy"], linked, [e for e in series if e is not None])
        self.assertEqual((found["energy"]["first_step"], found["energy"]["last_step"]), (1, 56))

    def test_a_twin_over_a_gap_has_no_shape(self):
        for t in list(range(40)) + list(range(60, 100)):
            self.push("shape", t, loss=1, twin_log=0.02 * t)
        growth = lambda query: self.windows("shape", "?metric=twin_log" + query)["windows"][0]["metrics"][  # noqa: E731
            "twin_log"]["growth"]
        self.assertEqual(growth("&window=100"), {"verdict": None, "reason": "step-gap"})
        self.assertEqual(growth("&window=40"), {"verdict": None, "reason": "warming-up"})
        for t in range(100, 126):
            self.push("shape", t, loss=1, twin_log=0.02 * t)
        self.assertAlmostEqual(growth("&window=66")["rate"], 0.02, delta=1e-9)
        self.push("shape", 126, loss=1, twin_log=0)  # injected anew
        self.assertEqual(growth("&window=66"), {"verdict": None, "reason": "warming-up"})

    def test_a_gap_is_no_attempt(self):
        """Windows do not cross a restart of the job, but they do a restart of the daemon."""
        for t in range(10):
            self.push("x", t, loss=t)
        self.daemon.stop()
        self.daemon.start()
        for t in range(10, 20):
            self.push("x", t, loss=t)
        self.check(self.windows("x", "?metric=loss&window=20")["windows"][0]["metrics"]["loss"],
                   list(range(20)), [float(t) for t in range(20)])
        self.ok(self.daemon.put("/v1/runs/x", {"attempt": "new", "attempt_key": "k"}))
        for t in range(15, 18):
            self.push("x", t, loss=100 + t)
        self.check(self.windows("x", "?metric=loss&window=20")["windows"][0]["metrics"]["loss"],
                   [15, 16, 17], [115.0, 116.0, 117.0])

    def test_bounds(self):
        self.push("b", 0, loss=1)
        path = "/v1/runs/b/profile/windows"
        detail = self.refused(self.daemon.get(path + "?window=65536"), 413, "limit-exceeded")
        self.assertIn("1048576", detail)
        for query in ("?window=1", "?window=x", "?metric=nothing", "?attempt=2", "?at=-1"):
            self.refused(self.daemon.get(path + query), 400, "invalid-value")
        self.refused(self.daemon.get(path + "?metric=loss" + "&window=8" * 9), 413, "limit-exceeded")
        self.assertEqual(self.daemon.get("/v1/runs/none/profile/windows").status, 404)


if __name__ == "__main__":
    unittest.main()
