"""Twins against the exact tangent of the training, and that the job does not notice them."""

import logging
import math
import os
import sys
import unittest
from unittest import mock

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../clients/python"))
import torch  # noqa: E402

import lyapd  # noqa: E402
from fake import Daemon  # noqa: E402
from lyapd.twin import Company, Twins  # noqa: E402
from lyapd import wire  # noqa: E402

logging.disable(logging.WARNING)
DATA = torch.Generator().manual_seed(3)
X = torch.randn(64, 6, generator=DATA, dtype=torch.float64)
Y = torch.randn(64, 3, generator=DATA, dtype=torch.float64)
MAKE = {
    "sgd": lambda ps: torch.optim.SGD(ps, lr=0.3),
    "heavy-ball": lambda ps: torch.optim.SGD(ps, lr=0.1, momentum=0.9, weight_decay=1e-3),
    "adamw": lambda ps: torch.optim.AdamW(ps, lr=0.01, weight_decay=0.01),
}


def network(dtype=torch.float64, dropout=0.0):
    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Linear(6, 10), torch.nn.Tanh(), torch.nn.Dropout(dropout),
                               torch.nn.Linear(10, 3)).to(dtype)


def norm(vector):
    return math.sqrt(sum(float((part * part).sum()) for part in vector))


class Tangent:
    """The exact derivative of the optimizer's map along one direction: (theta, m, v), by
    Hessian-vector products."""

    def __init__(self, kind, parameters, direction):
        length = norm(direction)
        self.kind, self.ps, self.log, self.t = kind, parameters, 0.0, 0
        self.th = [part / length for part in direction]
        self.m = [torch.zeros_like(part) for part in direction]
        self.v = [torch.zeros_like(part) for part in direction]

    def value(self):
        length = norm(self.th)
        self.log += math.log(length)
        self.th, self.m, self.v = ([part / length for part in vector]
                                   for vector in (self.th, self.m, self.v))
        return self.log

    def step(self, gradient, product, optimizer):
        self.t += 1
        if self.kind == "sgd":
            self.th = [a - 0.3 * h for a, h in zip(self.th, product)]
        elif self.kind == "heavy-ball":
            self.m = [0.9 * b + h + 1e-3 * a for a, b, h in zip(self.th, self.m, product)]
            self.th = [a - 0.1 * b for a, b in zip(self.th, self.m)]
        else:
            for k, p in enumerate(self.ps):
                self._adam(k, gradient[k].detach(), product[k], optimizer.state.get(p, {}))

    def _adam(self, k, g, h, state):
        m = 0.9 * state.get("exp_avg", torch.zeros_like(g)) + 0.1 * g
        v = 0.999 * state.get("exp_avg_sq", torch.zeros_like(g)) + 0.001 * g * g
        self.m[k] = 0.9 * self.m[k] + 0.1 * h
        self.v[k] = 0.999 * self.v[k] + 0.002 * g * h
        one, two = 1 - 0.9 ** self.t, 1 - 0.999 ** self.t
        root = (v / two).sqrt()
        p, dp = root + 1e-8, 0.5 * self.v[k] / two / root
        self.th[k] = (self.th[k] * (1 - 1e-4)
                      - 0.01 * (self.m[k] / one / p - m / one / p ** 2 * dp))


class Exact(unittest.TestCase):
    def compare(self, kind):
        model, batch = network(), {}
        parameters = list(model.parameters())
        optimizer = MAKE[kind](parameters)

        def loss_of():
            return ((model(batch["x"]) - batch["y"]) ** 2).mean()
        company = Company(model, optimizer, Twins(loss_of), None)
        tangent, worst = None, 0.0
        for t in range(300):
            at = t * 16 % 64
            batch.update(x=X[at:at + 16], y=Y[at:at + 16])
            gradient = torch.autograd.grad(loss_of(), parameters, create_graph=True)
            for parameter, part in zip(parameters, gradient):
                parameter.grad = part.detach().clone()
            values = company.step(None, False)
            self.assertEqual(values["twin_name"], ["random"])
            if tangent is None:
                tangent = Tangent(kind, parameters, company._noise(0))
            worst = max(worst, abs(values["twin_log"][0] - tangent.value()) / max(t, 1))
            product = torch.autograd.grad(gradient, parameters, grad_outputs=tangent.th)
            tangent.step(gradient, product, optimizer)
            optimizer.step()
        print("%s: |difference of the exponents| <= %.1e per step" % (kind, worst))
        self.assertGreater(abs(tangent.log), 1)  # something has grown
        self.assertLess(worst, 1e-6)

    def test_sgd(self):
        self.compare("sgd")

    def test_heavy_ball(self):
        self.compare("heavy-ball")

    def test_adamw(self):
        self.compare("adamw")


class Undisturbed(unittest.TestCase):
    def train(self, twins, steps=40):
        model = network(dropout=0.3)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        batch = {}

        def loss_of():
            return ((model(batch["x"]) - batch["y"]) ** 2).mean()
        company = Company(model, optimizer, twins(loss_of), 0.5) if twins else None
        torch.manual_seed(9)
        logs = []
        for _ in range(steps):
            rows = torch.randint(0, 64, (16,))  # the loop uses the same random numbers
            batch.update(x=X[rows], y=Y[rows])
            optimizer.zero_grad()
            loss_of().backward()
            if company:
                before = [p.grad.clone() for p in model.parameters()]
                logs.append(company.step(None, False)["twin_log"])
                for p, old in zip(model.parameters(), before):
                    self.assertTrue(torch.equal(p.grad, old))
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
        return [p.detach().clone() for p in model.parameters()], logs

    def test_the_training_is_the_same_to_the_last_bit(self):
        plain, _ = self.train(None)
        watched, logs = self.train(lambda f: Twins(f, count=2))
        for a, b in zip(plain, watched):
            self.assertTrue(torch.equal(a, b))
        self.assertEqual(logs[0], [0.0, 0.0])  # exactly: the daemon knows an injection by it
        # The same dropout masks: the distance moves smoothly. Other masks would jump it to the
        # distance of two trainings, thousands of times e.
        self.assertLess(max(abs(row[0]) for row in logs), 3)

    def test_half_precision_is_refused(self):
        model = network(torch.bfloat16)
        with self.assertRaisesRegex(ValueError, "bfloat16"):
            Company(model, torch.optim.SGD(model.parameters(), lr=0.1), Twins(lambda: None), None)
        with self.assertRaisesRegex(ValueError, "1 to 4 twins"):
            Twins(lambda: None, count=4, active=True)

    def test_renormalised_orthogonal_twins_give_the_spectrum(self):
        """On a quadratic diag(l) the exponents are log|1 - lr l|, in descending order."""
        curvature = torch.tensor([25.0, 22.0, 5.0, 9.0], dtype=torch.float64)
        model = torch.nn.Linear(4, 1, bias=False).double()
        torch.nn.init.zeros_(model.weight)  # the training rests at the fixed point

        def loss_of():
            return 0.5 * (curvature * model.weight[0] ** 2).sum()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        company = Company(model, optimizer, Twins(loss_of, count=3), None)
        first = None
        for t in range(401):
            values = company.step(None, False)
            if t == 200:
                first = values["twin_log"]
        want = sorted((math.log(abs(1 - 0.1 * c)) for c in curvature.tolist()), reverse=True)
        for found, start, rate in zip(values["twin_log"], first, want):
            self.assertAlmostEqual((found - start) / 200, rate, delta=2e-3)


class Loop(unittest.TestCase):
    """Through `lyapd.watch`: what a loop does beside plain steps."""

    def setUp(self):
        self.daemon = Daemon()
        self.addCleanup(self.daemon.close)
        torch.manual_seed(4)
        self.model = network()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)
        self.at = 0

    def loss(self):
        at = self.at * 16 % 64
        return ((self.model(X[at:at + 16]) - Y[at:at + 16]) ** 2).mean()

    def watch(self, **options):
        monitor = lyapd.watch(self.model, self.optimizer, run="r", url=self.daemon.url,
                              **dict({"twins": Twins(self.loss)}, **options))
        self.addCleanup(monitor.close, 1.0)
        return monitor

    def one(self, monitor, is_made=True, **values):
        self.optimizer.zero_grad()
        loss = self.loss()
        loss.backward()
        monitor.step(loss, **values)
        if is_made:
            self.optimizer.step()
        self.at += 1

    def logs(self, monitor):
        """{(attempt, step): twin_log} of what was pushed."""
        self.assertTrue(monitor.flush(10))
        self.assertEqual(monitor.errors, [])
        return {(int(request.query["attempt"]), request.step):
                float(request.parse()[0]["twin_log"]) for request in self.daemon.pushes}

    def test_an_update_that_is_left_out_is_left_out_of_the_twin_too(self):
        """Both stay where they are: the distance is the same, and goes on as before."""
        monitor = self.watch()
        for t in range(12):
            self.one(monitor, is_made=t != 5)
            if t == 5:
                monitor.leave_out()
        self.one(monitor, is_made=False)
        self.one(monitor, updates=0)  # the same, said by hand
        self.one(monitor)
        found = [y for _, y in sorted(self.logs(monitor).items())]
        self.assertEqual(found[5], found[6])
        self.assertEqual(found[12], found[13])
        # An update of the training that the twin did not make, or the other way round, would
        # throw them apart by |D|, about 1e4 times e.
        self.assertLess(max(abs(b - a) for a, b in zip(found, found[1:])), 0.5)
        self.assertNotEqual(found[6], found[7])

    def test_a_rollback_begins_with_a_fresh_twin(self):
        monitor = self.watch()
        kept = None
        for t in range(30):
            if t == 20:
                kept = [p.detach().clone() for p in self.model.parameters()]
            self.one(monitor)
        for p, old in zip(self.model.parameters(), kept):
            p.data.copy_(old)
        self.one(monitor, step=20)
        self.one(monitor)
        found = self.logs(monitor)
        self.assertEqual([key for key in found if key[0] == 2], [(2, 20), (2, 21)])
        self.assertEqual(found[2, 20], 0.0)
        self.assertLess(abs(found[2, 21]), 0.5)

    def test_a_scheduler_and_a_late_start(self):
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, 40)
        for _ in range(10):
            self.optimizer.zero_grad()
            self.loss().backward()
            self.optimizer.step()
            schedule.step()
        monitor = self.watch(start_step=10)
        for _ in range(20):
            self.one(monitor)
            schedule.step()
        found = self.logs(monitor)
        self.assertEqual(sorted(found)[0], (1, 10))
        self.assertEqual(found[1, 10], 0.0)
        self.assertLess(max(abs(y) for y in found.values()), 1)

    def test_the_random_numbers_are_those_of_the_training_pass(self):
        """Not those of a probe, of activations, or of a validation between the steps: with other
        dropout masks twin and training would be thrown apart, thousands of times e in one step."""
        self.model = network(dropout=0.3)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        monitor = self.watch(probe=lambda: ((self.model(X) - Y) ** 2).mean(), probe_every=2,
                             activations_every=3)
        for t in range(24):
            if t % 4 == 1:
                with torch.no_grad():
                    self.model(X)  # in training mode: it draws
            if t % 4 == 2:
                torch.rand(7)  # as a shuffling loader does
            self.one(monitor)
        found = [y for _, y in sorted(self.logs(monitor).items())]
        self.assertLess(max(abs(b - a) for a, b in zip(found, found[1:])), 0.5)

    def test_wrong_use_is_told_at_once(self):
        with self.assertRaisesRegex(TypeError, "lyapd.Twins"):
            self.watch(twins=self.loss)
        with self.assertRaisesRegex(ValueError, "needs probe="):
            self.watch(twins=Twins(self.loss, active=True))
        with self.assertRaisesRegex(ValueError, "one process"):
            self.watch(rank=0, world=2)
        for rank in (0, 1):  # every replica says so, not one of them
            with mock.patch("torch.distributed.is_initialized", return_value=True), \
                    mock.patch("torch.distributed.get_world_size", return_value=2), \
                    mock.patch("torch.distributed.get_rank", return_value=rank):
                with self.assertRaisesRegex(ValueError, "one process"):
                    self.watch()

    def test_a_closure_that_fails_switches_twins_off_alone(self):
        def broken():
            raise RuntimeError("no such batch")
        monitor = self.watch(twins=Twins(broken))
        for _ in range(3):
            self.one(monitor)
        self.assertTrue(monitor.flush(10))
        self.assertIn("no such batch", " ".join(monitor.errors))
        self.assertEqual(len(self.daemon.pushes), 3)
        self.assertNotIn("twin_log", self.daemon.pushes[-1].parse()[0])
        for parameter in self.model.parameters():
            self.assertTrue(torch.isfinite(parameter).all())


class Lists(unittest.TestCase):
    def test_on_the_wire(self):
        values = {"step": 1, "twin_log": [0.5, math.inf], "twin_name": ["random", "active"]}
        self.assertEqual(wire.metadata(values), {"step": "1", "twin_log": "0.5,Infinity",
                                                 "twin_name": "random,active"})
        self.assertEqual(wire.scalars(values)["twin_log"], [0.5, "Infinity"])


if __name__ == "__main__":
    unittest.main()
