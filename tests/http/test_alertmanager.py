"""Alerts reach the real Alertmanager, stay there while they fire, and end with them."""
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import unittest
import urllib.request

from listener import FAST, DeliveryCase, Listener

PROGRAM = shutil.which("prometheus-alertmanager") or "/usr/bin/prometheus-alertmanager"

CONFIG = """
route:
  receiver: hook
  group_by: [alertname, run]
  group_wait: 0s
  group_interval: 1s
  repeat_interval: 1h
receivers:
- name: hook
  webhook_configs:
  - url: %s
    send_resolved: true
"""


class Alertmanager:
    def __init__(self, hook):
        self.folder = tempfile.mkdtemp(prefix="alertmanager-")
        config = os.path.join(self.folder, "config.yml")
        with open(config, "w") as file:
            file.write(CONFIG % hook)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = "http://127.0.0.1:%d" % self.port
        with open(os.path.join(self.folder, "log"), "wb") as log:
            self.process = subprocess.Popen(
                [PROGRAM, "--config.file", config, "--storage.path", os.path.join(self.folder, "data"),
                 "--web.listen-address", "127.0.0.1:%d" % self.port, "--cluster.listen-address", ""],
                stdout=log, stderr=log,
            )

    def alerts(self):
        try:
            with urllib.request.urlopen(self.url + "/api/v2/alerts", timeout=5) as answer:
                return json.load(answer)
        except OSError:
            return None

    def close(self):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class Alerts(DeliveryCase):
    flags = FAST + ("--alertmanager-repeat-s", "5")

    def setUp(self):
        super().setUp()
        self.hook = Listener()
        self.addCleanup(self.hook.close)
        self.manager = Alertmanager(self.hook.url)
        self.addCleanup(self.manager.close)
        self.eventually(lambda: self.manager.alerts() is not None, 60)
        self.receiver("am", type="alertmanager", url=self.manager.url + "/")
        self.ok(self.rule(severity="critical", action="stop"), 201)

    def test_firing_repeated_and_resolved(self):
        labels = {"team": "vision", "2-odd key": "x", "alertname": "spoof", "note": "\u00e9 \"q\"\n"}
        self.ok(self.daemon.put("/v1/runs/r", {"labels": labels}), 201)
        alert = self.fire()
        held = self.eventually(self.manager.alerts)[0]
        self.assertEqual(held["labels"], {
            "alertname": "mine", "severity": "critical", "run": "r", "alert_id": str(alert), "source": "lyapd",
            "team": "vision", "_2_odd_key": "x", "note": labels["note"]})
        self.assertEqual(held["annotations"]["summary"], "[critical] mine fires on r")
        self.assertEqual(held["annotations"]["action"], "stop")
        self.assertIn("loss", held["annotations"]["description"])
        row = self.eventually(lambda: [r for r in self.deliveries(alert) if r["state"] == "repeating"])[0]
        self.assertTrue(row["next"] and row["delivered"])
        first_end = held["endsAt"]
        again = self.eventually(lambda: [a for a in self.manager.alerts() if a["endsAt"] > first_end])[0]
        self.assertEqual((again["labels"], again["startsAt"]), (held["labels"], held["startsAt"]))
        self.assertIn(b"firing", self.eventually(lambda: self.hook.requests)[0].body)
        # The labels of the run change: Alertmanager must still know the alert.
        self.ok(self.daemon.put("/v1/runs/r", {"labels": {"team": "audio"}}))
        self.resolve()
        self.eventually(lambda: self.manager.alerts() == [])
        told = self.eventually(lambda: [b for b in self.hook.bodies() if b["status"] == "resolved"])[0]
        self.assertEqual(told["alerts"][0]["labels"]["team"], "vision")
        rows = self.settled(alert, 2)
        self.assertEqual([(r["tells"], r["state"], r["next"]) for r in rows],
                         [("firing", "delivered", None), ("resolved", "delivered", None)])

    def test_what_repeats_goes_on_after_kill(self):
        alert = self.fire()
        held = self.eventually(self.manager.alerts)[0]
        self.daemon.kill()
        self.daemon.start()
        self.eventually(lambda: [a for a in self.manager.alerts() if a["endsAt"] > held["endsAt"]])
        self.resolve()
        self.eventually(lambda: self.manager.alerts() == [])
        self.assertEqual(len(self.settled(alert, 2)), 2)

    def test_a_test_ends_by_itself(self):
        answer = self.ok(self.daemon.request("POST", "/v1/receivers/am/test"))
        self.assertTrue(answer["delivered"], answer)
        held = self.manager.alerts()[0]
        self.assertEqual(held["labels"]["alertname"], "test")
        self.assertLess(held["endsAt"], time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() + 90)))


if __name__ == "__main__":
    unittest.main()
