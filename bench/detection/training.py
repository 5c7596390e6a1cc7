"""A training run as a stream of snapshots, each taken after backward and before the update.

    for s in Run(family, seed):      # s.t s.loss s.probe_loss s.rates s.params s.grads s.state s.updates s.updated s.skipped
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
    """What a family and a seed stand for. Hooks see the run only through their arguments.

    `params`, `grads` and a state's parts are dicts of tensors by name.
    """

    def __init__(self):
        self.steps = 400
        self.model = None
        self.batch = None  # batch(t), drawn in order
        self.full_batch = False
        self.probe = None  # batch of the hidden probe loss
        self.held = None  # the batch of a probe of the job's own: examples that no step trains on; None: it has no others
        self.probe_at = None  # probe_at(t): where the task itself changes
        self.floor = 0.0  # a value the objective cannot go below: truth is judged on the loss above it
        self.opt = optim.sgd()  # as declared
        self.rule = None  # rule(t, params, grads, state, rates): the update really done, where it is another
        self.lr = None  # lr(t)
        self.group_lr = None  # group_lr(t): list, one rate for each group of opt
        self.clip = 0.0
        self.accum = 1
        self.inject = None  # first step whose snapshot can show the fault
        self.after = None  # after(t, params, state), behind the update
        self.frozen = None  # (names, first step at which they train)
        self.gradients = None  # gradients(t, grads, params): in place, what backward really gave
        self.skip = None  # skip(t, grads): the optimizer skips this update and the job says so

    def full(self, model, batch, held=None):
        """Full-batch training."""
        self.model, self.batch, self.probe, self.full_batch = model, lambda t: batch, batch, True
        self.held = held

    def constant(self, value):
        self.lr = lambda t: value


class Step:
    __slots__ = ("t", "loss", "probe_loss", "rates", "params", "grads", "state", "updates", "updated", "skipped")


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
            rates = [s.lr(t)] + (s.group_lr(t) if s.group_lr else [])
            loss, grads = self._backward(t, s.batch(t), gen)
            step = self._snapshot(t, rates, loss, grads, state)
            yield step
            bad = not math.isfinite(self.probe[-1]) or abs(self.probe[-1]) > LOSS_MAX
            lost = lost + 1 if bad else 0
            if lost >= LOST_STEPS:
                break
            if step.updated and not step.skipped:
                self._update(t, grads, state, rates)
            if s.after:
                with torch.no_grad():
                    s.after(t, s.model.params, state)
        self.truth = label(np.array(self.probe) - s.floor, s.inject)

    def _backward(self, t, batch, gen):
        """(loss, gradients as the optimizer gets them before clipping); notes the probe loss."""
        s, params = self.spec, self.spec.model.params
        with torch.no_grad():
            probe = s.probe_at(t) if s.probe_at else s.probe
            self.probe.append(float(s.model(params, probe, False, None)))
        full = s.model(params, batch, True, gen)
        smooth = s.model(params, batch, "smooth", gen) if s.opt["type"] == "proxgd" else full
        grads = torch.autograd.grad(smooth, list(params.values()), allow_unused=True)
        grads = {
            n: torch.zeros_like(p) if g is None else g for g, (n, p) in zip(grads, params.items())
        }
        if s.accum > 1:
            grads = self._accumulate(t, grads)
        if s.frozen and t < s.frozen[1]:
            grads = {n: g * 0 if n in s.frozen[0] else g for n, g in grads.items()}
        if s.gradients:
            s.gradients(t, grads, params)
        return float(full.detach()), grads

    def _held_loss(self):
        """What a job sees that looks at a fixed batch of its own, where it has no other examples at its objective."""
        with torch.no_grad():
            return float(self.spec.model(self.spec.model.params, self.spec.held or self.spec.probe, False, None))

    def _accumulate(self, t, grads):
        k = t % self.spec.accum
        self._sum = grads if k == 0 else {n: self._sum[n] + g for n, g in grads.items()}
        return {n: g / (k + 1) for n, g in self._sum.items()}

    def _snapshot(self, t, rates, loss, grads, state):
        s, step = self.spec, Step()
        step.t, step.loss, step.rates = t, loss, rates
        step.probe_loss = self._held_loss()
        step.params = {n: p.detach().numpy().copy() for n, p in s.model.params.items()}
        step.grads = {n: g.detach().numpy().copy() for n, g in grads.items()}
        step.updates = state.get("t", 0)
        step.state = []
        if s.opt["type"] == "adamw":
            for key in ("m", "v"):
                held = state.get(key)
                step.state.append({
                    n: held[n].numpy().copy() if held else np.zeros_like(p)
                    for n, p in step.params.items()
                })
        step.updated = t % s.accum == s.accum - 1
        step.skipped = bool(step.updated and s.skip and s.skip(t, grads))
        return step

    def _update(self, t, grads, state, rates):
        s = self.spec
        grads = dict(zip(grads, optim.clipped(list(grads.values()), s.clip)))
        if s.rule:
            with torch.no_grad():
                s.rule(t, s.model.params, grads, state, rates)
        else:
            optim.update(s.model.params, grads, state, s.opt, rates)
