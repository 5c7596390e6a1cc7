"""Update rules of the corpus, as the declarations of the stream name them."""
import math

import torch


def sgd(momentum=0.0, weight_decay=0.0):
    return dict(type="sgd", momentum=momentum, weight_decay=weight_decay)


def adamw(beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0):
    return dict(type="adamw", beta1=beta1, beta2=beta2, eps=eps, weight_decay=weight_decay)


def clipped(grads, limit):
    """Scaled to the global norm `limit`; 0: as they are."""
    if limit:
        n = math.sqrt(sum(float((a.double() ** 2).sum()) for a in grads))
        if n > limit:
            return [a * (limit / n) for a in grads]
    return grads


def _sgd(params, names, grads, state, opt, lr):
    for n, g in zip(names, grads):
        if opt["weight_decay"]:
            g = g + opt["weight_decay"] * params[n]
        if opt["momentum"]:
            state[n] = g.clone() if n not in state else opt["momentum"] * state[n] + g
            g = state[n]
        params[n] -= lr * g


def _adamw(params, names, grads, state, opt, lr):
    if "t" not in state:
        zeros = {n: torch.zeros_like(params[n]) for n in names}
        state.update(t=0, m=zeros, v={n: z.clone() for n, z in zeros.items()})
    state["t"] += 1
    b1, b2 = opt["beta1"], opt["beta2"]
    c1, c2 = 1 - b1 ** state["t"], 1 - b2 ** state["t"]
    for n, g in zip(names, grads):
        state["m"][n].mul_(b1).add_(g, alpha=1 - b1)
        state["v"][n].mul_(b2).addcmul_(g, g, value=1 - b2)
        if opt["weight_decay"]:
            params[n] *= 1 - lr * opt["weight_decay"]
        params[n] -= lr * (state["m"][n] / c1) / (torch.sqrt(state["v"][n] / c2) + opt["eps"])


def _proxgd(params, names, grads, state, opt, lr):
    for n, g in zip(names, grads):
        w = params[n] - lr * g
        if opt["prox"] == "l1":
            w = torch.sign(w) * torch.clamp(w.abs() - lr * opt["l1"], min=0)
        else:
            w = torch.clamp(w, -opt["box"], opt["box"])
        params[n].copy_(w)


RULES = {"sgd": _sgd, "adamw": _adamw, "proxgd": _proxgd}


def update(params, names, grads, state, opt, lr):
    """One update in place; grads are clipped already."""
    with torch.no_grad():
        RULES[opt["type"]](params, names, grads, state, opt, lr)
