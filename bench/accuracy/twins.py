"""Twins under lyapd.watch beside the exact tangent of the training, both in float64: the product of
the Jacobians of the steps (gradient by autograd, its change by Hessian-vector products, the
optimizer's map by Jacobian-vector products) applied to the twin's direction."""

import math
import statistics

import lyapd
import numpy as np
import torch
from lyapd.twin import SEED
from networks import NETWORKS, Model
from reference import oracle
from table import Outcome, Table, exponent
from updates import Update, agree, torch_optimizer

STEPS, BATCH, EARLY = 320, 32, 10
RULES = {
    "SGD": (dict(type="sgd"), 0.1),
    "heavy ball": (dict(type="sgd", momentum=0.9, weight_decay=1e-3), 0.02),
    "Nesterov": (dict(type="sgd", momentum=0.9, nesterov=True), 0.02),
    "Adam": (dict(type="adam"), 0.002),
    "AdamW": (dict(type="adamw", weight_decay=0.1), 0.002),
    "RMSprop": (dict(type="rmsprop", beta2=0.99), 0.0005),
}
REACH = 1e-6  # per step


def flat(parts):
    return torch.cat([part.detach().reshape(-1) for part in parts])


class Tangent:
    """Phi(t, 0) q, kept at length 1, and the log of what it was shortened by."""

    def __init__(self, update, parameters):
        generator = torch.Generator().manual_seed(SEED)  # the random twin's direction
        self.th = torch.cat([torch.randn(p.shape, generator=generator, dtype=torch.float64)
                             .reshape(-1) for p in parameters])
        self.update, self.memory = update, update.start(self.th)
        self.change = update.start(self.th)  # of the memory, along the direction
        self.log, self.t = 0.0, 0
        self.shorten()
        self.log = 0.0

    def shorten(self):
        length = float(self.th.norm())
        self.log += math.log(length)
        self.th = self.th / length
        self.change = tuple(part / length for part in self.change)

    def step(self, theta, g, product):
        """`product`: H times the direction. Returns the map's own theta."""
        self.t += 1

        def advance(x, y, *memory):
            new, kept = self.update(x, y, memory, self.t)
            return (new,) + tuple(kept)
        at = (theta, g) + tuple(self.memory)
        along = (self.th, product) + tuple(self.change)
        values, moved = torch.autograd.functional.jvp(advance, at, along)
        self.memory = tuple(part.detach() for part in values[1:])
        self.th, self.change = moved[0], moved[1:]
        self.shorten()
        return values[0].detach()


def train(url, network, rule, steps=STEPS):
    """(y of the twin, y of the tangent, the daemon's twin_rate)."""
    declared, lr = RULES[rule]
    job, rows = Model(network), {}
    optimizer = torch_optimizer(declared, job.parameters, lr)
    tangent = Tangent(Update(declared, lr), job.parameters)
    random, measured, exact = np.random.default_rng(11), [], []

    def loss_of():
        return job.loss(rows["now"])
    with lyapd.watch(job.module, optimizer, url=url, run="twins-%s-%s" % (
            network.replace(" ", "-"), rule.replace(" ", "-")), twins=lyapd.Twins(loss_of),
            wait=True, timeout=60) as monitor:
        for _ in range(steps):
            rows["now"] = random.permutation(job.rows)[:BATCH]
            loss = loss_of()
            gradient = torch.autograd.grad(loss, job.parameters, create_graph=True)
            for parameter, part in zip(job.parameters, gradient):
                parameter.grad = part.detach().clone()
            reply = monitor.step(loss)
            measured.append(reply.value("twin_log"))
            exact.append(tangent.log)
            along = split(tangent.th, job.parameters)
            product = torch.autograd.grad(gradient, job.parameters, grad_outputs=along)
            mine = tangent.step(flat(job.parameters), flat(gradient), flat(product))
            optimizer.step()
            agree(mine, flat(job.parameters))
        if monitor.errors:
            raise RuntimeError(monitor.errors)
    return measured, exact, reply.value("twin_rate")


def split(vector, parameters):
    parts = vector.split([p.numel() for p in parameters])
    return [part.view(p.shape) for part, p in zip(parts, parameters)]


def measure(url, steps=STEPS, networks=tuple(NETWORKS), rules=tuple(RULES)):
    result = Table(["network", "optimizer", "exact log growth", "exact exponent",
                    "twin_rate - exact", "difference of the logs, first %d steps" % EARLY,
                    "later, per step"])
    errors, logs = [], []
    for network in networks:
        for rule in rules:
            measured, exact, rate = train(url, network, rule, steps)
            window = max(size for size in (64, 256, 1024) if size <= steps)
            want = oracle.verdict(np.array(exact[-window:]))["rate"]
            away = [abs(a - b) for a, b in zip(measured, exact)]
            worst = max(value / t for t, value in enumerate(away) if t >= EARLY)
            errors.append(abs(rate - want))
            logs.append(worst)
            result.add([network, rule, "%+.3f" % exact[-1], "%+.2e" % want, exponent(rate - want),
                        exponent(max(away[:EARLY])), exponent(worst)])
    return Outcome(result, sum(not error <= REACH for error in errors), [
        ("`twin_rate`, smooth networks, F64", "within 1e-6 a step of the exact tangent's",
         "median %s, largest %s a step" % (exponent(statistics.median(errors)),
                                           exponent(max(errors)))),
        ("`twin_log` / step, the same, after %d steps" % EARLY, "",
         "median of the largest %s, largest %s a step" % (exponent(statistics.median(logs)),
                                                          exponent(max(logs))))])
