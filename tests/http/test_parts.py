"""What a score is made of comes with every value of it, and stays what it was."""
import unittest

from blackbox import DaemonCase, Quadratic

SCORES = ("instability_score", "instability_score_next")


class Parts(DaemonCase):
    def train(self, run="r", steps=60, fault=30):
        """Pushes of a descent whose rate is raised past its limit; the answers."""
        job, answers = Quadratic(lr=0.1), []
        for step in range(steps):
            job.lr = 0.1 if step < fault else 0.7
            answers.append(self.ok(self.daemon.push_json(run, job.snapshot())))
            job.advance()
        return answers

    def declare(self, run="r"):
        self.ok(self.daemon.put("/v1/runs/" + run, {"optimizer": {"type": "sgd", "lr": 0.1}}), 201)

    def test_every_stored_point_answers_what_its_push_answered(self):
        self.declare()
        answers = self.train()
        self.daemon.kill()
        self.daemon.start()
        for answer in answers:
            point = self.ok(self.daemon.get("/v1/runs/r/points/%d" % answer["step"]))
            self.assertEqual(point["metrics"], answer["metrics"])
            self.assertEqual((point["run"], point["attempt"], point["time"]),
                             ("r", 1, answer["time"]))
        latest = self.ok(self.daemon.get("/v1/runs/r/profile/latest"))
        self.assertEqual(latest["metrics"], answers[-1]["metrics"])

    def test_parts_stand_beside_every_value_and_nowhere_else(self):
        self.declare()
        seen = 0
        for answer in self.train():
            for name, metric in answer["metrics"].items():
                has_score = name in SCORES and metric["value"] is not None
                self.assertEqual("parts" in metric, has_score, (answer["step"], name))
                if not has_score:
                    continue
                self.assertGreater(metric["version"], 0)
                odds = [part["log_odds"] for part in metric["parts"]]
                self.assertEqual(odds, sorted(odds, reverse=True))
                self.assertTrue(all(o > 0 for o in odds))
                for part in metric["parts"]:
                    self.assertEqual(len(part["observables"]), 1)
                    self.assertNotIn("per", part["observables"][0])
                seen += len(odds)
        self.assertGreater(seen, 10)

    def test_the_parts_of_an_alert_are_those_of_its_point(self):
        self.declare()
        answers = self.train()
        alert = self.ok(self.daemon.get("/v1/alerts?rule=instability"))["alerts"][0]
        metric = answers[alert["firing_step"]]["metrics"]["instability_score"]
        self.assertEqual(alert["evidence"]["parts"], metric["parts"])
        self.assertEqual(alert["evidence"]["score_version"], metric["version"])
        # The work was done in the tensor of the largest curvature; both names come in order.
        shares = [t for t in metric["tensors"] if t.get("share_of") == "overshoot_work"]
        named = alert["evidence"]["tensors"]
        self.assertEqual([(t["name"], t["value"]) for t in shares],
                         [(t["name"], t["share"]) for t in named][:3])
        self.assertEqual(shares[0]["name"], "second")
        self.assertAlmostEqual(sum(t["value"] for t in shares), 1)

    def test_a_scalar_run_has_parts_without_tensors(self):
        for step in range(40):
            answer = self.ok(self.daemon.push_json("s", {"step": step, "loss": 1 / (1 + step)}))
        answer = self.ok(self.daemon.push_json("s", {"step": 40, "loss": 9}))
        metric = answer["metrics"]["instability_score"]
        self.assertTrue(metric["parts"])
        self.assertEqual(metric["tensors"], [])
        minimal = self.daemon.push_json("s", {"step": 41, "loss": 9}, Prefer="return=minimal")
        self.assertNotIn("parts", minimal.body.decode())

    def test_every_form_of_a_push_tells_whether_it_had_tensors(self):
        """The counts of non-finite elements, from which the observable `tensors` is made."""
        whole = Quadratic().snapshot()
        scalars = {key: value for key, value in whole.items() if key != "tensors"}
        of = lambda *roles: dict(scalars, tensors={  # noqa: E731
            name: value for name, value in whole["tensors"].items() if name.split("/")[0] in roles or name in roles})
        rows = {"reduce/%s_%s" % (role, field): {"shape": [2], "data": [4, 2]} for role in ("param", "grad")
                for field in ("count", "sq", "abs", "zeros", "max", "block_sq")}
        rows.update({"reduce/%s_nonfinite" % role: {"shape": [2], "data": [0, 0]} for role in ("param", "grad")})
        rows.update({"sketch/" + role: {"shape": [4096], "data": 4096 * [0]} for role in ("param", "grad")})
        sketch = {"retention": "sketch"}
        tensors = {"tensors": [{"name": "first", "shape": [2, 2]}, {"name": "second", "shape": [2]}]}
        forms = (  # name, declaration, push, whether parameters and gradients are told
            ("whole", {}, whole, True, True),
            ("params", {}, of("param"), True, False),
            ("frozen", {}, of("param", "grad/first"), True, True),
            ("sketched", sketch, whole, True, True),
            ("sketched-params", sketch, of("param"), True, False),
            ("partial", tensors, dict(scalars, tensors=rows), True, True),
            ("loss", {}, scalars, False, False),
            ("norms", {}, dict(scalars, grad_norm=1, param_norm=2, update_norm=0.1), False, False),
            ("declared", tensors, dict(scalars, grad_norm=1), False, False),
        )
        for name, declaration, push, *told in forms:
            self.ok(self.daemon.put("/v1/runs/" + name, declaration), 201)
            for step in range(2):
                metrics = self.ok(self.daemon.push_json(name, dict(push, step=step)))["metrics"]
                got = [metrics["nonfinite_" + role]["value"] for role in ("param", "grad")]
                self.assertEqual(got, [0 if known else None for known in told], name)

    def test_points_that_have_no_score(self):
        answer = self.ok(self.daemon.push_json("n", {"step": 3, "loss": "NaN"}))
        self.assertNotIn("parts", answer["metrics"]["instability_score"])
        point = self.ok(self.daemon.get("/v1/runs/n/points/3"))
        self.assertEqual((point["metrics"], point["event_only"]), (answer["metrics"], True))

    def test_points_are_found_by_attempt_and_step(self):
        self.ok(self.daemon.push_json("a", {"step": 5, "loss": 1}))
        self.ok(self.daemon.put("/v1/runs/a", {"attempt": "new", "attempt_key": "k"}))
        self.ok(self.daemon.push_json("a", {"step": 5, "loss": 2}))
        loss = lambda query: self.ok(self.daemon.get("/v1/runs/a/points/5" + query))["metrics"]["loss"]["value"]
        self.assertEqual([loss(""), loss("?attempt=1"), loss("?attempt=2")], [2, 1, 2])
        for path in ("a/points/6", "a/points/x", "a/points/-5", "a/points/5?attempt=3", "b/points/5",
                     "a/points/99999999999999999999"):
            self.refused(self.daemon.get("/v1/runs/" + path), 404, "not-found")
        self.refused(self.daemon.get("/v1/runs/a/points/5?attempt=0"), 400, "invalid-value")


if __name__ == "__main__":
    unittest.main()
