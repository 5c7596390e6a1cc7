"""Real trainings under the real daemon: `test_training.py mlp|cnn|transformer`.

For each optimizer one healthy run, in which the declared update is the one that happens, the
reported sharpness is the probe Hessian's, and nothing warns; then the learning rate goes past the
limit, and the daemon says so before the loss has tripled."""

import statistics
import sys
import unittest

from service import Service
from jobs import Job, exact_sharpness
import lyapd

NETWORK = "mlp"
STEPS = 300
PROBE_EVERY = 5
EXACT_EVERY = 15      # steps between exact curvatures, a multiple of PROBE_EVERY
COLD_PROBES = 10      # SPEC E4: the first ten may be low
RAISED_TO = 3.0       # times the stability limit
AFTER_RAISE = 60


class Training(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.daemon = Service()
        cls.addClassCleanup(cls.daemon.close)

    def healthy(self, kind):
        """(job, monitor, losses, {step: (reported, exact)}) after STEPS steps."""
        job = Job(NETWORK, kind)
        monitor = lyapd.watch(job.model, job.optimizer, url=self.daemon.url,
                              run="%s-%s" % (NETWORK, kind), probe=job.probe,
                              probe_every=PROBE_EVERY, wait=True, timeout=60)
        self.addCleanup(monitor.close)
        losses, exact = [], {}
        for step in range(STEPS):
            losses.append(float(job.backward().detach()))
            reply = monitor.step(losses[-1])
            if monitor.probed_at == step and step % EXACT_EVERY < PROBE_EVERY:
                exact[step] = (reply["metrics"]["sharpness"], exact_sharpness(job))
            job.optimizer.step()
        self.assertEqual(monitor.errors, [])
        self.assertEqual((monitor.sent, monitor.dropped), (STEPS, 0))
        return job, monitor, losses, exact

    def check_identity(self, run):
        omega = [value for value in run.profile("update_identity")["series"]["update_identity"]
                 if value is not None]
        self.assertGreater(len(omega), STEPS - 10)
        self.assertLess(statistics.median(omega), 1e-3)
        return statistics.median(omega)

    def check_sharpness(self, found):
        """Ratios of what was reported to what is exact, once the probes are warm."""
        warm = [step for step in sorted(found) if step >= COLD_PROBES * PROBE_EVERY]
        present = [step for step in warm if found[step][0]["value"] is not None]
        self.assertGreaterEqual(len(present), 0.9 * len(warm), "sharpness is absent too often")
        ratios = []
        for step in present:
            metric, exact = found[step]
            ratios.append(metric["value"] / exact)
            self.assertTrue(abs(ratios[-1] - 1) < 0.10
                            or abs(metric["value"] - exact) <= metric["error"],
                            (step, metric, exact))
        self.assertLess(abs(statistics.median(ratios) - 1), 0.03)
        near = [ratio for ratio in ratios if abs(ratio - 1) < 0.10]
        self.assertGreaterEqual(len(near), 0.9 * len(ratios), sorted(ratios))
        return ratios

    def alerts(self, run):
        return [alert for alert in run.alerts() if alert["severity"] in ("warning", "critical")
                and alert["firing_step"] is not None]

    def raise_rate(self, job, monitor, losses):
        """(step of the first alert, step at which the loss had tripled)."""
        ratio = monitor.last_reply.value("stability_ratio")
        before = statistics.mean(losses[-20:])
        job.set_lr(RAISED_TO / ratio)
        alert_at = tripled_at = None
        for step in range(STEPS, STEPS + AFTER_RAISE):
            loss = float(job.backward().detach())
            reply = monitor.step(loss)
            firing = [alert for alert in reply.alerts if alert["state"] == "firing"
                      and alert["rule"] in ("limit-crossed", "instability")] if reply else []
            if firing and alert_at is None:
                alert_at = step
            if not loss <= 3 * before and tripled_at is None:
                tripled_at = step
            if alert_at is not None and tripled_at is not None:
                break
            job.optimizer.step()
        return alert_at, tripled_at

    def whole(self, kind):
        job, monitor, losses, exact = self.healthy(kind)
        run = lyapd.Run(self.daemon.url, monitor.run)
        self.addCleanup(run.close)
        omega = self.check_identity(run)
        ratios = self.check_sharpness(exact)
        self.assertEqual(self.alerts(run), [])
        self.assertEqual(monitor.state, "healthy")
        alert_at, tripled_at = self.raise_rate(job, monitor, losses)
        print("%s %s: loss %.3f -> %.3f, omega %.1e, sharpness/exact median %.4f [%.3f, %.3f] n=%d"
              ", alert %s, tripled %s" % (
                  NETWORK, kind, losses[0], statistics.mean(losses[-20:]), omega,
                  statistics.median(ratios), min(ratios), max(ratios), len(ratios),
                  alert_at, tripled_at), flush=True)
        self.assertIsNotNone(alert_at, "no alert after the raise")
        if tripled_at is not None:
            self.assertLess(alert_at, tripled_at)

    def test_sgd(self):
        self.whole("sgd")

    def test_heavy_ball(self):
        self.whole("heavy-ball")

    def test_adamw(self):
        self.whole("adamw")


if __name__ == "__main__":
    if len(sys.argv) > 1 and not sys.argv[1].startswith("-"):
        NETWORK = sys.argv.pop(1)
    unittest.main()
