"""Receivers and deliveries over HTTP, with ports from memory."""
import json
import unittest

from harness import JSON, Case


class Receivers(Case):
    def put(self, name, **fields):
        return self.http("PUT", f"/v1/receivers/{name}", json.dumps(fields), JSON)

    def test_create_change_delete(self):
        reply = self.put("ops", type="webhook", url="https://a.example:8443/hook", secret="s3cret")
        self.assertEqual(reply.status, 201, reply.body)
        self.assertEqual(
            reply.json(),
            {"receiver": "ops", "type": "webhook", "url": "https://a.example:8443/hook",
             "format": "json", "has_secret": True, "min_severity": "warning", "labels": None,
             "from_file": False},
        )
        again = dict(reply.json(), min_severity="critical", labels={"team": "a"})
        body = self.put("ops", **again).json()
        self.assertEqual((body["min_severity"], body["labels"]), ("critical", {"team": "a"}))
        self.assertTrue(body["has_secret"])  # what is not said stays
        self.assertFalse(self.put("ops", **dict(again, secret=None)).json()["has_secret"])
        names = [r["receiver"] for r in self.get("/v1/receivers").json()["receivers"]]
        self.assertIn("ops", names)
        self.assertEqual(self.http("DELETE", "/v1/receivers/ops").status, 204)
        self.problem(self.get("/v1/receivers/ops"), 404, "not-found", "ops")
        self.problem(self.http("DELETE", "/v1/receivers/ops"), 404, "not-found", "ops")

    def test_secrets_are_never_shown(self):
        shown = {
            "https://hooks.slack.com/services/T0/B0/topsecret": ("slack", "https://hooks.slack.com/..."),
            "https://discord.com/api/webhooks/1/topsecret?wait=1": ("discord", "https://discord.com/..."),
            "https://me:topsecret@a.example/x": ("json", "https://a.example/x/..."),
            "https://a.example/x?key=topsecret": ("json", "https://a.example/x/..."),
            "https://a.example?key=topsecret": ("json", "https://a.example/..."),
            "https://a@b:topsecret@c.example/": ("json", "https://c.example//..."),
        }
        for url, (form, expected) in shown.items():
            reply = self.put("hidden", type="webhook", url=url, format=form, secret="topsecret")
            self.assertEqual(reply.json()["url"], expected)
            for answer in (reply, self.get("/v1/receivers/hidden"), self.get("/v1/receivers")):
                self.assertNotIn(b"topsecret", answer.body)
            self.problem(self.put("hidden", type="webhook", url=expected), 400, "invalid-value", "/...")

    def test_every_type(self):
        self.assertEqual(self.put("am", type="alertmanager", url="http://127.0.0.1:9093").json()["url"],
                         "http://127.0.0.1:9093")
        self.assertEqual(self.put("mail", type="sendmail", to="ops+x@a-b.example").json()["to"],
                         "ops+x@a-b.example")
        self.assertEqual(self.put("mail", type="sendmail", to="root").json()["to"], "root")
        self.assertEqual(self.put("journal", type="log", min_severity="info").json()["type"], "log")

    def test_bad_receivers_name_the_field(self):
        hook = {"type": "webhook", "url": "https://a.example/"}
        for fields, slug, word in (
            ({}, "missing-field", "type"),
            ({"type": "pigeon"}, "invalid-value", "pigeon|webhook"),
            ({"type": "webhook"}, "missing-field", "url"),
            ({"type": "sendmail"}, "missing-field", "to"),
            ({"type": "log", "url": "https://a.example/"}, "invalid-value", "url"),
            (dict(hook, to="a@b"), "invalid-value", "to"),
            ({"type": "alertmanager", "url": "http://a", "secret": "x"}, "invalid-value", "secret"),
            ({"type": "alertmanager", "url": "http://a", "format": "json"}, "invalid-value", "format"),
            (dict(hook, url="ftp://a.example/"), "invalid-value", "http"),
            (dict(hook, url="file:///etc/passwd"), "invalid-value", "http"),
            (dict(hook, url="https://"), "invalid-value", "host"),
            (dict(hook, url="https:///x"), "invalid-value", "host"),
            (dict(hook, url="https://a.example/\r\nX: y"), "invalid-value", "ASCII"),
            (dict(hook, url="https://a.example/" + "x" * 2048), "limit-exceeded", "2048"),
            (dict(hook, secret=""), "invalid-value", "secret"),
            (dict(hook, secret="x" * 257), "limit-exceeded", "256"),
            (dict(hook, format="xml"), "invalid-value", "format"),
            (dict(hook, min_severity="loud"), "invalid-value", "min_severity"),
            (dict(hook, labels={"a": 1}), "invalid-value", "string"),
            (dict(hook, colour="red"), "unknown-field", "colour"),
        ):
            reply = self.put("bad", **fields)
            self.problem(reply, 413 if slug == "limit-exceeded" else 400, slug, word.split("|")[-1])
        self.problem(self.put("a%20b", **hook), 400, "invalid-value", "64")

    def test_addresses_cannot_carry_headers_or_options(self):
        for to in ("a@b\nBcc: c@d", "a@b, c@d", "-oQ/tmp", "a@b@c", "@b", "a@", "", "a b@c", "|sh", "a@b\r",
                   "a\u00e4@b", "x" * 255):
            reply = self.put("mail2", type="sendmail", to=to)
            self.assertIn(reply.status, (400, 413), (to, reply.body))
        self.problem(self.get("/v1/receivers/mail2"), 404, "not-found")

    def test_a_test_is_answered_when_the_receiver_has_answered(self):
        for name in ("good", "fails"):
            self.put(name, type="log")
        body = self.http("POST", "/v1/receivers/good/test").json()
        self.assertEqual(body, {"delivered": True, "seconds": 0.25, "error": None})
        body = self.http("POST", "/v1/receivers/fails/test").json()
        self.assertEqual((body["delivered"], body["error"]), (False, "HTTP 500"))
        self.problem(self.http("POST", "/v1/receivers/none/test"), 404, "not-found", "none")

    def test_deliveries(self):
        body = self.get("/v1/deliveries").json()
        self.assertEqual([d["state"] for d in body["deliveries"]],
                         ["waiting", "repeating", "delivered", "failed"])
        first = body["deliveries"][0]
        self.assertEqual((first["alert"], first["receiver"], first["tells"], first["attempts"],
                          first["error"], first["next"]), (1, "ops", "firing", 3, "HTTP 503", None))
        body = self.get("/v1/deliveries?state=failed&receiver=ops").json()
        self.assertEqual([d["id"] for d in body["deliveries"]], [4])
        self.assertEqual(len(self.get("/v1/alerts/1/deliveries").json()["deliveries"]), 4)
        self.assertEqual(self.get("/v1/alerts/2/deliveries").json()["deliveries"], [])
        self.problem(self.get("/v1/alerts/99/deliveries"), 404, "not-found", "99")
        self.problem(self.get("/v1/deliveries?state=lost"), 400, "invalid-value", "lost")


class Stop(Case):
    def test_a_test_that_never_ends_is_given_up_when_the_daemon_stops(self):
        self.http("PUT", "/v1/receivers/never", json.dumps({"type": "log"}), JSON)
        with self.connect() as connection:
            connection.sendall(b"POST /v1/receivers/never/test HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
            self.assertEqual(self.get("/healthz").status, 200)  # nobody waits for it
            self.server.stop()
            connection.settimeout(20)
            self.assertIn(b"503", connection.recv(4096))


if __name__ == "__main__":
    unittest.main()
