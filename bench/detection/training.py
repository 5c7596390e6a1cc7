"""A training run as a stream of snapshots, each taken after backward and before the update.

    for s in Run(family, seed):      # s.t s.loss s.lr s.params s.grads s.state s.updated s.skipped
        ...
    run.truth                        # when the stream has ended
"""
import math
import os

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
import numpy as np
import torch

import optim
from truth import label

torch.set_num_threads(1)

# A loss as large as this, or not finite, this many steps in a row ends the run.
LOSS_MAX = 1e20
LOST_STEPS = 3


class Spec:
    """What a family and a seed stand for. Functions of t see the run only through their arguments."""

    def __init__(self):
        self.steps = 400
        self.model = None
        self.batch = None  # batch(t), drawn in order
        self.full_batch = False
        self.probe = None  # batch of the hidden probe loss
        self.probe_at = None  # probe_at(t): where the task itself changes
        self.opt = optim.sgd()  # as declared
        self.real = None  # what is really done where that differs: opt, or step(t, spec, params, names, grads, state, lr)
        self.lr = None  # lr(t)
        self.clip = 0.0
        self.accum = 1
        self.inject = None  # first step whose snapshot can show the fault
        self.after = None  # after(t, params, state), behind the update
        self.frozen = None  # (names, first step at which they train)
        self.gradients = None  # gradients(t, {name: grad}, params, state): in place, what backward really gave
        self.skip = None  # skip(t, grads): the optimizer skips this update and says so

    def full(self, model, batch):
        """Full-batch training."""
        self.model, self.batch, self.probe, self.full_batch = model, lambda t: batch, batch, True

    def constant(self, value):
        self.lr = lambda t: value


class Step:
    __slots__ = ("t", "loss", "lr", "params", "grads", "state", "updates", "updated", "skipped")


def family_rng(family, seed):
    """The stream of a (family, seed): all hyper-parameters, weights and batches come from it."""
    mixed = sum(ord(c) * 131**i for i, c in enumerate(family)) + 7919 * seed
    return np.random.RandomState(mixed % (2**31))


class Run:
    def __init__(self, family, seed):
        from families import FAMILIES

        torch.manual_seed(seed)
        self.family, self.seed = family, seed
        self.spec = Spec()
        FAMILIES[family](self.spec, family_rng(family, seed), seed)
        self.names = list(self.spec.model.params)
        self.probe, self.truth = [], None
        self._sum = None

    def header(self):
        """What the job declares: all that a detector knows beforehand."""
        s = self.spec
        return dict(
            family=self.family,
            seed=self.seed,
            opt=s.opt,
            clip=s.clip,
            accum=s.accum,
            data="full-batch" if s.full_batch else "minibatch",
            roles=["param", "grad"] + (["exp_avg", "exp_avg_sq"] if s.opt["type"] == "adamw" else []),
            tensors=[[n, list(p.shape)] for n, p in s.model.params.items()],
        )

    def __iter__(self):
        s, state, lost = self.spec, {}, 0
        gen = torch.Generator().manual_seed(1000 + self.seed)
        for t in range(s.steps):
            lr = s.lr(t)
            loss, grads = self._backward(t, s.batch(t), gen, state)
            step = self._snapshot(t, lr, loss, grads, state)
            yield step
            bad = not math.isfinite(self.probe[-1]) or abs(self.probe[-1]) > LOSS_MAX
            lost = lost + 1 if bad else 0
            if lost >= LOST_STEPS:
                break
            if step.updated and not step.skipped:
                self._update(t, optim.clipped(grads, s.clip), state, lr)
            if s.after:
                s.after(t, s.model.params, state)
        self.truth = label(self.probe, s.inject)

    def _backward(self, t, batch, gen, state):
        """(loss, gradients as the optimizer will get them before clipping); notes the probe loss."""
        s, params = self.spec, self.spec.model.params
        with torch.no_grad():
            probe = s.probe_at(t) if s.probe_at else s.probe
            self.probe.append(float(s.model(params, probe, False, None)))
        full = s.model(params, batch, True, gen)
        smooth = s.model(params, batch, "smooth", gen) if s.opt["type"] == "proxgd" else full
        grads = list(torch.autograd.grad(smooth, list(params.values()), allow_unused=True))
        grads = [torch.zeros_like(p) if g is None else g for g, p in zip(grads, params.values())]
        if s.accum > 1:
            grads = self._accumulate(t, grads)
        if s.frozen and t < s.frozen[1]:
            grads = [g * 0 if n in s.frozen[0] else g for n, g in zip(self.names, grads)]
        if s.gradients:
            named = dict(zip(self.names, grads))
            s.gradients(t, named, params, state)
            grads = [named[n] for n in self.names]
        return float(full.detach()), grads

    def _accumulate(self, t, grads):
        k = t % self.spec.accum
        self._sum = [g.clone() for g in grads] if k == 0 else [a + g for a, g in zip(self._sum, grads)]
        return [a / (k + 1) for a in self._sum]

    def _snapshot(self, t, lr, loss, grads, state):
        s, step = self.spec, Step()
        step.t, step.loss, step.lr = t, loss, lr
        step.params = {n: p.detach().numpy().copy() for n, p in s.model.params.items()}
        step.grads = {n: g.detach().numpy().copy() for n, g in zip(self.names, grads)}
        step.updates = state.get("t", 0)
        step.state = []
        if s.opt["type"] == "adamw":
            zero = {n: np.zeros_like(p) for n, p in step.params.items()}
            for key in ("m", "v"):
                held = state.get(key)
                step.state.append({n: held[n].numpy().copy() for n in self.names} if held else zero)
        step.updated = t % s.accum == s.accum - 1
        step.skipped = bool(step.updated and s.skip and s.skip(t, grads))
        return step

    def _update(self, t, grads, state, lr):
        s = self.spec
        if callable(s.real):
            with torch.no_grad():
                s.real(t, s, self.names, grads, state, lr)
        else:
            optim.update(s.model.params, self.names, grads, state, s.real or s.opt, lr)
