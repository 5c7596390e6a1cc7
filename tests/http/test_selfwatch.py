"""The daemon watches itself and its clients through the same rules, silences and receivers."""
import json
import sys
import time
import unittest
import unittest.mock

from blackbox import ROOT
from listener import FAST, DeliveryCase


class SelfWatch(DeliveryCase):
    def alerts(self, rule, state=None):
        query = "/v1/alerts?rule=%s%s" % (rule, "&state=" + state if state else "")
        return self.ok(self.daemon.get(query))["alerts"]

    def firing(self, rule):
        return self.eventually(lambda: self.alerts(rule, "firing"))[0]

    def tune(self, rule, **fields):
        """The shipped rule with other numbers."""
        shipped = self.ok(self.daemon.get("/v1/rules/" + rule))
        self.ok(self.daemon.put("/v1/rules/" + rule, dict(shipped, **fields)))


class OfRuns(SelfWatch):
    def test_dropped_pushes(self):
        hook = self.listener()
        self.hook("ops", hook)
        self.ok(self.daemon.push_json("r", {"step": 0, "loss": 1}))
        self.assertEqual(self.alerts("dropped-pushes"), [])
        self.ok(self.daemon.push_json("r", {"step": 1, "loss": 1, "x-dropped": "3"}))
        alert = self.firing("dropped-pushes")
        self.assertEqual((alert["run"], alert["value"], alert["firing_step"]), ("r", 3, 1))
        self.eventually(lambda: hook.requests)
        self.assertEqual(hook.bodies()[0]["alert"]["rule"], "dropped-pushes")
        for step in range(2, 22):
            self.ok(self.daemon.push_json("r", {"step": step, "loss": 1}))
        self.assertEqual(self.alerts("dropped-pushes")[0]["state"], "resolved")

    def test_clock_skew(self):
        def push(step, ahead_s):
            stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + ahead_s))
            self.ok(self.daemon.push_json("r", {"step": step, "loss": 1, "time": stamp}))
        for step in range(4):
            push(step, -3600)  # late, not skewed: a spool that is sent at last
        for step in range(4, 8):
            push(step, 5)
        self.assertEqual(self.alerts("clock-skew"), [])
        for step in range(8, 11):
            push(step, 120)
        alert = self.firing("clock-skew")
        self.assertTrue(100 < alert["value"] < 140, alert)
        for step in range(11, 14):
            push(step, 0)
        self.assertEqual(self.alerts("clock-skew")[0]["state"], "resolved")

    def test_a_clock_that_is_behind_is_told_from_a_late_push(self):
        def push(step, taken_s, sent_s):
            now = time.time()
            document = {"step": step, "loss": 1, "time": "%.3f" % (now + taken_s)}
            self.ok(self.daemon.request("POST", "/v1/runs/r/snapshots?sent=%.3f" % (now + sent_s),
                                        json.dumps(document), {"Content-Type": "application/json"}))
        for step in range(5):
            push(step, -3600, 0)  # a spool that is sent at last, by a clock that is right
        for step in range(5, 7):
            push(step, -3600, -3600)
        self.assertEqual(self.alerts("clock-behind", "firing"), [])
        push(7, -3600, -3600)
        alert = self.firing("clock-behind")
        self.assertTrue(-3610 < alert["value"] < -3590, alert)
        self.assertEqual((alert["run"], alert["cause"]), ("r", "clock-skew"))
        self.assertEqual(self.alerts("clock-skew"), [])
        for step in range(8, 11):
            push(step, 0, 0)
        self.assertEqual(self.alerts("clock-behind")[0]["state"], "resolved")
        for step in range(11, 14):
            push(step, 0, 3600)
        self.firing("clock-skew")

    def test_a_body_that_comes_slowly_has_one_clock(self):
        lines = [b'{"step":0,"loss":1}\n', b'{"step":1,"loss":1}\n']

        def slowly():
            for line in lines:
                yield line
                time.sleep(0.05)
        for name, points in (("at-first", 1), ("at-second", 2)):
            self.ok(self.daemon.put("/v1/rules/" + name, {
                "metric": "clock_skew_seconds", "comparison": "<", "threshold": 0,
                "min_points": points}), 201)
        reply = self.daemon.request(
            "POST", "/v1/runs/r/snapshots?sent=%.3f" % (time.time() - 100), slowly(),
            {"Content-Type": "application/x-ndjson", "Content-Length": str(len(b"".join(lines)))})
        self.assertEqual(reply.status, 200, reply)
        first, second = self.firing("at-first"), self.firing("at-second")
        self.assertEqual((first["firing_step"], second["firing_step"]), (0, 1))
        self.assertEqual(first["value"], second["value"])

    def test_the_client_tells_its_clock(self):
        sys.path.insert(0, str(ROOT / "clients" / "python"))
        import lyapd
        import lyapd.http
        clock = lyapd.http.time.time
        with lyapd.Run("http://127.0.0.1:%d" % self.daemon.port, "c") as run:
            for step in range(3):
                run.push(step, loss=1.0)
            self.assertEqual(self.alerts("clock-behind"), [])
            lyapd.http.time = unittest.mock.Mock(time=lambda: clock() - 120)
            self.addCleanup(setattr, lyapd.http, "time", time)
            for step in range(3, 6):
                run.push(step, loss=1.0)
        self.assertEqual(len(self.alerts("clock-behind")), 1)

    def test_a_late_rank(self):
        self.ok(self.daemon.push_json("r", {"step": 0, "loss": 1, "rank": 0, "world": 2}), 202)
        self.ok(self.daemon.push_json("r", {"step": 0, "rank": 1, "world": 2}))
        self.assertEqual(self.alerts("late-rank"), [])
        for step in (1, 2):  # the second closes the first
            self.daemon.push_json("r", {"step": step, "loss": 1, "rank": 0, "world": 2})
        self.daemon.push_json("r", {"step": 2, "rank": 1, "world": 2})
        alert = self.firing("late-rank")
        self.assertEqual((alert["run"], alert["value"], alert["firing_step"]), ("r", 1, 1))


class OfItself(SelfWatch):
    flags = FAST + ("--disk-reserve", "1MiB")

    def test_delivery_that_fails(self):
        """Told through the receivers that work; silenced, acknowledged, resolved; over a kill."""
        dead, alive = self.listener(default=500), self.listener()
        self.hook("dead", dead)
        self.tune("delivery-failing", threshold=1, clear=1, clear_for=2)
        self.ok(self.rule(notify=["dead"]), 201)
        self.fire()
        self.ok(self.daemon.put("/v1/receivers/alive", {"type": "webhook", "url": alive.url}), 201)
        alert = self.firing("delivery-failing")
        self.assertEqual((alert["run"], alert["attempt"], alert["pending_step"], alert["firing_step"]),
                         (None, None, None, None))
        self.assertTrue(alert["fired"] and alert["value"] > 1)
        self.assertIn("delivery_delay_seconds", alert["summary"])
        body = self.eventually(alive.bodies)[0]
        self.assertEqual((body["alert"]["run"], body["alert"]["rule"], body["labels"]),
                         (None, "delivery-failing", {}))
        self.ok(self.daemon.request("POST", "/v1/alerts/%d/ack" % alert["id"]))
        self.daemon.kill()
        self.daemon.start()
        again = self.firing("delivery-failing")
        self.assertEqual((again["id"], again["fired"]), (alert["id"], alert["fired"]))
        self.assertTrue(again["acked"])
        dead.default = 200
        self.eventually(lambda: self.alerts("delivery-failing")[0]["state"] == "resolved", 30)
        self.eventually(lambda: [b for b in alive.bodies() if b["tells"] == "resolved"])

    def test_disk_low(self):
        self.assertEqual(self.ok(self.daemon.get("/readyz"))["status"], "ready")
        self.assertEqual(self.alerts("disk-low"), [])
        self.tune("disk-low", threshold=1e15, clear=None)
        alert = self.firing("disk-low")
        self.assertEqual((alert["severity"], alert["run"]), ("critical", None))
        self.tune("disk-low", threshold=0)
        self.eventually(lambda: self.alerts("disk-low")[0]["state"] == "resolved", 30)

    def test_a_silence_holds(self):
        hook = self.listener()
        self.hook("ops", hook)
        silence = {"rule": "disk-low", "duration_s": 600, "comment": "known"}
        reply = self.daemon.request("POST", "/v1/silences", json.dumps(silence),
                                    {"Content-Type": "application/json"})
        self.ok(reply, 201)
        self.tune("disk-low", threshold=1e15, clear=None)
        alert = self.firing("disk-low")
        self.assertTrue(alert["silenced_until"], alert)
        self.assertEqual(hook.requests, [])
        self.daemon.request("DELETE", "/v1/silences/%d" % reply.json["id"])
        self.eventually(lambda: hook.requests)

    def test_rules_of_the_daemon_have_no_run(self):
        base = {"metric": "queue_fill", "threshold": 1}
        for more in ({"runs": {"a": "b"}}, {"action": "stop"}, {"cooldown": 5}, {"tensor": "*"}):
            self.refused(self.daemon.put("/v1/rules/mine", dict(base, **more)), 400, "invalid-value")
        self.ok(self.daemon.put("/v1/rules/mine", base), 201)
        self.ok(self.daemon.push_json("r", {"step": 0, "loss": 1}))
        self.assertEqual(self.alerts("mine"), [])


class Full(SelfWatch):
    flags = FAST + ("--queue-length", "1")

    def test_refused_pushes(self):
        """One upload holds the only place; the next is refused, and somebody is told."""
        with self.daemon.socket() as held:
            head = (b"POST /v1/runs/a/snapshots HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n"
                    b"Content-Type: application/vnd.safetensors\r\n\r\n")
            table = b'{"__metadata__":{"step":"1","loss":"1"},"param/w":{"dtype":"F64","shape":[12000],"data_offsets":[0,96000]}}'
            table += b" " * (-len(table) % 8)
            held.sendall(head + len(table).to_bytes(8, "little") + table)
            # Otherwise the push below might take the place, and the upload be the one refused.
            self.eventually(lambda: b"lyapd_queue_depth 1" in self.daemon.get("/metrics").body)
            reply = self.eventually(
                lambda: (lambda r: r if r.status == 503 else None)(self.daemon.push_json("b", {"step": int(time.time() * 1e6), "loss": 1})))
            self.assertEqual(reply.slug, "queue-full")
            alert = self.firing("refused-pushes")
            self.assertIsNone(alert["run"])
            self.assertGreaterEqual(alert["value"], 1)
            self.firing("queue-full")


class States(SelfWatch):
    def test_blind_warming_up_and_healthy_are_different_answers(self):
        """A run that pushed nothing to judge by is not healthy, wherever its state is said."""
        def said(run):
            listed = [r["state"] for r in self.ok(self.daemon.get("/v1/runs"))["runs"] if r["run"] == run]
            text = self.daemon.get("/metrics").body.decode()
            shown = [l.split('state="')[1].split('"')[0] for l in text.splitlines()
                     if l.startswith('lyapd_run_state{run="%s"' % run) and l.endswith(" 1")]
            return set(listed + shown + [self.ok(self.daemon.get("/v1/runs/" + run))["state"]])
        answer = self.ok(self.daemon.push_json("empty", {"step": 0}))
        self.assertEqual((said("empty"), answer["state"]), ({answer["state"]}, answer["state"]))
        self.assertIn(answer["state"], ("blind", "warming-up"))
        answer = self.ok(self.daemon.push_json("young", {"step": 0, "loss": 1, "lr": 0.1}))
        self.assertEqual((answer["state"], said("young")), ("warming-up", {"warming-up"}))
        for step in range(1, 20):
            answer = self.ok(self.daemon.push_json("young", {"step": step, "loss": 1 / (1 + step), "lr": 0.1}))
            if step < 11:
                self.assertEqual(answer["state"], "warming-up", step)
        self.assertEqual((answer["state"], said("young")), ("healthy", {"healthy"}))
        for step in range(20, 23):
            answer = self.ok(self.daemon.push_json("young", {"step": step, "loss": 10.0 ** step, "lr": 0.1}))
        self.assertEqual((answer["state"], said("young")), ("unstable", {"unstable"}))
        self.ok(self.daemon.put("/v1/runs/young", {"ended": True}))
        self.eventually(lambda: said("young") == {"ended"})


if __name__ == "__main__":
    unittest.main()
