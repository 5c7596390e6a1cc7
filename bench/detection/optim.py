"""Update rules of the corpus, as the declarations of the stream name them.

`rates` are the learning rates of base and groups, in declared order; the first group with a matching pattern wins.
"""
import fnmatch
import math

import torch


def sgd(momentum=0.0, weight_decay=0.0, groups=()):
    return dict(type="sgd", momentum=momentum, weight_decay=weight_decay, groups=list(groups))


def adamw(beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0, groups=()):
    return dict(
        type="adamw", beta1=beta1, beta2=beta2, eps=eps, weight_decay=weight_decay, groups=list(groups)
    )


def proxgd(prox, l1, box):
    return dict(type="proxgd", prox=prox, l1=l1, box=box, groups=[])


def group(*patterns, **constants):
    return dict(constants, params=list(patterns))


def group_index(opt, name):
    """0: base; i: the i-th group."""
    for i, g in enumerate(opt["groups"]):
        if any(fnmatch.fnmatchcase(name, p) for p in g["params"]):
            return i + 1
    return 0


def constant(opt, name, key):
    i = group_index(opt, name)
    return opt["groups"][i - 1].get(key, opt[key]) if i else opt[key]


def clipped(grads, limit):
    """Scaled to the global norm `limit`; 0: as they are."""
    if limit:
        n = math.sqrt(sum(float((a.double() ** 2).sum()) for a in grads))
        if n > limit:
            return [a * (limit / n) for a in grads]
    return grads


def _sgd(params, grads, state, opt, rates):
    for n, g in grads.items():
        decay = constant(opt, n, "weight_decay")
        if decay:
            g = g + decay * params[n]
        if opt["momentum"]:
            state[n] = g.clone() if n not in state else opt["momentum"] * state[n] + g
            g = state[n]
        params[n] -= rates[n] * g


def _adamw(params, grads, state, opt, rates):
    if "m" not in state:
        state["m"] = {n: torch.zeros_like(params[n]) for n in grads}
        state["v"] = {n: torch.zeros_like(params[n]) for n in grads}
    b1, b2 = opt["beta1"], opt["beta2"]
    c1, c2 = 1 - b1 ** state["t"], 1 - b2 ** state["t"]
    for n, g in grads.items():
        state["m"][n].mul_(b1).add_(g, alpha=1 - b1)
        state["v"][n].mul_(b2).addcmul_(g, g, value=1 - b2)
        decay = constant(opt, n, "weight_decay")
        if decay:
            params[n] *= 1 - rates[n] * decay
        params[n] -= rates[n] * (state["m"][n] / c1) / (torch.sqrt(state["v"][n] / c2) + opt["eps"])


def _proxgd(params, grads, state, opt, rates):
    for n, g in grads.items():
        w = params[n] - rates[n] * g
        if opt["prox"] == "l1":
            w = torch.sign(w) * torch.clamp(w.abs() - rates[n] * opt["l1"], min=0)
        else:
            w = torch.clamp(w, -opt["box"], opt["box"])
        params[n].copy_(w)


RULES = {"sgd": _sgd, "adamw": _adamw, "proxgd": _proxgd}


def update(params, grads, state, opt, rates):
    """One update in place; `grads` by name, clipped already. state["t"] counts updates."""
    state["t"] = state.get("t", 0) + 1
    by_name = {n: rates[group_index(opt, n)] for n in grads}
    with torch.no_grad():
        RULES[opt["type"]](params, grads, state, opt, by_name)
