"""Reported gains of networks beside their exact Jacobians at the pushed inputs (autograd, singular
values by torch): bounds must lie above the largest, the empirical gain below, and it must be what
the exact Jacobian makes of the same displacement."""

import math
import statistics

import lyapd
import torch
from lyapd.activations import SAMPLES_MAX, SEED, STEP
from networks import NETWORKS, Model
from table import Outcome, Table, exponent
from updates import torch_optimizer

STEPS, EVERY, EDGE = 200, 10, 1e-9
BOUNDS = ("forward_bound", "forward_bound_local", "residual_gain", "cfl_margin")
DECLARED, RATE = dict(type="adamw", weight_decay=0.01), 0.003


def displacement(x):
    """As lyapd.watch moves the input."""
    generator = torch.Generator().manual_seed(SEED)
    direction = torch.randn(x.shape, generator=generator, dtype=torch.float32).to(x)
    return direction * (STEP * float(x.norm()) / float(direction.norm()))


def norms(function, inputs):
    """(largest singular value of the Jacobians at the inputs, the Jacobians)."""
    found = [torch.autograd.functional.jacobian(function, x) for x in inputs]
    found = [part.reshape(-1, x.numel()) for part, x in zip(found, inputs)]
    return max(float(torch.linalg.matrix_norm(part, 2)) for part in found), found


def blocks(module, inputs):
    """The largest singular value over the residual blocks x + 0.5 f(x) of the convolutional network
    and the inputs, each at what the block reads."""
    x, largest = torch.tanh(module.stem(inputs.view(-1, 1, 8, 8))).detach(), 0.0
    for block in module.blocks:
        def step(value, block=block):
            return value + 0.5 * block(value[None])[0]
        largest = max(largest, norms(step, x[:2])[0])
        x = (x + 0.5 * block(x)).detach()
    return largest


def train(url, network, steps=STEPS):
    """{metric: list of log(reported / exact)} over the pushes with activations, {metric: why it is
    absent}."""
    job, found, reasons = Model(network), {}, {}
    optimizer = torch_optimizer(DECLARED, job.parameters, RATE)
    moved = displacement(job.x)[:SAMPLES_MAX]
    with lyapd.watch(job.module, optimizer, url=url, run="representation-" + network.replace(
            " ", "-"), probe=job.loss, probe_every=EVERY, activations_every=EVERY, wait=True,
            timeout=60) as monitor:
        for step in range(steps):
            optimizer.zero_grad()
            loss = job.loss()
            loss.backward()
            reply = monitor.step(loss)
            if reply.value("empirical_gain") is not None:
                compare(found, reply, job, moved)
                reasons = {name: reply.reason(name) for name in BOUNDS if reply.reason(name)}
            optimizer.step()
        if monitor.errors:
            raise RuntimeError(monitor.errors)
    return found, reasons


def compare(found, reply, job, moved):
    inputs = job.x[:SAMPLES_MAX]
    sigma, jacobians = norms(lambda x: job.module(x[None])[0], inputs)
    image = math.sqrt(sum(float((part @ x).norm() ** 2) for part, x in zip(jacobians, moved)))
    gain = reply.value("empirical_gain")
    exact = {"empirical_gain, same displacement": (gain, image / float(moved.norm())),
             "empirical_gain, a lower bound": (gain, sigma)}
    for name in ("forward_bound", "forward_bound_local"):
        if reply.value(name) is not None:
            exact[name + ", an upper bound"] = (math.exp(reply.value(name)), sigma)
    if reply.value("residual_gain") is not None and hasattr(job.module, "blocks"):
        exact["residual_gain, an upper bound"] = (reply.value("residual_gain"),
                                                  blocks(job.module, inputs))
    for name, (value, true) in exact.items():
        found.setdefault(name, []).append(math.log(value / true))


def measure(url, steps=STEPS, networks=tuple(NETWORKS)):
    result = Table(["network", "metric", "values", "log(reported / exact), median", "least",
                    "largest", "on the wrong side"])
    broken, same, above = 0, [], {}
    for network in networks:
        found, reasons = train(url, network, steps)
        for name, logs in found.items():
            wrong = sum(sign_of(name) * value < -EDGE for value in logs)
            broken += wrong
            same += [abs(value) for value in logs if "same" in name]
            if "upper" in name:
                above.setdefault(name.split(",")[0], []).extend(logs)
            shown = ((lambda v: "%+.1e" % v) if "same" in name else (lambda v: "%+.2f" % v))
            result.add([network, name, len(logs), shown(statistics.median(logs)), shown(min(logs)),
                        shown(max(logs)), wrong])
        for name, reason in reasons.items():
            result.add([network, name, 0, "absent: `%s`" % reason, "", "", ""])
    reach = [("`empirical_gain`, of its own displacement", "the exact Jacobian's",
              "median of the relative error %s, largest %s" % (
                  exponent(statistics.median(same)), exponent(max(same))))]
    reach += [("`%s`, a ceiling" % name, "0 below the exact gain",
               "%.1f nats above it in the median, %.1f at most; %d below" % (
                   statistics.median(logs), max(logs), sum(v < -EDGE for v in logs)))
              for name, logs in above.items()]
    return Outcome(result, broken, reach)


def sign_of(name):
    return {"upper": 1, "lower": -1}.get(name.split()[-2], 0)
