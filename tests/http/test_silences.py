"""Silences, acknowledgements, groups: what is told and what is not, over HTTP and over restarts."""
import datetime
import json
import time
import unittest

from blackbox import DaemonCase
from listener import FAST, Listener


class LifeCase(DaemonCase):
    flags = FAST

    def setUp(self):
        super().setUp()
        self.hook = Listener()
        self.addCleanup(self.hook.close)
        self.ok(
            self.daemon.put("/v1/receivers/hook", {"type": "webhook", "url": self.hook.url, "min_severity": "info"}),
            201,
        )

    def rule(self, name="high", threshold=5, **fields):
        body = dict({"metric": "loss", "comparison": ">", "threshold": threshold}, **fields)
        self.ok(self.daemon.put("/v1/rules/" + name, body), 201)

    def push(self, run, step, loss):
        return self.ok(self.daemon.push_json(run, {"step": step, "loss": loss}))

    def silence(self, status=201, **fields):
        return self.ok(
            self.daemon.request(
                "POST", "/v1/silences", json.dumps(fields), {"Content-Type": "application/json"}
            ),
            status,
        )

    def ack(self, alert, **fields):
        body = json.dumps(fields) if fields else None
        headers = {"Content-Type": "application/json"} if fields else {}
        return self.ok(self.daemon.request("POST", "/v1/alerts/%d/ack" % alert["id"], body, headers))

    def alert(self, query="rule=high"):
        return self.ok(self.daemon.get("/v1/alerts?" + query))["alerts"][-1]

    def told(self):
        """What was told, each thing once: what a killed daemon did not note as delivered is sent again, with the same key."""
        once = {b["key"]: b["tells"] for b in self.hook.bodies()}
        return list(once.values())

    def told_becomes(self, expected):
        self.eventually(lambda: self.told() == expected, 8)

    def told_after(self, silence, seconds):
        """The first thing told was `firing`, once the silence was over; waits for it so long."""
        self.eventually(self.told, seconds)
        self.assertEqual(self.told(), ["firing"])
        until = datetime.datetime.fromisoformat(silence["until"].replace("Z", "+00:00")).timestamp()
        self.assertGreaterEqual(self.hook.requests[0].time, until)

    def restart(self):
        self.daemon.kill()
        self.daemon.start()


class Silences(LifeCase):
    def test_made_listed_and_ended(self):
        made = self.silence(run="gpt-*", rule="instability", duration_s=3600, comment="lr sweep")
        self.assertEqual((made["run"], made["rule"], made["comment"]), ("gpt-*", "instability", "lr sweep"))
        self.assertGreater(made["until"], made["created"])
        self.restart()
        self.assertEqual([s["id"] for s in self.ok(self.daemon.get("/v1/silences"))["silences"]], [made["id"]])
        self.assertEqual(self.daemon.request("DELETE", "/v1/silences/%d" % made["id"]).status, 204)
        self.assertEqual(self.ok(self.daemon.get("/v1/silences"))["silences"], [])
        ended = self.ok(self.daemon.get("/v1/silences?ended=true"))["silences"]
        self.assertEqual([s["id"] for s in ended], [made["id"]])
        self.refused(self.daemon.request("DELETE", "/v1/silences/%d" % made["id"]), 404, "not-found")
        self.refused(self.daemon.request("DELETE", "/v1/silences/x"), 404, "not-found")

    def test_a_silenced_alert_lives_and_tells_nobody(self):
        self.rule()
        self.silence(run="quiet-*", duration_s=600)
        self.push("quiet-1", 0, 6)
        self.push("loud", 0, 6)
        alert = self.alert("rule=high&run=quiet-1")
        self.assertEqual((alert["state"], alert["held"], alert["notified"]), ("firing", "silenced", None))
        self.assertIsNotNone(alert["silenced_until"])
        self.told_becomes(["firing"])
        self.push("quiet-1", 1, 1)
        self.assertEqual(self.alert("rule=high&run=quiet-1")["state"], "resolved")
        self.push("loud", 1, 1)
        self.told_becomes(["firing", "resolved"])

    def test_told_when_the_silence_ends(self):
        self.rule()
        made = self.silence(rule="high", duration_s=2)
        self.push("r", 0, 6)
        self.told_after(made, 10)
        alert = self.alert()
        self.assertEqual((alert["held"], alert["silenced_until"]), (None, None))
        self.assertIsNotNone(alert["notified"])

    def test_told_when_the_silence_is_deleted(self):
        self.rule()
        made = self.silence(severity="warning", duration_s=600)
        self.push("r", 0, 6)
        self.assertEqual(self.alert()["held"], "silenced")
        self.daemon.request("DELETE", "/v1/silences/%d" % made["id"])
        self.told_becomes(["firing"])

    def test_the_end_of_a_silence_survives_a_restart(self):
        self.rule()
        made = self.silence(rule="high", duration_s=3)
        self.push("r", 0, 6)
        self.ok(self.daemon.put("/v1/runs/r", {"labels": {}}))
        self.restart()
        self.told_after(made, 20)

    def test_of_a_silent_run_too(self):
        """Nothing else would bring a silent run back into memory after a restart."""
        self.ok(self.daemon.put("/v1/rules/silent-run", {"metric": "silent_seconds", "comparison": ">", "threshold": 1}))
        made = self.silence(rule="silent-run", duration_s=10)
        self.push("r", 0, 1)
        self.eventually(lambda: self.ok(self.daemon.get("/v1/runs/r"))["state"] == "silent", 5)
        self.assertEqual(self.alert("rule=silent-run")["held"], "silenced")
        self.restart()
        self.told_after(made, 30)

    def test_an_alert_that_fires_already_is_silenced(self):
        self.rule()
        self.push("r", 0, 6)
        self.told_becomes(["firing"])
        self.silence(labels={"team": "x"}, duration_s=600)
        self.assertIsNone(self.alert()["silenced_until"])
        self.silence(run="r", duration_s=600)
        self.assertIsNotNone(self.alert()["silenced_until"])
        self.push("r", 1, 1)
        self.assertEqual(self.alert()["state"], "resolved")
        time.sleep(1.5)
        self.assertEqual(self.told(), ["firing"])

    def test_what_is_wrong_is_named(self):
        for body, words in (
            ({"duration_s": 5}, ["run", "rule"]),
            ({"run": "*"}, ["duration_s"]),
            ({"run": "*", "duration_s": 0}, ["duration_s", "31536000"]),
            ({"run": "*", "duration_s": 31536001}, ["duration_s", "31536000"]),
            ({"run": "*", "duration_s": 1, "until": "2030-01-01T00:00:00Z"}, ["until", "duration_s"]),
            ({"run": "*", "until": "2001-01-01T00:00:00Z"}, ["until"]),
            ({"run": "x" * 257, "duration_s": 1}, ["run", "256"]),
            ({"run": "*", "duration_s": 1, "comment": "x" * 513}, ["comment", "512"]),
            ({"run": "*", "duration_s": 1, "by": "x" * 65}, ["by", "64"]),
            ({"severity": "loud", "duration_s": 1}, ["severity"]),
            ({"run": "*", "duration_s": 1, "colour": 1}, ["colour"]),
            ({"labels": {"a": 1}, "duration_s": 1}, ["a"]),
        ):
            reply = self.daemon.request(
                "POST", "/v1/silences", json.dumps(body), {"Content-Type": "application/json"}
            )
            self.assertIn(reply.status, (400, 413), (body, reply))
            for word in words:
                self.assertIn(word, reply.json["detail"], body)
        self.assertEqual(self.ok(self.daemon.get("/v1/silences?ended=true"))["silences"], [])


class Acknowledged(LifeCase):
    def test_who_why_and_until_when(self):
        self.rule()
        self.push("r", 0, 6)
        self.told_becomes(["firing"])
        alert = self.ack(self.alert(), by="ann", comment="looking", duration_s=3600)
        self.assertEqual((alert["acked_by"], alert["ack_comment"]), ("ann", "looking"))
        self.assertGreater(alert["acked_until"], alert["acked"])
        self.restart()
        self.assertEqual(self.alert()["acked_by"], "ann")
        self.assertEqual(len(self.ok(self.daemon.get("/v1/alerts?acked=true"))["alerts"]), 1)
        self.assertEqual(len(self.ok(self.daemon.get("/v1/alerts?acked=false&rule=high"))["alerts"]), 0)
        self.push("r", 1, 1)
        self.told_becomes(["firing", "resolved"])  # the resolution is still told

    def test_it_ends(self):
        self.rule()
        self.push("r", 0, 6)
        self.ack(self.alert(), by="ann", duration_s=1)
        self.assertEqual(len(self.ok(self.daemon.get("/v1/alerts?acked=true"))["alerts"]), 1)
        self.eventually(lambda: not self.ok(self.daemon.get("/v1/alerts?acked=true"))["alerts"], 5)
        self.ack(self.alert(), by="bob")
        alert = self.alert()
        self.assertEqual((alert["acked_by"], alert["acked_until"]), ("bob", None))

    def test_what_is_wrong_is_named(self):
        self.rule()
        self.push("r", 0, 6)
        for body, word in (({"by": 1}, "by"), ({"who": "x"}, "who"), ({"duration_s": 0}, "duration_s"),
                           ({"comment": "x" * 513}, "512")):
            reply = self.daemon.request(
                "POST", "/v1/alerts/%d/ack" % self.alert()["id"], json.dumps(body),
                {"Content-Type": "application/json"},
            )
            self.assertIn(reply.status, (400, 413))
            self.assertIn(word, reply.json["detail"])
        self.assertIsNone(self.alert()["acked"])


class Groups(LifeCase):
    def test_a_group_is_told_once_and_its_end_once(self):
        self.rule("one", cause="c")
        self.rule("two", cause="c", threshold=4)
        self.push("r", 0, 6)  # both
        self.told_becomes(["firing"])
        self.push("r", 1, 4.5)  # one resolves, two goes on
        self.restart()
        self.push("r", 2, 4.6)
        time.sleep(1.5)
        self.assertEqual(self.told(), ["firing"])
        self.push("r", 3, 1)
        self.told_becomes(["firing", "resolved"])

    def test_an_attempt_ends_the_group(self):
        self.rule("one", cause="c")
        self.rule("two", cause="c")
        self.push("r", 0, 6)
        self.told_becomes(["firing"])
        self.ok(self.daemon.put("/v1/runs/r", {"attempt": "new", "attempt_key": "k"}))
        self.told_becomes(["firing", "resolved"])
        self.push("r", 0, 6)
        self.told_becomes(["firing", "resolved", "firing"])


class Lists(LifeCase):
    def test_filters(self):
        self.rule()
        self.silence(run="a", duration_s=600)
        self.push("a", 0, 6)
        self.push("b", 0, 6)
        runs = lambda query: [a["run"] for a in self.ok(self.daemon.get("/v1/alerts?rule=high&" + query))["alerts"]]
        self.assertEqual((runs("silenced=true"), runs("silenced=false")), (["a"], ["b"]))
        changed = self.alert("run=b&rule=high")["updated"]
        self.assertEqual(runs("since=" + changed), ["b"])
        time.sleep(0.01)
        self.push("a", 1, 1)
        self.assertEqual(runs("since=" + self.alert("run=a&rule=high")["updated"]), ["a"])
        self.assertIn("since", self.refused(self.daemon.get("/v1/alerts?since=soon"), 400, "invalid-value"))
        self.refused(self.daemon.get("/v1/alerts?silenced=maybe"), 400, "invalid-value")

    def test_a_cursor_tells_what_is_new(self):
        self.rule()
        self.push("a", 0, 6)
        cursor = self.ok(self.daemon.get("/v1/alerts?rule=high"))["cursor"]
        self.assertEqual(self.ok(self.daemon.get("/v1/alerts?rule=high&cursor=" + cursor))["alerts"], [])
        self.push("b", 0, 6)
        new = self.ok(self.daemon.get("/v1/alerts?rule=high&cursor=" + cursor))
        self.assertEqual([a["run"] for a in new["alerts"]], ["b"])


if __name__ == "__main__":
    unittest.main()
