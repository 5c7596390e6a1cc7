"""A run of bench/detection whose job does what lyapd advises: the real Guard, the real daemon.

Guard sees what it sees of a PyTorch job (a monitor, a model, an optimizer) through the three adapters below.
"""
import collections
import math
import os
import sys
import time
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "clients/python"), str(ROOT / "bench/detection")]
# Before torch comes: its OpenMP threads would spin and take the cores from the daemon.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"
import torch

import training
from lyapd import Error, Guard, Run

# A followed run goes on where an ignored one is given up: Guard may still bring it back.
LOST_STEPS = 20
# What of a network is neither parameter nor optimizer state, and yet of its past.
BUFFERS = ("mean", "var", "target")


class Model:
    """state_dict and buffers of a network of the corpus."""

    def __init__(self, model):
        self._model = model

    def named_buffers(self):
        for part in BUFFERS:
            held = getattr(self._model, part, None)
            if isinstance(held, dict):
                for name, tensor in held.items():
                    yield "%s/%s" % (part, name), tensor

    def state_dict(self):
        return dict(self.named_buffers(), **{"param/" + n: p for n, p in self._model.params.items()})

    def load_state_dict(self, kept):
        with torch.no_grad():
            for name, tensor in self.state_dict().items():
                tensor.copy_(kept[name])


class Optimizer:
    """Rates of base and groups, and the optimizer's state."""

    def __init__(self, groups, state):
        self.param_groups = [{"lr": 0.0} for _ in range(groups)]
        self._state = state

    def state_dict(self):
        return self._state

    def load_state_dict(self, kept):
        self._state.clear()
        self._state.update(kept)


class Monitor:
    """What Guard asks of lyapd.watch. `late`: steps by which the answers come late; 0: the job waits for them."""

    def __init__(self, url, name, header, optimizer, late):
        self._optimizer, self._late, self._clip = optimizer, late, header["clip"]
        self._run = Run(url, name, optimizer=declared(header["opt"]), data=header["data"], new_attempt=True,
                        tensors=[{"name": n, "shape": shape} for n, shape in header["tensors"]])
        self._answers = collections.deque()
        self._left_out = False
        self.snapshot, self.last_reply, self.next_step = None, None, 0
        self.errors, self.waited, self.pushes = [], 0.0, 0

    @property
    def lr(self):
        return max(group["lr"] for group in self._optimizer.param_groups)

    def step(self, loss, step=None, **values):
        at, s = self.next_step, self.snapshot
        self.next_step = at + 1
        if self._clip:
            norm = math.sqrt(sum(float((g.astype(float) ** 2).sum()) for g in s.grads.values()))
            values.update(clip_norm=self._clip, grad_norm=norm)
        values.update(zip(("exp_avg", "exp_avg_sq"), s.state))
        if self._left_out:
            values["updates"] = 0
        started = time.perf_counter()
        try:
            reply = self._run.push(at, s.params, s.grads, loss=loss, optimizer_step=s.updates,
                                   lr=[group["lr"] for group in self._optimizer.param_groups], **values)
        except Error as error:
            self.note(str(error))
            return None
        finally:
            self.waited += time.perf_counter() - started
            self.pushes += 1
        self._left_out = False
        self._answers.append(reply)
        if len(self._answers) > self._late:
            self.last_reply = self._answers.popleft()
        return self.last_reply if self._late == 0 else None

    def leave_out(self):
        self._left_out = True

    def new_attempt(self, step):
        self.next_step, self._left_out = step, False
        self._run.declare({"attempt": "new", "attempt_key": uuid.uuid4().hex})

    def forget_scaling(self):
        pass

    def note(self, text):
        self.errors.append(text)

    def close(self):
        self._run.end()
        self._run.close()


def declared(opt):
    """A declaration of the corpus in the words of docs/wire.md."""
    known = {k: v for k, v in opt.items() if k not in ("prox", "l1", "box", "groups")}
    if opt["type"] == "proxgd":
        known = {"type": "proxgd", "prox": {"kind": "l1", "lambda": opt["l1"]}} if opt["prox"] == "l1" else {
            "type": "projgd", "set": {"kind": "box", "low": -opt["box"], "high": opt["box"]}}
    groups = [dict({k: v for k, v in g.items() if k != "params"}, tensors=g["params"]) for g in opt["groups"]]
    return dict(known, groups=groups) if groups else known


class Followed(training.Run):
    """The steps of a rollback are spent: batches, schedule and faults go on by the clock of the world, so a bad batch
    or a flipped bit is not met again, and a rate or data that turned bad stay so."""

    def follow(self, url, name, late):
        """Trains; afterwards self.guard, self.monitor, self.lateness (of each act), self.seconds."""
        s, state, lost = self.spec, {}, 0
        gen = torch.Generator().manual_seed(1000 + self.seed)
        optimizer = Optimizer(1 + len(s.opt["groups"]), state)
        self.monitor = monitor = Monitor(url, name, self.header(), optimizer, late)
        self.guard = guard = Guard(monitor, Model(s.model), optimizer)
        self.lateness, self.lowest, started = [], 1.0, time.perf_counter()
        for t in range(s.steps):
            rates = [s.lr(t)] + (s.group_lr(t) if s.group_lr else [])
            loss, grads = self._backward(t, s.batch(t), gen)
            step = self._snapshot(t, rates, loss, grads, state)
            lost = lost + 1 if not abs(self.probe[-1]) <= training.LOSS_MAX else 0
            if lost >= LOST_STEPS:
                break
            for group, rate in zip(optimizer.param_groups, rates):
                group["lr"] = rate
            is_allowed = not step.updated or self._ask(step, loss)
            if guard.is_over:
                break
            held = [group["lr"] for group in optimizer.param_groups]
            if max(rates) > 0:
                self.lowest = min(self.lowest, max(held) / max(rates))
            if is_allowed and step.updated and not step.skipped:
                self._update(t, grads, state, held)
            self._after(t, state)
        self.seconds = time.perf_counter() - started
        self.truth = training.label(training.np.array(self.probe) - s.floor, s.inject)
        monitor.close()

    def _ask(self, step, loss):
        monitor, guard = self.monitor, self.guard
        monitor.snapshot, at, before = step, monitor.next_step, len(guard.events)
        is_allowed = guard.allows(loss, **({"skipped": True} if step.skipped else {}))
        for event in list(guard.events)[before:]:
            event["world"] = step.t
            if event["kind"] != "no-checkpoint":
                self.lateness.append(at - int(monitor.last_reply["step"]))
        return is_allowed

    def _after(self, t, state):
        if not self.spec.after:
            return
        try:
            with torch.no_grad():
                self.spec.after(t, self.spec.model.params, state)
        except KeyError:  # a fault of an optimizer state that does not exist yet
            pass


def ignored(family, seed):
    """The same run without lyapd."""
    run = training.Run(family, seed)
    started = time.perf_counter()
    for _ in run:
        pass
    run.seconds = time.perf_counter() - started
    return run
