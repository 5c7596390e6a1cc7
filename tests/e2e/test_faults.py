"""A NaN in one layer's gradient, and a run that is its own restart."""

import math
import unittest

import torch

from service import Service
from jobs import Job
import lyapd


class Faults(unittest.TestCase):
    def setUp(self):
        self.daemon = Service()
        self.addCleanup(self.daemon.close)

    def test_nan_is_named_by_tensor_and_step_and_skipped(self):
        job = Job("mlp", "sgd")
        monitor = lyapd.watch(job.model, job.optimizer, url=self.daemon.url, run="nan",
                              probe=job.probe, wait=True)
        self.addCleanup(monitor.close)
        for step in range(60):
            loss = job.backward()
            if step == 50:
                with torch.no_grad():
                    job.model.body[2].weight.grad[3, 1] = math.nan
            reply = monitor.step(loss)
            if monitor.action["kind"] != "continue":
                self.assertEqual(monitor.action["kind"], "skip")
                break
            job.optimizer.step()
        self.assertEqual(step, 50)
        alerts = [alert for alert in reply.alerts if alert["state"] == "firing"
                  and "finite" in alert["rule"]]
        self.assertTrue(alerts, reply.alerts)
        self.assertEqual(alerts[0]["severity"], "critical")
        with lyapd.Run(self.daemon.url, "nan") as run:
            stored = [alert for alert in run.alerts(state="firing") if "finite" in alert["rule"]]
            self.assertIn("body.2.weight", str(stored))
            self.assertEqual(stored[0]["firing_step"], 50)
            # The NaN entered no window: the next finite point is measured as ever.
            self.assertEqual(run.profile("nonfinite_grad", from_step=50)["series"]
                             ["nonfinite_grad"], [1.0])
        job.optimizer.zero_grad()
        reply = None
        for step in range(3):
            loss = job.backward()
            reply = monitor.step(loss)
            job.optimizer.step()
        self.assertTrue(math.isfinite(reply.value("net_work")))

    def test_restart_opens_an_attempt_and_the_forgotten_process_is_told(self):
        job = Job("mlp", "adamw")
        first = lyapd.watch(job.model, job.optimizer, url=self.daemon.url, run="twice", wait=True)
        self.addCleanup(first.close)
        for _ in range(20):
            first.step(job.backward())
            job.optimizer.step()
        second = lyapd.watch(job.model, job.optimizer, url=self.daemon.url, run="twice", wait=True,
                             start_step=15)
        self.addCleanup(second.close)
        for _ in range(20):
            reply = second.step(job.backward())
            job.optimizer.step()
        self.assertEqual((first.attempt, second.attempt), (1, 2))
        # The state came with the first push of the resumed run: Adam's update is checked at once.
        self.assertLess(reply.value("update_identity"), 1e-3)
        self.assertIsNone(first.step(0.5))
        self.assertIsNone(first.step(0.5))
        self.assertTrue(first.is_stale, first.errors)

    def test_gaps_do_not_break_adam(self):
        job = Job("mlp", "adamw")
        monitor = lyapd.watch(job.model, job.optimizer, url=self.daemon.url, run="bursts", every=5,
                              wait=True)
        self.addCleanup(monitor.close)
        omega = []
        for step in range(60):
            reply = monitor.step(job.backward())
            job.optimizer.step()
            if reply and step % 5 == 1:
                omega.append(reply.value("update_identity"))
        self.assertLess(max(omega[1:]), 1e-3, omega)


if __name__ == "__main__":
    unittest.main()
