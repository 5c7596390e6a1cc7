"""Twins of real PyTorch trainings through the real daemon: the exponents it reports against the
exact tangent of the training (Hessian-vector products, F64), and what happens to a job meanwhile."""
import math
import os
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "python"), os.path.join(HERE, "..", "oracle")]
from service import Service  # noqa: E402
import torch  # noqa: E402
import lyapd  # noqa: E402
import oracle  # noqa: E402
from test_twin import MAKE, X, Y, Tangent, network, norm  # noqa: E402

PER_STEP = 1e-6
LEAST = 64  # values of the least window: there is no exponent of fewer
KINDS = ("sgd", "heavy-ball", "adamw")


class Training:
    """A tanh network in F64 on mini-batches of 16; a tangent may go along with each twin."""

    def __init__(self, kind):
        self.kind, self.model, self.t = kind, network(), 0
        self.parameters = list(self.model.parameters())
        self.optimizer = MAKE[kind](self.parameters)
        self.tangents, self.exact = {}, {}

    def loss(self):
        at = self.t * 16 % 64
        return ((self.model(X[at:at + 16]) - Y[at:at + 16]) ** 2).mean()

    def probe(self):
        return ((self.model(X) - Y) ** 2).mean()

    def backward(self):
        """Gradients in .grad; the loss and the graph of its gradient."""
        loss = self.loss()
        gradient = torch.autograd.grad(loss, self.parameters, create_graph=True)
        for parameter, part in zip(self.parameters, gradient):
            parameter.grad = part.detach().clone()
        return loss.detach(), gradient

    def follow(self, monitor):
        """A tangent for every twin that was injected in this step, along what it was moved by."""
        for twin in monitor._company._twins:
            if self.tangents.get(twin.name, (None,))[0] is not twin:
                moved = [mine.data - p.data for mine, p in zip(twin.parameters, self.parameters)]
                self.tangents[twin.name] = twin, Tangent(self.kind, self.parameters, moved)
        for name, (_, tangent) in self.tangents.items():
            self.exact.setdefault(name, {})[self.t] = tangent.value()

    def one(self, monitor=None, is_followed=True):
        loss, gradient = self.backward()
        if monitor is not None:
            monitor.step(loss)
            if is_followed:
                self.follow(monitor)
        for _, tangent in self.tangents.values():
            product = torch.autograd.grad(gradient, self.parameters, grad_outputs=tangent.th,
                                          retain_graph=True)
            if self.kind == "adamw":  # bias corrections count the updates of the training
                tangent.t = self.t
            tangent.step(gradient, product, self.optimizer)
        self.optimizer.step()
        self.t += 1

    def state(self):
        return [p.detach().clone() for p in self.parameters]


class Twins(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.daemon = Service()
        cls.addClassCleanup(cls.daemon.close)

    def watch(self, training, run, twins=None, **options):
        twins = lyapd.Twins(training.loss) if twins is None else twins
        monitor = lyapd.watch(training.model, training.optimizer, url=self.daemon.url, run=run,
                              twins=twins, timeout=60.0,
                              limits=lyapd.Limits(queue_count=4096), **options)
        self.addCleanup(monitor.close)
        return monitor

    def reader(self, run):
        found = lyapd.Run(self.daemon.url, run)
        self.addCleanup(found.close)
        return found

    def series(self, run, *metrics, **options):
        """{metric: {step: value}}"""
        found = self.reader(run).profile(list(metrics), **options)
        return {name: dict(zip(found["step"], values)) for name, values in found["series"].items()}

    def sent(self, monitor):
        self.assertTrue(monitor.flush(30))
        self.assertEqual((monitor.errors, monitor.dropped), ([], 0))

    def agrees(self, exact, found, rates, first=0):
        """Logs and the rates of every full window are the exact tangent's, within 1e-6 a step; the
        worst difference of a rate."""
        worst = 0.0
        for t, y in exact.items():
            self.assertLess(abs(found[t] - y), PER_STEP * max(t - first, LEAST), t)
        for t, rate in rates.items():
            if rate is not None:
                window = 256 if t - first >= 256 else 64
                y = [exact[s] for s in range(t - window, t + 1)]
                worst = max(worst, abs(rate - oracle.verdict(y)["rate"]))
        self.assertLess(worst, PER_STEP)
        return worst

    def test_exponents_are_those_of_the_exact_tangent(self):
        for kind in KINDS:
            training = Training(kind)
            monitor = self.watch(training, kind)
            for _ in range(300):
                training.one(monitor)
            self.sent(monitor)
            found = self.series(kind, "twin_log", "twin_rate")
            self.assertEqual(sum(r is not None for r in found["twin_rate"].values()), 300 - 64)
            worst = self.agrees(training.exact["random"], found["twin_log"], found["twin_rate"])
            self.assertGreater(abs(training.exact["random"][299]), 0.5)  # something has moved
            share = monitor.timing["twin_s"] / monitor.timing["steps"]
            print("%-11s twin_rate: within %.1e per step of the tangent; %.2f ms a step in the twin"
                  % (kind, worst, 1e3 * share), file=sys.stderr)

    def test_along_the_active_direction_injected_anew(self):
        """Beside a random one, renewed every 100 steps: each life against its own tangent."""
        for kind in KINDS:
            run, training = "active-" + kind, Training(kind)
            monitor = self.watch(training, run, lyapd.Twins(training.loss, active=True, renew=100),
                                 probe=training.probe, windows=[64])
            begun = {}
            for t in range(230):
                training.one(monitor)
                twin = training.tangents.get("active", (None,))[0]
                begun.setdefault(id(twin), t) if twin is not None else None
            births = sorted(begun.values())
            self.assertEqual([b - a for a, b in zip(births, births[1:])], [100, 100])
            self.sent(monitor)
            latest = self.reader(run).latest()
            self.assertEqual(latest["twins"][:2], ["random", "active"])
            found = self.series(run, "twin_log_2", "twin_active_rate", "twin_log", "twin_rate")
            exact, rates = training.exact["active"], found["twin_active_rate"]
            for birth in births:
                life = range(birth, min(birth + 100, 230))
                self.assertEqual(found["twin_log_2"][birth], 0)
                for t in life:
                    self.assertLess(abs(found["twin_log_2"][t] - exact[t]),
                                    PER_STEP * max(t - birth, LEAST), (kind, t))
                    full = t - birth >= 64
                    self.assertEqual(rates[t] is not None, full, (kind, t))
                    if full:
                        y = [exact[s] for s in range(t - 64, t + 1)]
                        self.assertAlmostEqual(rates[t], oracle.verdict(y)["rate"], delta=PER_STEP)
            for t, y in training.exact["random"].items():
                self.assertLess(abs(found["twin_log"][t] - y), PER_STEP * max(t, LEAST))

    def test_a_late_start(self):
        """Adam's moments are there already when the twin is injected at step 120."""
        for kind in KINDS:
            run, training = "late-" + kind, Training(kind)
            for _ in range(120):
                training.one()
            monitor = self.watch(training, run, start_step=120)
            for _ in range(70):
                training.one(monitor)
            self.sent(monitor)
            found = self.series(run, "twin_log", "twin_rate")
            self.assertEqual((min(found["twin_log"]), found["twin_log"][120]), (120, 0))
            self.assertIsNone(found["twin_rate"][183])
            self.assertIsNotNone(found["twin_rate"][184])
            self.agrees(training.exact["random"], found["twin_log"], found["twin_rate"], 120)

    def test_the_client_starts_again(self):
        """Another life of the job from a checkpoint: another attempt, whose twin starts anew."""
        training = Training("adamw")
        monitor = self.watch(training, "again")
        for _ in range(80):
            training.one(monitor)
        self.sent(monitor)
        kept = training.state(), training.optimizer.state_dict()
        monitor._sender.close(0, False)  # as a process that died: nothing is ended
        second = Training("adamw")
        for p, old in zip(second.parameters, kept[0]):
            p.data.copy_(old)
        second.optimizer.load_state_dict(kept[1])
        second.t = 80
        monitor = self.watch(second, "again", start_step=80)
        for _ in range(70):
            second.one(monitor)
        self.sent(monitor)
        self.assertEqual(monitor.attempt, 2)
        found = self.series("again", "twin_log", "twin_rate", attempt=2)
        self.assertEqual((min(found["twin_log"]), found["twin_log"][80]), (80, 0))
        self.assertIsNone(found["twin_rate"][143])
        self.agrees(second.exact["random"], found["twin_log"], found["twin_rate"], 80)

    def test_the_daemon_is_killed_meanwhile(self):
        """What was queued arrives; the rates are those of an undisturbed run, to the last bit."""
        for run, is_killed in (("calm", False), ("killed", True)):
            training = Training("heavy-ball")
            monitor = self.watch(training, run)
            for t in range(120):
                if is_killed and t in (40, 90):
                    self.daemon.kill()
                if is_killed and t in (50, 91):
                    self.daemon.start()
                training.one(monitor, is_followed=False)
            self.assertTrue(monitor.flush(30))
            self.assertEqual(monitor.dropped, 0)
        metrics = "twin_log", "twin_rate", "twin_growth", "window_verdict"
        calm, killed = self.series("calm", *metrics), self.series("killed", *metrics)
        self.assertEqual(len(calm["twin_log"]), 120)
        self.assertEqual(calm, killed)

    def test_a_push_every_few_steps_says_the_same(self):
        """Two pushes in a row of every five steps: the twin goes along at all of them."""
        training = Training("sgd")
        monitor = self.watch(training, "sparse", every=5)
        for _ in range(300):
            training.one(monitor)
        self.sent(monitor)
        found = self.series("sparse", "twin_log", "twin_rate")
        self.assertEqual(len(found["twin_log"]), 120)
        exact = training.exact["random"]
        for t, y in found["twin_log"].items():
            self.assertLess(abs(y - exact[t]), PER_STEP * max(t, LEAST))
        newest = sorted(found["twin_log"])[-65:]
        y = [exact[t] for t in newest]
        spacing = (newest[-1] - newest[0]) / 64
        self.assertAlmostEqual(found["twin_rate"][newest[-1]], oracle.verdict(y)["rate"] / spacing,
                               delta=PER_STEP)

    def test_several_twins_and_the_job_does_not_notice(self):
        """Four twins, clipping and dropout: parameters as without, to the last bit."""
        def train(is_watched):
            torch.manual_seed(3)
            model = network(dropout=0.2)
            optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
            loss_of = lambda: ((model(X) - Y) ** 2).mean()  # noqa: E731
            monitor = None
            if is_watched:
                monitor = lyapd.watch(model, optimizer, run="four", url=self.daemon.url, steps=80,
                                      probe=loss_of, clip_norm=0.5, timeout=60.0,
                                      limits=lyapd.Limits(queue_count=4096),
                                      twins=lyapd.Twins(loss_of, count=3, active=True))
                self.addCleanup(monitor.close)
            torch.manual_seed(9)
            for _ in range(75):
                optimizer.zero_grad()
                loss = loss_of()
                loss.backward()
                if monitor:
                    monitor.step(loss)
                torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
                optimizer.step()
            if monitor:
                self.sent(monitor)
            return [p.detach().clone() for p in model.parameters()]
        for a, b in zip(train(False), train(True)):
            self.assertTrue(torch.equal(a, b))
        latest = self.reader("four").latest()
        self.assertEqual(latest["twins"], ["random", "random-2", "random-3", "active"])
        for metric in ("twin_log", "twin_log_2", "twin_log_3", "twin_log_4", "twin_rate", "twin_growth",
                       "twin_active_rate", "window_verdict", "active_verdict", "sensitive_horizon"):
            self.assertIsNotNone(latest["metrics"][metric]["value"], metric)
        self.assertIn("twin", latest["verdict_detail"]["sides"])
        self.assertLess(abs(latest["metrics"]["twin_log"]["value"]), 20)


if __name__ == "__main__":
    unittest.main()
