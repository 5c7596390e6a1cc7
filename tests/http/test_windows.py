"""GET /v1/runs/{run}/profile/windows: mean, spread and slope over windows, against NumPy."""
import math
import unittest

import numpy as np

from blackbox import DaemonCase


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
