"""Replays: the very alerts that were stored, and whether they were right."""
import json
import random
import unittest

from blackbox import DaemonCase, Quadratic

OWN = {
    "drop": {"metric": "(lag(loss, 3) - loss) / lag(loss, 3)", "comparison": "<", "threshold": 0.05, "for": 2, "clear_for": 2},
    "z": {"metric": "(loss - mean(loss, 12)) / sd(loss, 12)", "comparison": ">", "threshold": 2, "clear": 1, "cooldown": 3},
    "share": {"metric": "grad_norm / point.grad_norm", "tensor": "*", "comparison": ">", "threshold": 0.8, "for": 2},
    "gone": {"metric": "grad_norm / sqrt(elements)", "tensor": "first", "comparison": "<", "threshold": 0.2, "once": True},
    "high": {"metric": "loss / first_highest(loss, 5)", "comparison": ">=", "threshold": 1.1, "min_points": 8},
    "bad": {"metric": "nonfinite", "comparison": ">", "threshold": 0, "clear_for": 3},
}


class ReplayCase(DaemonCase):
    def replay(self, rule, run, query="", body=None, status=200):
        headers = {"Content-Type": "application/json"} if body else {}
        reply = self.daemon.request(
            "POST", "/v1/rules/%s/replay?run=%s%s" % (rule, run, query), json.dumps(body) if body else None, headers
        )
        return self.ok(reply, status)

    def losses(self, run, losses, first=0):
        reply, lines = self.daemon.push_ndjson(
            run, [{"step": first + i, "loss": loss} for i, loss in enumerate(losses)]
        )
        self.assertEqual(reply.status, 200, reply)
        self.assertEqual([l for l in lines if l.get("status") != "accepted"], [])


class Reproduction(ReplayCase):
    def train(self, run, seed):
        """A noisy descent that is pushed past its limit and pulled back, with a NaN and a skipped step."""
        rng = random.Random(seed)
        q = Quadratic(lr=0.2)
        for step in range(70):
            q.lr = 0.65 if 25 <= step < 31 or 50 <= step < 54 else 0.2
            document = q.snapshot()
            document["step"] = step
            document["loss"] = q.loss * rng.uniform(0.7, 1.4) + 0.01
            if step == 20:
                document["loss"] = "NaN"
            if step == 40:
                document["loss"], document["skipped"] = "Infinity", "true"
            if step in (12, 13, 33):
                del document["tensors"]
            if step == 45:
                document["tensors"]["grad/second"]["data"][0] = "NaN"
            self.ok(self.daemon.push_json(run, document))
            q.advance()
            q.step = step + 1
            if step == 29:
                self.daemon.kill()
                self.daemon.start()

    def stored(self, rule, run):
        """Alerts of the store as a replay lists them, in the order they opened in."""
        alerts = self.ok(self.daemon.get("/v1/alerts?rule=%s&run=%s&limit=1000" % (rule, run)))["alerts"]
        fields = ("tensor", "severity", "pending_step", "firing_step", "resolved_step", "value")
        return [tuple(a[f] for f in fields) for a in alerts]

    def replayed(self, rule, run):
        fields = ("tensor", "severity", "pending_step", "firing_step", "resolved_step", "value")
        return [tuple(a[f] for f in fields) for a in self.replay(rule, run)["alerts"]]

    def test_the_rules_in_force_give_the_stored_alerts(self):
        for name, rule in OWN.items():
            self.ok(self.daemon.put("/v1/rules/" + name, rule), 201)
        for pack in ("sagemaker", "spikes"):
            self.ok(self.daemon.put("/v1/packs/" + pack, {"enabled": True}))
        rules = [r["rule"] for r in self.ok(self.daemon.get("/v1/rules?limit=1000"))["rules"]]
        seen = set()
        for seed in (1, 2):
            run = "noisy-%d" % seed
            self.ok(
                self.daemon.put("/v1/runs/" + run, {"optimizer": {"type": "sgd", "lr": 0.2}, "labels": {"a": "b"}}), 201
            )
            self.train(run, seed)
            for rule in rules:
                if self.ok(self.daemon.get("/v1/rules/" + rule))["metric"] == "silent_seconds":
                    continue
                stored = self.stored(rule, run)
                self.assertEqual(self.replayed(rule, run), stored, (rule, run))
                if stored:
                    seen.add(rule)
        self.assertGreaterEqual(seen, set(OWN), "every own rule opened an alert: the test sees something")
        before = self.ok(self.daemon.get("/v1/alerts?limit=1000"))["alerts"]
        self.replay("z", "noisy-1")
        self.assertEqual(self.ok(self.daemon.get("/v1/alerts?limit=1000"))["alerts"], before)


    def test_tensors_whose_rows_are_stored_now_and_then(self):
        """With 70 tensors every second step keeps its rows, and each on which an alert of a tensor is open."""
        self.ok(self.daemon.put("/v1/rules/big", {"metric": "grad_norm / param_norm", "tensor": "t*", "comparison": ">",
                                                  "threshold": 2, "for": 2, "clear_for": 3}), 201)
        rng = random.Random(5)
        for step in range(60):
            hot = {"t%d" % i for i in range(70) if rng.random() < 0.02 or (i == 7 and step % 10 > 5)}
            tensors = {}
            for i in range(70):
                tensors["param/t%d" % i] = {"shape": [1], "data": [1.0]}
                tensors["grad/t%d" % i] = {"shape": [1], "data": [3.0 if "t%d" % i in hot else 1.0]}
            self.ok(self.daemon.push_json("many", {"step": step, "loss": 1, "lr": 0.1, "tensors": tensors}))
            if step in (21, 38):
                self.daemon.kill()
                self.daemon.start()
        stored = self.stored("big", "many")
        self.assertTrue([a for a in stored if a[3] is not None] and [a for a in stored if a[3] is None], stored)
        self.assertEqual(self.replayed("big", "many"), stored)


class Truth(ReplayCase):
    rule = {"metric": "loss", "comparison": ">", "threshold": 2}

    def test_a_divergence(self):
        healthy = [1.0 / (1 + 0.1 * i) for i in range(200)]
        self.losses("d", healthy[:120] + [3] + healthy[121:200] + [0.05 * 1.25 ** i for i in range(40)])
        answer = self.replay("new", "d", body=dict(self.rule, threshold=0.12))
        self.assertEqual(answer["end"]["told_from"], "loss")
        onsets = [e["step"] for e in answer["end"]["onsets"]]
        # The spike of one step; then above m + E = .046 + .48, or tripled and above a tenth of the first losses.
        self.assertEqual(onsets[0], 120)
        self.assertEqual(len(onsets), 2)
        self.assertIsNone(answer["end"]["onsets"][1]["recovered_step"])
        self.assertEqual(answer["end"]["kind"], "diverged")
        self.assertEqual(answer["counts"]["missed"], 0)
        last = answer["alerts"][-1]
        self.assertEqual((last["outcome"], last["lead_steps"]), ("right", onsets[1] - last["firing_step"]))
        self.assertGreaterEqual(last["lead_steps"], 0)
        self.assertEqual(answer["points"], answer["evaluated"])

    def test_false_alarms_and_missed_events(self):
        flat = [1.0 + 0.02 * (i % 5) for i in range(400)]
        self.losses("f", flat[:200] + [1.2] + flat[201:400])
        self.ok(self.daemon.put("/v1/runs/f", {"ended": True}))
        answer = self.replay("new", "f", body=dict(self.rule, threshold=1.15))
        # E is a tenth of the level: 1.2 is an event, met on its step.
        self.assertEqual([e["step"] for e in answer["end"]["onsets"]], [200])
        self.assertEqual(answer["counts"]["right"], 1)
        answer = self.replay("new", "f", body=dict(self.rule, threshold=1.05))
        self.assertEqual(answer["counts"]["false"], 20)  # of the 80 steps at 1.08 those up to 100
        self.assertEqual(answer["healthy_points"], 101)
        answer = self.replay("new", "f", body=dict(self.rule, threshold=9))
        self.assertEqual((answer["counts"]["missed"], answer["alerts"]), (1, []))

    def test_a_stable_run_and_one_that_goes_on(self):
        self.losses("s", [1.0] * 100 + [1.01] + [1.0] * 30)
        body = dict(self.rule, threshold=1.005)
        answer = self.replay("new", "s", body=body)
        self.assertEqual((answer["end"]["kind"], answer["alerts"][0]["outcome"]), ("running", "undecided"))
        self.ok(self.daemon.put("/v1/runs/s", {"ended": True}))
        answer = self.replay("new", "s", body=body)
        self.assertEqual((answer["end"]["kind"], answer["alerts"][0]["outcome"]), ("stable", "false"))

    def test_nan_and_runs_without_a_loss(self):
        self.losses("n", [1.0] * 60 + ["NaN"] * 5)
        answer = self.replay("nonfinite", "n")
        self.assertEqual((answer["end"]["kind"], answer["alerts"][0]["outcome"]), ("nonfinite", "right"))
        self.assertEqual(answer["alerts"][0]["lead_steps"], 0)
        self.daemon.push_ndjson("q", [{"step": i, "lr": 0.1 + i} for i in range(5)])
        answer = self.replay("new", "q", body=dict(self.rule, metric="lr", threshold=3))
        self.assertEqual((answer["end"]["kind"], answer["alerts"][0]["outcome"]), ("unknown", "undecided"))

    def test_late(self):
        self.losses("l", [1.0] * 100 + [2.0 + i for i in range(30)])
        answer = self.replay("new", "l", body=dict(self.rule, threshold=10))
        self.assertEqual((answer["alerts"][0]["outcome"], answer["counts"]["missed"]), ("late", 1))


class Requests(ReplayCase):
    def test_ranges_and_attempts(self):
        self.losses("r", [1, 9, 1, 9, 1, 9])
        self.ok(self.daemon.put("/v1/runs/r", {"attempt": "new", "attempt_key": "k"}))
        self.losses("r", [1, 1])
        body = {"metric": "loss", "threshold": 5}
        self.assertEqual(self.replay("x", "r", body=body)["alerts"], [])
        answer = self.replay("x", "r", "&attempt=1", body=body)
        self.assertEqual([a["firing_step"] for a in answer["alerts"]], [1, 3, 5])
        self.assertEqual(answer["attempt"], 1)
        answer = self.replay("x", "r", "&attempt=1&from=2&to=4", body=body)
        self.assertEqual([a["firing_step"] for a in answer["alerts"]], [3])
        self.assertEqual((answer["first_step"], answer["last_step"], answer["points"]), (2, 4, 3))
        # Points before `from` are looked back at.
        answer = self.replay("x", "r", "&attempt=1&from=5", body={"metric": "lag(loss, 4)", "threshold": 5})
        self.assertEqual([a["value"] for a in answer["alerts"]], [9])

    def test_a_rule_of_a_pack_that_is_off(self):
        self.losses("r", [1] * 12)
        answer = self.replay("LossNotDecreasing", "r")
        self.assertEqual([a["firing_step"] for a in answer["alerts"]], [10])
        self.assertEqual(self.daemon.get("/v1/rules/LossNotDecreasing").status, 404)
        self.assertEqual(answer["absent"], {"warming-up": 10})

    def test_silence_is_told_from_the_gaps(self):
        self.daemon.push_ndjson("r", [{"step": 0, "loss": 1, "time": 1000}, {"step": 1, "loss": 1, "time": 1001},
                                      {"step": 2, "loss": 1, "time": 1700}])
        alerts = self.replay("silent-run", "r")["alerts"]
        self.assertEqual([(a["firing_step"], a["resolved_step"], a["value"]) for a in alerts], [(1, 2, 699)])

    def test_what_is_wrong_is_named(self):
        self.losses("r", [1])
        post = lambda path, body=None: self.daemon.request(
            "POST", path, body, {"Content-Type": "application/json"} if body else {}
        )
        self.refused(post("/v1/rules/edge/replay?run=nobody"), 404, "not-found")
        self.refused(post("/v1/rules/none/replay?run=r"), 404, "not-found")
        self.assertIn("run", self.refused(post("/v1/rules/edge/replay"), 400, "missing-field"))
        self.assertIn("attempt", self.refused(post("/v1/rules/edge/replay?run=r&attempt=2"), 400, "invalid-value"))
        self.assertIn("from", self.refused(post("/v1/rules/edge/replay?run=r&from=-1"), 400, "invalid-value"))
        self.assertIn("los", self.refused(
            post("/v1/rules/x/replay?run=r", '{"metric":"los","threshold":1}'), 400, "unknown-field"))
        self.assertEqual(self.daemon.get("/v1/rules/x").status, 404)

    def test_bounded(self):
        for first in range(0, 110000, 10000):
            self.losses("long", [1 + (i % 2) for i in range(10000)], first=first)
        answer = self.replay("x", "long", body={"metric": "loss - mean(loss, 100)", "threshold": 0.4})
        self.assertEqual((answer["complete"], answer["points"]), (False, 100000))
        self.assertEqual((len(answer["alerts"]), answer["last_step"]), (1000, 99999))
        self.assertEqual(answer["omitted"], 50000 - 1000 - 25)


if __name__ == "__main__":
    unittest.main()
