"""Notifications: the outbox, receivers of every kind, failures, restarts."""
import email
import email.policy
import hashlib
import hmac
import json
import os
import shutil
import stat
import subprocess
import tempfile
import time
import unittest

from listener import FAST, DeliveryCase


def verify(secret, header, body):
    """What docs/delivery.md tells a receiver to do, without the daemon's code."""
    parts = dict(part.split("=", 1) for part in header.split(","))
    expected = hmac.new(
        secret.encode(), parts["t"].encode() + b"." + body, hashlib.sha256
    ).hexdigest()
    return hmac.compare_digest(expected, parts["v1"]), int(parts["t"])


class Webhooks(DeliveryCase):
    def test_firing_and_resolved_are_told_signed_and_in_order(self):
        listener = self.listener()
        self.hook("ops", listener, secret="s3cret")
        self.ok(self.rule(action="reduce_lr"), 201)
        self.ok(self.daemon.put("/v1/runs/r", {"labels": {"team": "vision"}}), 201)
        alert = self.fire()
        self.resolve()
        rows = self.settled(alert, 2)
        self.assertEqual([(r["tells"], r["state"], r["attempts"], r["error"], r["next"]) for r in rows],
                         [("firing", "delivered", 1, None, None), ("resolved", "delivered", 1, None, None)])
        self.assertTrue(all(r["delivered"] for r in rows))
        self.assertEqual([b["tells"] for b in listener.bodies()], ["firing", "resolved"])
        first, second = listener.requests
        for request in (first, second):
            good, t = verify("s3cret", request.headers["Lyapd-Signature"], request.body)
            self.assertTrue(good)
            self.assertLess(abs(t - request.time), 60)
            self.assertFalse(verify("other", request.headers["Lyapd-Signature"], request.body)[0])
            self.assertFalse(verify("s3cret", request.headers["Lyapd-Signature"], request.body + b" ")[0])
        self.assertNotEqual(first.headers["Idempotency-Key"], second.headers["Idempotency-Key"])
        body = json.loads(first.body)
        self.assertEqual(body["key"], first.headers["Idempotency-Key"])
        self.assertEqual((body["version"], body["receiver"], body["test"]), (1, "ops", False))
        self.assertEqual((body["labels"], body["action"]), ({"team": "vision"}, {"kind": "reduce_lr"}))
        shown = self.ok(self.daemon.get("/v1/alerts/%d" % alert))
        self.assertEqual(set(body["alert"]), set(shown))
        for same in ("id", "run", "attempt", "rule", "severity", "value", "threshold", "evidence", "fired"):
            self.assertEqual(body["alert"][same], shown[same])
        self.assertEqual((body["alert"]["state"], shown["state"]), ("firing", "resolved"))
        self.assertIn("lyapd_deliveries_total 2", self.daemon.get("/metrics").body.decode())

    def test_failures_are_repeated_with_the_same_key(self):
        listener = self.listener(500, "reset", (429, {"Retry-After": "1"}), 503, "hang")
        self.hook("ops", listener, secret="k")
        self.ok(self.rule(), 201)
        alert = self.fire()
        row = self.eventually(lambda: [r for r in self.deliveries(alert) if r["attempts"] > 0])[0]
        self.assertEqual(row["state"], "waiting")
        self.assertTrue(row["error"] and row["next"])
        row = self.settled(alert)[0]
        self.assertEqual((row["state"], row["error"]), ("delivered", None))
        self.assertGreaterEqual(row["attempts"], 6)  # more where an answer came too late
        self.assertEqual(len({r.headers["Idempotency-Key"] for r in listener.requests}), 1)
        self.assertTrue(all(verify("k", r.headers["Lyapd-Signature"], r.body)[0] for r in listener.requests))
        asked = listener.requests
        self.assertGreaterEqual(asked[3].time - asked[2].time, 0.99)  # Retry-After
        text = self.daemon.get("/metrics").body.decode()
        self.assertIn("lyapd_delivery_failures_total %d\n" % (row["attempts"] - 1), text)
        self.eventually(lambda: "lyapd_deliveries_waiting 0\n" in self.daemon.get("/metrics").body.decode())

    def test_redirects_are_not_followed(self):
        other = self.listener()
        to_other = {"Location": other.url}
        listener = self.listener((302, to_other), default=(307, to_other))
        self.hook("ops", listener)
        self.ok(self.rule(), 201)
        alert = self.fire()
        row = self.eventually(lambda: [r for r in self.deliveries(alert) if r["attempts"] > 1])[0]
        self.assertIn("redirect", row["error"])
        listener.default = 200
        self.assertEqual(self.settled(alert)[0]["state"], "delivered")
        self.assertEqual(other.requests, [])

    def test_an_endless_answer_is_broken_off(self):
        listener = self.listener("flood")
        self.hook("ops", listener)
        self.ok(self.rule(), 201)
        row = self.settled(self.fire())[0]
        self.assertEqual((row["state"], row["attempts"]), ("delivered", 1))

    def test_an_answer_that_trickles_times_out(self):
        listener = self.listener("late")
        self.hook("ops", listener)
        self.ok(self.rule(), 201)
        row = self.settled(self.fire())[0]
        self.assertEqual(row["state"], "delivered")
        self.assertGreaterEqual(row["attempts"], 2)

    def test_slack_and_discord(self):
        slack, discord = self.listener(), self.listener()
        self.hook("slack", slack, format="slack")
        self.hook("discord", discord, format="discord")
        self.ok(self.rule(), 201)
        labels = {"note": "<!channel> & @everyone \u00fc" + "x" * 200}
        self.ok(self.daemon.put("/v1/runs/r", {"labels": labels}), 201)
        self.settled(self.fire(), 2)
        body = slack.bodies()[0]
        self.assertEqual(body["text"], "[warning] mine fires on r")
        self.assertEqual([b["type"] for b in body["blocks"]], ["section", "context"])
        self.assertNotIn("<!channel>", slack.requests[0].body.decode())
        self.assertIn("&lt;!channel&gt; &amp;", slack.requests[0].body.decode())
        self.assertLess(len(body["blocks"][0]["text"]["text"]), 3000)
        body = discord.bodies()[0]
        self.assertEqual(body["content"], "[warning] mine fires on r")
        self.assertEqual(body["allowed_mentions"], {"parse": []})
        embed = body["embeds"][0]
        self.assertTrue(embed["description"] and embed["color"] and embed["timestamp"])
        self.assertLess(len(embed["footer"]["text"]), 2048)

    def test_who_is_told(self):
        names = ("all", "critical", "vision", "audio")
        hooks = {name: self.listener() for name in names}
        self.hook("all", hooks["all"])
        self.hook("critical", hooks["critical"], min_severity="critical")
        self.hook("vision", hooks["vision"], labels={"team": "vision"})
        self.hook("audio", hooks["audio"], labels={"team": "audio"})
        self.ok(self.daemon.put("/v1/runs/r", {"labels": {"team": "vision"}}), 201)
        self.ok(self.rule(), 201)
        alert = self.fire()
        self.assertEqual(sorted(r["receiver"] for r in self.deliveries(alert)), ["all", "vision"])
        self.resolve()
        self.ok(self.rule(notify=["audio", "critical"], severity="info"))
        alert = self.fire(step=2)
        self.assertEqual(sorted(r["receiver"] for r in self.deliveries(alert)), ["audio", "critical"])
        self.resolve(step=3)
        self.ok(self.rule(notify=[]))
        self.assertEqual(self.deliveries(self.fire(step=4)), [])
        reply = self.rule(notify=["all", "nobody"])
        self.assertIn("nobody", self.refused(reply, 400, "invalid-value"))
        self.assertEqual(self.ok(self.daemon.get("/v1/rules/mine"))["notify"], [])
        self.refused(self.rule(notify="all"), 400, "invalid-value")

    def test_info_alone_tells_nobody(self):
        listener = self.listener()
        self.hook("ops", listener)
        self.ok(self.rule(severity="info"), 201)
        self.assertEqual(self.deliveries(self.fire()), [])

    def test_a_receiver_that_is_named_or_of_the_file_stays(self):
        self.receiver("ops", type="log")
        self.ok(self.rule(notify=["ops"]), 201)
        detail = self.refused(self.daemon.request("DELETE", "/v1/receivers/ops"), 409, "conflict")
        self.assertIn("mine", detail)
        self.daemon.request("DELETE", "/v1/rules/mine")
        self.assertEqual(self.daemon.request("DELETE", "/v1/receivers/ops").status, 204)

    def test_what_waits_for_a_deleted_receiver_fails(self):
        listener = self.listener(default=500)
        self.hook("ops", listener)
        self.ok(self.rule(), 201)
        alert = self.fire()
        self.eventually(lambda: listener.requests)
        self.assertEqual(self.daemon.request("DELETE", "/v1/receivers/ops").status, 204)
        row = self.settled(alert)[0]
        self.assertEqual(row["state"], "failed")

    def test_the_end_of_an_attempt_to_a_deleted_receiver(self):
        listener = self.listener(default="hang")
        self.hook("ops", listener)
        self.ok(self.rule(), 201)
        alert = self.fire()
        self.eventually(lambda: listener.requests)  # under way
        self.assertEqual(self.daemon.request("DELETE", "/v1/receivers/ops").status, 204)
        time.sleep(2.5)  # until its time is up
        row = self.settled(alert)[0]
        self.assertEqual((row["state"], row["next"]), ("failed", None))
        self.assertIn("deleted", row["error"])

    def test_secrets_are_in_no_answer_and_no_log(self):
        listener = self.listener(default=500)
        self.receiver("ops", type="webhook", url=listener.url + "/tops3cret", format="slack", secret="tops3cret")
        self.ok(self.rule(), 201)
        alert = self.fire()
        self.eventually(lambda: self.deliveries(alert)[0]["attempts"] > 0)
        for path in ("/v1/receivers", "/v1/receivers/ops", "/v1/deliveries", "/v1/config", "/metrics"):
            self.assertNotIn(b"tops3cret", self.daemon.get(path).body)
        self.ok(self.daemon.request("POST", "/v1/receivers/ops/test"))
        self.assertNotIn("tops3cret", self.daemon.log())

    def test_a_test_answers_the_outcome(self):
        listener = self.listener(200, 500, "hang")
        self.hook("ops", listener, secret="k")
        self.receiver("journal", type="log")
        test = lambda name: self.ok(self.daemon.request("POST", "/v1/receivers/%s/test" % name))
        answer = test("ops")
        self.assertEqual((answer["delivered"], answer["error"]), (True, None))
        body = listener.bodies()[0]
        self.assertEqual((body["test"], body["alert"]["rule"], body["alert"]["run"]), (True, "test", None))
        self.assertTrue(verify("k", listener.requests[0].headers["Lyapd-Signature"], listener.requests[0].body)[0])
        answer = test("ops")
        self.assertEqual((answer["delivered"], answer["error"][:8]), (False, "HTTP 500"))
        answer = test("ops")
        self.assertFalse(answer["delivered"])
        self.assertTrue(1.5 < answer["seconds"] < 60, answer)
        self.assertTrue(test("journal")["delivered"])
        self.assertIn("event=notification", self.daemon.log())
        self.refused(self.daemon.request("POST", "/v1/receivers/none/test"), 404, "not-found")
        self.assertEqual(self.deliveries(), [])


class Hanging(DeliveryCase):
    """Whoever waited for the receiver would wait for longer than any of these tests allows."""

    flags = ("--delivery-timeout-s", "120")

    def test_it_holds_up_nobody(self):
        hanging, good = self.listener(default="hang"), self.listener()
        self.hook("bad", hanging)
        self.hook("good", good)
        self.ok(self.rule(), 201)
        alerts = {self.fire("run-%d" % i) for i in range(20)}
        self.eventually(lambda: {b["alert"]["id"] for b in good.bodies()} == alerts, 60)
        self.eventually(lambda: hanging.requests)
        self.assertLessEqual(len(hanging.requests), 2)  # its slots

    def test_a_stop_does_not_wait_for_it(self):
        listener = self.listener(default="hang")
        self.hook("ops", listener)
        self.ok(self.rule(), 201)
        self.fire()
        self.eventually(lambda: listener.requests)
        self.assertEqual(self.daemon.stop(60), 0)
        self.daemon.start()


class Bounded(DeliveryCase):
    flags = ("--outbox-rows-max", "2", "--delivery-retry-s", "60", "--delivery-retry-max-s", "60")

    def test_the_outbox_is_bounded(self):
        listener = self.listener(default=500)
        self.hook("ops", listener)
        self.ok(self.rule(), 201)
        alerts = [self.fire("run-%d" % i) for i in range(4)]
        self.assertEqual((len(alerts), len(self.deliveries())), (4, 2))
        self.assertIn("lyapd_deliveries_dropped_total 2\n", self.daemon.get("/metrics").body.decode())


class GivenUp(DeliveryCase):
    flags = FAST + ("--delivery-attempts-max", "3")

    def test_after_the_last_attempt(self):
        listener = self.listener(default=(500, {"X": "y"}))
        self.hook("ops", listener)
        self.ok(self.rule(), 201)
        alert = self.fire()
        row = self.settled(alert)[0]
        self.assertEqual((row["state"], row["attempts"], row["next"], row["delivered"]), ("failed", 3, None, None))
        self.assertEqual(row["error"].strip(), "HTTP 500")
        self.assertIn("lyapd_deliveries_given_up_total 1", self.daemon.get("/metrics").body.decode())


class Restart(DeliveryCase):
    def test_kill_between_commit_and_delivery(self):
        """What was answered is told, although the daemon died before it could say so."""
        dead = self.listener(default="hang")
        self.hook("ops", dead)
        self.ok(self.rule(), 201)
        alert = self.fire()
        self.daemon.kill()
        dead.default = 200
        dead.script = []
        self.daemon.start()
        row = self.settled(alert)[0]
        self.assertEqual(row["state"], "delivered")
        keys = {r.headers["Idempotency-Key"] for r in dead.requests}
        self.assertEqual(len(keys), 1)

    def test_order_and_backoff_survive(self):
        listener = self.listener(default=500)
        self.hook("ops", listener)
        self.ok(self.rule(), 201)
        alert = self.fire()
        self.eventually(lambda: self.deliveries(alert)[0]["attempts"] >= 2)
        self.resolve()
        self.daemon.kill()
        self.daemon.start()
        self.assertGreaterEqual(self.deliveries(alert)[0]["attempts"], 2)
        listener.default = 200
        self.settled(alert, 2)
        self.assertEqual(listener.told(), ["firing", "resolved"])
        self.assertEqual(listener.bodies()[-1]["tells"], "resolved")


class Mail(DeliveryCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="lyapd-mail-")
        self.addCleanup(shutil.rmtree, self.folder, True)
        self.program = os.path.join(self.folder, "sendmail")
        self.script('printf "%%s\\n" "$@" > %(f)s/arguments; env > %(f)s/environment; cat > %(f)s/mail; mv %(f)s/mail %(f)s/done')
        self.flags = FAST + ("--sendmail", self.program)
        super().setUp()
        self.receiver("mail", type="sendmail", to="ops+a@example.org")
        self.ok(self.rule(), 201)

    def script(self, text):
        with open(self.program, "w") as program:
            program.write("#!/bin/sh\n" + text % {"f": self.folder} + "\n")
        os.chmod(self.program, stat.S_IRWXU)

    def read(self, name):
        with open(os.path.join(self.folder, name), "rb") as file:
            return file.read()

    def test_a_mail_is_handed_over(self):
        labels = {"note": "a\nBcc: evil@example.org\n.\n\u00e9" + "long " * 40}
        self.ok(self.daemon.put("/v1/runs/r", {"labels": labels}), 201)
        self.assertEqual(self.settled(self.fire())[0]["state"], "delivered")
        self.assertEqual(self.read("arguments").decode().split("\n")[:-1], ["-oi", "--", "ops+a@example.org"])
        raw = self.read("done")
        mail = email.message_from_bytes(raw, policy=email.policy.default)
        self.assertEqual(mail["To"], "ops+a@example.org")
        self.assertEqual(mail["Subject"], "[warning] mine fires on r")
        self.assertIsNone(mail["Bcc"])
        self.assertEqual(len(mail.defects), 0)
        self.assertIn(labels["note"], mail.get_content())
        self.assertIn("loss", mail.get_content())
        self.assertLessEqual(max(len(line) for line in raw.split(b"\n")), 78)
        self.assertNotIn(b"\n.\n", raw)
        self.assertNotIn(b"LYAPD", self.read("environment"))

    def test_a_program_that_fails_hangs_or_is_not_there(self):
        self.script("exit 75")
        alert = self.fire()
        row = self.eventually(lambda: [r for r in self.deliveries(alert) if r["attempts"]])[0]
        self.assertEqual(row["error"], "sendmail ended with 75")
        self.script("sleep 99")
        self.eventually(lambda: self.deliveries(alert)[0]["error"] == "sendmail did not end in time")
        os.unlink(self.program)
        self.eventually(lambda: "No such file" in (self.deliveries(alert)[0]["error"] or ""))
        self.script("cat > %(f)s/done")
        self.assertEqual(self.settled(alert)[0]["state"], "delivered")


class File(DeliveryCase):
    def setUp(self):
        super().setUp()
        self.path = os.path.join(self.daemon.folder, "receivers.json")

    def write(self, receivers):
        with open(self.path, "w") as file:
            json.dump(receivers, file)

    def test_receivers_of_a_file(self):
        listener = self.listener()
        self.write({"ops": {"type": "webhook", "url": listener.url, "secret": "k"}, "old": {"type": "log"}})
        self.daemon.stop()
        self.daemon.flags += ["--receivers-file", self.path]
        self.daemon.start()
        shown = self.ok(self.daemon.get("/v1/receivers/ops"))
        self.assertEqual((shown["from_file"], shown["has_secret"]), (True, True))
        self.refused(self.daemon.put("/v1/receivers/ops", {"type": "log"}), 409, "conflict")
        self.refused(self.daemon.request("DELETE", "/v1/receivers/ops"), 409, "conflict")
        self.ok(self.rule(notify=["ops"]), 201)
        self.assertEqual(self.settled(self.fire())[0]["state"], "delivered")
        self.write({"ops": {"type": "log"}, "new": {"type": "log"}})
        self.daemon.process.send_signal(1)
        self.eventually(lambda: self.daemon.get("/v1/receivers/new").status == 200)
        self.assertEqual(self.daemon.get("/v1/receivers/old").status, 404)
        self.assertEqual(self.ok(self.daemon.get("/v1/receivers/ops"))["type"], "log")
        self.write({"ops": {"type": "pigeon"}})
        self.daemon.process.send_signal(1)
        self.eventually(lambda: "reload-failed" in self.daemon.log())
        self.assertEqual(self.ok(self.daemon.get("/v1/receivers/ops"))["type"], "log")

    def test_a_bad_file_stops_the_start(self):
        self.daemon.stop()
        for text, word in (("{", "line 1"), ("[]", "object"), ('{"a":{"type":"pigeon"}}', "'a'"),
                           ('{"a b":{"type":"log"}}', "a b"), ('{"a":{},"a":{}}', "duplicate")):
            with open(self.path, "w") as file:
                file.write(text)
            done = subprocess.run(self.daemon.command() + ["--receivers-file", self.path],
                                  capture_output=True, timeout=60)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(word, done.stderr.decode())
        self.daemon.start()


class Tls(DeliveryCase):
    def test_certificates_are_verified(self):
        pem = os.path.join(self.daemon.folder, "server.pem")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=x",
                        "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", pem + ".key", "-out", pem + ".crt"],
                       check=True, capture_output=True)
        with open(pem, "w") as both:
            for part in (".key", ".crt"):
                with open(pem + part) as file:
                    both.write(file.read())
        listener = self.listener(certificate=pem)
        self.hook("ops", listener)
        answer = self.ok(self.daemon.request("POST", "/v1/receivers/ops/test"))
        self.assertFalse(answer["delivered"])
        self.assertIn("certificate", answer["error"].lower())
        self.assertEqual(listener.requests, [])
        self.daemon.stop()
        self.daemon.flags += ["--delivery-ca", pem + ".crt"]
        self.daemon.start()
        answer = self.ok(self.daemon.request("POST", "/v1/receivers/ops/test"))
        self.assertTrue(answer["delivered"], answer)


if __name__ == "__main__":
    unittest.main()
