"""Rules as data, alerts and the advice, over HTTP."""
import math
import unittest

from blackbox import DaemonCase, Quadratic


class Rules(DaemonCase):
    def test_the_defaults_are_listed_with_their_sources(self):
        rules = {r["rule"]: r for r in self.ok(self.daemon.get("/v1/rules"))["rules"]}
        self.assertEqual(
            set(rules),
            {
                "nonfinite",
                "instability",
                "instability-early",
                "instability-next",
                "sensitive",
                "edge",
                "limit-crossed",
                "unstable",
                "energy-violation",
                "spike",
                "inconsistent-data", "representation-growth",
                "delta-precision",
                "optimizer-mismatch",
                "dead-tensors", "stuck-tensors",
                "silent-run",
                "late-rank",
                "dropped-pushes",
                "clock-skew", "clock-behind",
                "refused-pushes",
                "queue-full",
                "disk-low",
                "delivery-failing",
            },
        )
        for rule in rules.values():
            self.assertTrue(rule["builtin"] and rule["enabled"] and rule["source"])
            self.assertEqual(rule["version"], 1)

    def test_a_rule_is_made_replaced_and_removed(self):
        rule = {"metric": "loss", "comparison": ">", "threshold": 5, "severity": "warning"}
        self.ok(self.daemon.put("/v1/rules/mine", rule), 201)
        self.ok(self.daemon.push_json("r", {"step": 0, "loss": 4}))
        answer = self.ok(self.daemon.push_json("r", {"step": 1, "loss": 6}))
        self.assertEqual([a["rule"] for a in answer["alerts"]], ["mine"])
        self.ok(self.daemon.put("/v1/rules/mine", dict(rule, threshold=7)))
        self.assertEqual(self.ok(self.daemon.get("/v1/rules/mine"))["version"], 2)
        self.assertIn(self.daemon.request("DELETE", "/v1/rules/mine").status, (200, 204))
        self.assertEqual(self.daemon.get("/v1/rules/mine").status, 404)
        alerts = self.ok(self.daemon.get("/v1/alerts?rule=mine"))["alerts"]
        self.assertEqual([a["state"] for a in alerts], ["resolved"])
        self.assertIn("rule-deleted", alerts[0]["summary"])
        self.assertEqual(self.daemon.request("DELETE", "/v1/rules/mine").status, 404)

    def test_an_alert_ends_when_its_rule_no_longer_selects_the_run(self):
        rule = {"metric": "loss", "comparison": ">", "threshold": 5, "runs": {"team": "x"}}
        self.ok(self.daemon.put("/v1/rules/mine", rule), 201)
        self.ok(self.daemon.put("/v1/runs/r", {"labels": {"team": "x"}}), 201)
        self.assertEqual(self.mine({"step": 0, "loss": 6}), ["firing"])
        self.ok(self.daemon.put("/v1/runs/r", {"labels": {"team": "y"}}))
        self.assertEqual(self.mine({"step": 1, "loss": 6}), [])

    def mine(self, document):
        """States of the alerts of rule `mine` in the answer to a push."""
        answer = self.ok(self.daemon.push_json("r", document))
        return [a["state"] for a in answer["alerts"] if a["rule"] == "mine"]

    def test_a_default_is_replaced_restored_and_switched_off(self):
        path = "/v1/rules/nonfinite"
        replaced = {"metric": "nonfinite", "comparison": ">", "threshold": 10, "severity": "info"}
        self.ok(self.daemon.put(path, replaced))
        self.assertEqual(self.ok(self.daemon.get(path))["builtin"], False)
        self.daemon.request("DELETE", path)  # brings the default back
        rule = self.ok(self.daemon.get(path))
        self.assertEqual((rule["threshold"], rule["builtin"], rule["enabled"]), (0, True, True))
        self.daemon.request("DELETE", path)  # switches it off
        self.assertEqual(self.ok(self.daemon.get(path))["enabled"], False)
        answer = self.ok(self.daemon.push_json("r", {"step": 0, "loss": "NaN"}))
        self.assertEqual(answer["alerts"], [])
        self.daemon.kill()
        self.daemon.start()
        self.assertEqual(self.ok(self.daemon.get(path))["enabled"], False)

    def test_bad_rules_name_the_field(self):
        good = {"metric": "loss", "comparison": ">", "threshold": 5, "severity": "warning"}
        for change, word in (
            ({"metric": "los"}, "los"),
            ({"comparison": "~"}, "comparison"),
            ({"threshold": "high"}, "threshold"),
            ({"threshold": "NaN"}, "threshold"),
            ({"severity": "loud"}, "severity"),
            ({"for": 0}, "for"),
            ({"clear": 9}, "clear"),
            ({"colour": "red"}, "colour"),
            ({"runs": {"a": 1}}, "string"),
            ({"tensor": "*", "metric": "loss"}, "loss"),
        ):
            reply = self.daemon.put("/v1/rules/bad", dict(good, **change))
            self.assertEqual(reply.status, 400, (change, reply))
            self.assertIn(word, reply.json["detail"])

    def test_rules_select_runs_by_label(self):
        rule = {"metric": "loss", "comparison": ">", "threshold": 5, "runs": {"team": "vision"}}
        self.ok(self.daemon.put("/v1/rules/mine", dict(rule, severity="warning")), 201)
        self.ok(self.daemon.put("/v1/runs/a", {"labels": {"team": "vision"}}), 201)
        self.ok(self.daemon.put("/v1/runs/b", {"labels": {"team": "audio"}}), 201)
        alerts = lambda run: self.ok(self.daemon.push_json(run, {"step": 1, "loss": 9}))["alerts"]
        self.assertEqual((len(alerts("a")), len(alerts("b")), len(alerts("c"))), (1, 0, 0))


class Alerts(DaemonCase):
    def test_tensor_rules_name_the_tensor(self):
        rule = {"metric": "grad_norm", "tensor": "sec*", "comparison": ">", "threshold": 100}
        self.ok(self.daemon.put("/v1/rules/big", dict(rule, severity="warning")), 201)
        q = Quadratic(start=1000)
        answer = self.ok(self.daemon.push_json("t", q.snapshot()))
        self.assertEqual([(a["rule"], a["tensor"]) for a in answer["alerts"] if a["rule"] == "big"], [("big", "second")])

    def test_acknowledging(self):
        self.ok(self.daemon.push_json("a", {"step": 0, "loss": "Infinity"}))
        alert = self.ok(self.daemon.get("/v1/alerts?state=firing"))["alerts"][0]
        self.assertIsNone(alert["acked"] if "acked" in alert else alert.get("acked_at"))
        reply = self.daemon.request("POST", "/v1/alerts/%d/ack" % alert["id"])
        self.assertIn(reply.status, (200, 204), reply)
        alert = self.ok(self.daemon.get("/v1/alerts?state=firing"))["alerts"][0]
        self.assertTrue(any(alert[k] for k in alert if k.startswith("acked")))
        for step in range(1, 7):
            self.ok(self.daemon.push_json("a", {"step": step, "loss": 1}))
        alert = self.ok(self.daemon.get("/v1/alerts?run=a"))["alerts"][0]
        self.assertEqual(alert["state"], "resolved")
        self.assertTrue(any(alert[k] for k in alert if k.startswith("acked")))
        self.assertEqual(self.daemon.request("POST", "/v1/alerts/999/ack").status, 404)

    def test_a_rollback_that_came_late_counts(self):
        """The default client pushes once more before it goes back; that point may look harmless."""
        rule = {"metric": "loss", "threshold": 5, "run": "late", "action": "rollback", "severity": "info"}
        self.ok(self.daemon.put("/v1/rules/high", rule), 201)
        kinds = []
        for attempt in range(5):
            self.daemon.put("/v1/runs/late", {"attempt": "new", "attempt_key": "a%d" % attempt})
            for step, loss in enumerate([1, 1, 1, 1, 1, 1, 9, 1, 1]):
                answer = self.ok(self.daemon.push_json("late", {"step": step, "loss": loss, "lr": 0.1}))
                kinds += [answer["action"]["kind"]] if loss == 9 else []
                if loss == 9 and answer["action"]["kind"] == "rollback":
                    self.assertEqual(answer["action"]["step"], 5)
        self.assertEqual(kinds, ["rollback", "rollback", "rollback", "stop", "stop"])

    def test_a_fault_that_stays_lowers_the_rate_to_a_bound_and_is_stopped(self):
        """Whatever the job does, the loss is high 12 steps after a calm one; it takes half of an advised rate. The
        bound is of the rate that was healthy before all advice, over attempts and a killed daemon."""
        rule = {"metric": "loss", "threshold": 1.05, "run": "stays", "action": "reduce_lr", "severity": "info"}
        self.ok(self.daemon.put("/v1/rules/high", rule), 201)
        lr, kinds, rates = 0.1, [], []
        for attempt in range(4):
            self.daemon.put("/v1/runs/stays", {"attempt": "new", "attempt_key": "a%d" % attempt})
            for step in range(200):
                if (attempt, step) in ((0, 40), (1, 5), (2, 20)):
                    self.daemon.kill()
                    self.daemon.start()
                loss = 1.08 if step > 20 else 1
                action = self.ok(self.daemon.push_json("stays", {"step": step, "loss": loss, "lr": lr}))["action"]
                if action["kind"] == "continue":
                    continue
                kinds.append(action["kind"])
                lr = 0.5 * action["lr"] if action["kind"] == "reduce_lr" else action.get("lr") or lr
                rates.append(lr)
                if action["kind"] in ("rollback", "stop"):
                    break
        self.assertEqual(kinds, 3 * ["reduce_lr"] + 3 * ["rollback"] + ["stop"])
        self.assertAlmostEqual(min(rates), 0.1 / 64)

    def test_what_the_jobs_own_schedule_lowered_is_no_advice_that_did_not_help(self):
        """A cosine that ends below 1/64 of its peak, a cut early in it and the next late, the daemon killed in between."""
        rule = {"metric": "loss", "threshold": 1.05, "run": "tail", "action": "reduce_lr", "severity": "info"}
        self.ok(self.daemon.put("/v1/rules/high", rule), 201)
        steps, part, cuts = 400, 1.0, []
        for step in range(steps - 20):
            if step in (200, 370):
                self.daemon.kill()
                self.daemon.start()
            lr = part * 0.05 * (1 + math.cos(math.pi * step / steps))
            loss = 1.08 if step in (40, steps - 25) else 1
            action = self.ok(self.daemon.push_json("tail", {"step": step, "loss": loss, "lr": lr}))["action"]
            self.assertIn(action["kind"], ("continue", "reduce_lr"), (step, action))
            if action["kind"] == "reduce_lr":
                self.assertAlmostEqual(action["lr"] / lr, 0.5)
                cuts.append(step)
                part *= 0.25
        self.assertEqual(cuts, [40, steps - 25])
        self.assertLess(lr, part * 0.1 / 64)

    def test_a_diverging_run_is_recognised_before_it_is_lost(self):
        """Gradient descent past its limit: instability fires, the state and the advice follow."""
        self.ok(
            self.daemon.put(
                "/v1/runs/d", {"optimizer": {"type": "sgd", "lr": 0.1}, "data": "full-batch"}
            ),
            201,
        )
        q = Quadratic(lr=0.1)
        for _ in range(25):
            answer = self.ok(self.daemon.push_json("d", q.snapshot()))
            self.assertFalse([a for a in answer["alerts"] if a["severity"] != "info"], answer)
            q.advance()
        q.lr, start, fired = 0.6, 0.5 * sum(q.a), None  # the limit is 2/4
        for _ in range(60):
            answer = self.ok(self.daemon.push_json("d", q.snapshot()))
            firing = [a for a in answer["alerts"] if a["state"] == "firing"]
            if [a for a in firing if a["severity"] == "critical"] and not fired:
                fired = (q.loss, [a for a in firing if a["severity"] == "critical"][0], answer)
            q.advance()
        self.assertIsNotNone(fired)
        loss, alert, answer = fired
        self.assertEqual(answer["action"]["kind"], "reduce_lr", answer["alerts"])
        self.assertLess(answer["action"]["lr"], 0.6)
        self.assertEqual(answer["state"], "unstable")
        self.assertLess(loss, 3 * start)
        stored = [
            a
            for a in self.ok(self.daemon.get("/v1/alerts?run=d"))["alerts"]
            if a["id"] == alert["id"]
        ][0]
        for field in ("formula", "value", "threshold", "inputs", "window", "source"):
            self.assertIn(field, stored["evidence"])

    def test_a_run_that_ended_is_left_alone_and_a_push_reopens_it(self):
        self.ok(self.daemon.push_json("e", {"step": 0, "loss": "NaN"}))
        self.ok(self.daemon.put("/v1/runs/e", {"ended": True}))
        run = self.ok(self.daemon.get("/v1/runs/e"))
        self.assertEqual((run["state"], run["alerts"]), ("ended", []))
        self.ok(self.daemon.push_json("e", {"step": 1, "loss": 1}))
        self.assertNotEqual(self.ok(self.daemon.get("/v1/runs/e"))["state"], "ended")


class Silence(DaemonCase):
    def setUp(self):
        super().setUp()
        rule = {"metric": "silent_seconds", "comparison": ">", "threshold": 1, "severity": "warning"}
        self.ok(self.daemon.put("/v1/rules/silent-run", rule))

    def silent(self, run):
        return lambda: self.ok(self.daemon.get("/v1/runs/" + run))["state"] == "silent"

    def test_silence_fires_and_the_next_push_resolves(self):
        self.ok(self.daemon.push_json("s", {"step": 0, "loss": 1}))
        self.ok(self.daemon.push_json("ended", {"step": 0, "loss": 1}))
        self.ok(self.daemon.put("/v1/runs/ended", {"ended": True}))
        self.eventually(self.silent("s"))
        firing = self.ok(self.daemon.get("/v1/alerts?state=firing"))["alerts"]
        self.assertEqual([(a["run"], a["rule"]) for a in firing], [("s", "silent-run")])
        answer = self.ok(self.daemon.push_json("s", {"step": 1, "loss": 1}))
        self.assertEqual(answer["alerts"], [])
        self.assertNotEqual(answer["state"], "silent")

    def test_a_run_that_falls_silent_while_the_daemon_is_down_is_noticed(self):
        self.ok(self.daemon.push_json("s", {"step": 0, "loss": 1}))
        self.daemon.kill()
        self.daemon.start()
        self.eventually(self.silent("s"))


if __name__ == "__main__":
    unittest.main()
