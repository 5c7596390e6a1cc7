"""Reported gains of updates beside the exact Jacobian of the update map by autograd, in float64:
its largest singular value (linear rules, proximal, projected), its diagonal (adaptive rules, which
mix no coordinates). The golden network is pushed in F64, a transformer as jobs do it, in F32."""

import statistics

import lyapd
import numpy as np
import torch
import trainings
from networks import Model
from table import Outcome, Table, exponent, percent
from updates import Update, agree, torch_optimizer

STEPS, IMPULSE_STEPS, EDGE, ROUNDING = 40, 400, 1e-9, 1e-12
# Declaration, rate, norm to which gradients are clipped.
RULES = {
    "SGD": (dict(type="sgd"), 0.5, None),
    "SGD, clipped": (dict(type="sgd"), 0.5, 0.4),
    "heavy ball": (dict(type="sgd", momentum=0.9), 0.02, None),
    "heavy ball, dampening": (dict(type="sgd", momentum=0.9, dampening=0.3), 0.05, None),
    "Nesterov": (dict(type="sgd", momentum=0.9, nesterov=True, weight_decay=0.01), 0.02, None),
    "Adam": (dict(type="adam", weight_decay=0.01), 0.01, None),
    "AdamW": (dict(type="adamw", weight_decay=0.1), 0.01, None),
    "AdamW, clipped": (dict(type="adamw", weight_decay=0.1), 0.01, 0.4),
    "RMSprop": (dict(type="rmsprop", beta2=0.95), 0.005, None),
    "RMSprop, momentum": (dict(type="rmsprop", beta2=0.95, momentum=0.8), 0.003, None),
    "proximal, l1": (dict(type="proxgd", prox={"kind": "l1", "lambda": 0.01}), 0.4, None),
    "proximal, l2": (dict(type="proxgd", prox={"kind": "l2", "lambda": 0.05}), 0.4, None),
    "proximal, group l1": (dict(type="proxgd", prox={"kind": "group_l1", "lambda": 0.1}), 0.4,
                           None),
    "proximal, elastic net": (
        dict(type="proxgd", prox={"kind": "elastic_net", "l1": 0.01, "l2": 0.03}), 0.4, None),
    "projected, box": (dict(type="projgd", set={"kind": "box", "low": -0.5, "high": 0.4}), 0.4,
                       None),
    "projected, ball": (dict(type="projgd", set={"kind": "ball", "radius": 2.0}), 0.4, None),
    "projected, simplex": (dict(type="projgd", set={"kind": "simplex", "radius": 5.0}), 0.2, None),
    "signSGD": (dict(type="signsgd"), 0.01, None),
    "Lion": (dict(type="lion", beta1=0.9, beta2=0.99, weight_decay=0.1), 0.01, None),
}
IDENTITIES = ("update_gain", "update_gain_frozen", "update_gain_total", "flip_fraction")
IDENTITY = 1e-6  # relative error that an identity may have
ADAPTIVE, BOUNDED, SIGNED = ("adam", "adamw", "rmsprop"), ("proxgd", "projgd"), ("signsgd", "lion")


def jacobian(update, theta, g, memory, t):
    return torch.autograd.functional.jacobian(lambda x: update(theta, x, memory, t)[0], g)


def diagonal(update, theta, g, memory, t, is_frozen=False):
    """Of the Jacobian of a rule that mixes no coordinates: the sums of its columns."""
    x = g.clone().requires_grad_(True)
    return torch.autograd.grad(update(theta, x, memory, t, is_frozen)[0].sum(), x)[0]


def weighted(gain, g):
    """sqrt(sum g^2 gain^2 / sum g^2), the definition of update_gain."""
    return float(((gain * g) ** 2).sum().sqrt() / g.norm())


def summed_response(update, theta, g, memory, t):
    """What a unit change of this gradient's first coordinate moves in the end: the derivative of
    theta after many steps of otherwise unchanged gradients (linear rules; decay left out, which
    acts on theta and not on the update)."""
    update = Update(dict(update.c, weight_decay=0.0), update.lr)
    x = g.clone().requires_grad_(True)
    end, kept = update(theta, x, memory, t)
    for later in range(IMPULSE_STEPS):
        end, kept = update(end, torch.zeros_like(g), kept, t + 1 + later)
    return abs(float(torch.autograd.grad(end[0], x)[0][0]))


class Collected:
    """Pairs (reported, exact) by metric, and how often a stated bound or error was broken."""

    def __init__(self):
        self.pairs, self.broken = {}, {}

    def add(self, name, value, exact, is_kept=True):
        self.pairs.setdefault(name, []).append((value, exact))
        self.broken[name] = self.broken.get(name, 0) + (not is_kept)


def expect(collected, metrics, update, state):
    """Compares what is reported of one step with the exact Jacobian."""
    if update.kind in ADAPTIVE:
        adaptive(collected, metrics, update, state)
        return
    if update.kind in SIGNED:
        return
    value = metrics["update_gain"]["value"]
    sigma = float(torch.linalg.matrix_norm(jacobian(update, *state), 2))
    if update.kind in BOUNDED:
        collected.add("update_gain, an upper bound", value, sigma, sigma <= value * (1 + EDGE))
        return
    collected.add("update_gain", value, sigma)
    if update.clip is None:
        collected.add("update_gain_total", metrics["update_gain_total"]["value"],
                      summed_response(update, *state))


def adaptive(collected, metrics, update, state):
    theta, g, memory, t = state
    factor = 1.0
    if update.clip is not None:  # across g, as it is defined: the rule's own at the clipped g
        factor = min(1.0, update.clip / (float(g.norm()) + 1e-6))
        update = Update(update.c, update.lr)
    at = (theta, factor * g, memory, t)
    exact = factor * diagonal(update, *at)
    frozen = factor * diagonal(update, *at, is_frozen=True)
    collected.add("update_gain", metrics["update_gain"]["value"], weighted(exact, g))
    collected.add("update_gain_frozen", metrics["update_gain_frozen"]["value"],
                  weighted(frozen, g))
    for name, share in (("update_gain_p50", 0.5), ("update_gain_p99", 0.99)):
        true = float(np.quantile(exact.abs().numpy(), share, method="inverted_cdf"))
        found = metrics[name]["value"]
        collected.add(name, found, true, 0.5 <= found / true <= 2)


def signed(collected, metrics, update, states):
    """Of two steps: the share of directions that changed, and how far the updates are apart."""
    moves = [update(*state)[0] - state[0] + update.lr * update.c["weight_decay"] * state[0]
             for state in states]
    share = float((moves[0].sign() != moves[1].sign()).double().mean())
    collected.add("flip_fraction", metrics["flip_fraction"]["value"], share)
    distance, bound = float((moves[1] - moves[0]).norm()), metrics["flip_bound"]["value"]
    distance = 0.0 if distance < ROUNDING else distance
    collected.add("flip_bound, an upper bound", bound, distance, distance <= bound + EDGE)


def train(url, name, rule, steps=STEPS):
    declared, lr, clip = RULES[rule]
    model = trainings.Network() if name == "golden" else Model(name)
    dtype = torch.float64 if name == "golden" else torch.float32
    cuts = trainings.slices_of(model.shapes)
    update, collected = Update(declared, lr, clip, cuts.values()), Collected()
    theta = torch.from_numpy(model.theta.copy())
    if "set" in declared:  # the start is a point of the set
        theta = update(theta, torch.zeros_like(theta), update.start(theta), 1)[0]
    memory, leaf, before = update.start(theta), theta.clone().requires_grad_(True), None
    own = torch_optimizer(declared, [leaf], lr)
    run = "gains-%s-%s" % (name, "".join(c for c in rule if c.isalnum()))
    with lyapd.Run(url, run, optimizer=dict(declared, lr=lr), data="full-batch") as daemon:
        for step in range(steps):
            theta = theta.to(dtype).double()  # as it is pushed
            loss, gradient = model.at(theta.numpy())
            g = torch.from_numpy(np.asarray(gradient)).to(dtype).double()
            more = dict(clip_norm=clip, grad_norm=float(g.norm())) if clip else {}
            arrays = [{key: vector.to(dtype).numpy()[cut].reshape(model.shapes[key])
                       for key, cut in cuts.items()} for vector in (theta, g)]
            metrics = daemon.push(step, *arrays, loss=float(loss), lr=lr, **more)["metrics"]
            state = (theta, g, memory, step + 1)
            expect(collected, metrics, update, state)
            if update.kind in SIGNED and before is not None:
                signed(collected, metrics, update, (before, state))
            before = state
            leaf.data.copy_(theta)
            theta, memory = update(*state)
            if own is not None:
                follow(own, leaf, g, clip, theta)
    return collected


def follow(own, leaf, g, clip, theta):
    """torch's own step, from where the map stood."""
    leaf.grad = g.clone()
    if clip:
        torch.nn.utils.clip_grad_norm_([leaf], clip)
    own.step()
    agree(theta, leaf.detach())


def measure(url, steps=STEPS, rules=tuple(RULES)):
    result = Table(["network", "optimizer", "metric", "values", "reported / exact, median",
                    "relative error, median", "largest", "outside what is stated"])
    broken, identities, quantiles = 0, {}, []
    cases = [("golden", rule) for rule in rules]
    cases += [("transformer", rule) for rule in rules if RULES[rule][0]["type"] in ADAPTIVE]
    for name, rule in cases:
        collected = train(url, name, rule, steps)
        for metric, pairs in collected.pairs.items():
            result.add([name, rule, metric, len(pairs)] + errors(pairs) + [
                collected.broken[metric]])
            broken += collected.broken[metric]
            distances = distances_of(pairs)
            if metric in IDENTITIES:
                identities[name] = max(identities.get(name, 0.0), max(distances))
            elif metric.startswith("update_gain_p"):
                quantiles += distances
    broken += sum(worst > IDENTITY for worst in identities.values())
    reach = [("`update_gain`, `_frozen`, `_total`, pushed in %s" % form, "the exact Jacobian's",
              "largest relative error %s" % exponent(identities[name]))
             for name, form in (("golden", "F64"), ("transformer", "F32")) if name in identities]
    reach += [("`update_gain_p50`, `update_gain_p99`", "within a factor 2",
               "median relative error %s, largest %s" % (
                   percent(statistics.median(quantiles), 0), percent(max(quantiles), 0)))
              ] if quantiles else []
    reach.append(("bounds of proximal, projected and sign updates", "0 violations",
                  "%d violations" % broken))
    return Outcome(result, broken, reach)


def distances_of(pairs):
    return [0.0 if value == exact else abs(value / exact - 1) for value, exact in pairs]


def errors(pairs):
    ratios = [1.0 if value == exact else value / exact for value, exact in pairs]
    found = distances_of(pairs)
    shown = exponent if max(found) < 1e-3 else percent
    return ["%.4g" % statistics.median(ratios), shown(statistics.median(found)), shown(max(found))]
