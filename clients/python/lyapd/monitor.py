"""lyapd.watch: a PyTorch training loop under the daemon's eyes, without being held up by it."""

import atexit
import collections
import contextlib
import logging
import math
import numbers
import os
import re
import sys
import time
import weakref
from typing import Any, Callable, Deque, Dict, List, Mapping, Optional, Sequence

import torch

from . import declare, http, wire
from .activations import Activations
from .capture import Capture
from .partial import AUTO_BYTES, UNITS, Snapshot, offsets
from .probe import Pair, Probe, input_sizes
from .run import Reply, declaration
from .sender import ERRORS_KEPT, Item, Limits, Sender
from .twin import Company, Twins

log = logging.getLogger("lyapd")

CLOSE_SECONDS = 5.0
_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")
# Where torch keeps m and v of the optimizers whose update needs them.
_STATE = {"adam": {"exp_avg": "exp_avg", "exp_avg_sq": "exp_avg_sq"},
          "adamw": {"exp_avg": "exp_avg", "exp_avg_sq": "exp_avg_sq"},
          "rmsprop": {"exp_avg_sq": "square_avg"}}


class Monitor:
    """What `watch` returns. Call `step` between backward and the optimizer's step.

    The answers arrive in the background; the attributes show the newest one:
    action, score, alerts, state, verdict, last_reply. Beside them: dropped, errors, timing."""

    def __init__(self, model: torch.nn.Module, optimizer: Any, *, url: Optional[str],
                 run: str, probe: Optional[Callable[[], torch.Tensor]], every: int,
                 probe_every: int, probe_follow: bool, probe_mode: str,
                 activations_every: Optional[int], wait: bool,
                 token: Optional[str],
                 include: Optional[Sequence[str]], exclude: Optional[Sequence[str]],
                 labels: Optional[Mapping[str, str]], spool: Optional[str],
                 budget: Optional[float], clip_norm: Optional[float], scaler: Any,
                 rank: Optional[int], world: Optional[int], shards: Optional[Mapping[str, Any]],
                 attempt_key: Optional[str], start_step: int, timeout: float, limits: Limits,
                 retention: Optional[str], data: Optional[str], windows: Optional[Sequence[int]],
                 cafile: Optional[str], twins: Optional[Twins] = None,
                 steps: Optional[int] = None, grade: Optional[str] = None,
                 late_max: Optional[int] = None):
        _check(model, optimizer, run, every, probe_every, activations_every)
        _check_late(wait, late_max)
        for name, value in (("clip_norm", clip_norm), ("budget", budget)):
            if value is not None and not (isinstance(value, numbers.Real) and value > 0):
                raise ValueError("%s must be positive, not %r" % (name, value))
        self.last_reply: Optional[Reply] = None
        self.probe_pair: Optional[Pair] = None  # the newest, for those who want to look
        self.timing = {"steps": 0, "pushes": 0, "copy_s": 0.0, "probe_s": 0.0,
                       "probe_gradients": 0, "wait_s": 0.0, "twin_s": 0.0}
        self.run = run
        self._started: Optional[float] = None
        self._pid = os.getpid()
        self._optimizer = declare.unwrap_optimizer(optimizer)
        self._named = declare.parameters(model, self._optimizer, include, exclude)
        if not self._named:
            raise ValueError("no parameter to watch: the optimizer updates none that include= and "
                             "exclude= let through")
        self._shards = shards
        self._is_partial = self._choose_grade(grade, limits)
        if self._is_partial and shards:  # every rank has a row for every tensor
            self._named = declare.parameters(model, self._optimizer, include, exclude, shards)
        self._groups = declare.Groups(self._optimizer, self._named)
        # Work and loss are of one set of parameters only when none that moves is left out.
        self._is_whole = len(self._named) == len(declare.parameters(
            model, self._optimizer, keep=shards if self._is_partial else None))
        self._every, self._probe_every = every, probe_every
        self._pace = _Pace(budget) if budget is not None else None
        self._probe_follow = probe_follow
        self._late_max = 0 if wait else late_max  # answers that may be missing; None: never waits
        self._unanswered: Deque[Item] = collections.deque()
        self._timeout = timeout
        self._has_waited = False                 # in vain, at the last step that waited
        self._clip_norm, self._scaler = clip_norm, scaler
        self._world = world
        self._rank = rank
        self._is_passive = _is_replica(rank, shards)
        self._next = start_step
        self._last: Optional[int] = None         # the last step that was queued
        self._left_out = 0                       # updates since then that were not applied
        self._has_left_out = False               # the update of the last step was not
        self._probe_gradient_at: Optional[int] = None
        self.probed_at: Optional[int] = None     # the last step with a probe pair
        self._has_followed = True                # every update since then was queued too
        self._wants_state = True
        self._pairs_need_state = False           # the daemon keeps none to weigh pairs with
        self._capture = Capture()
        self._probe = (Probe(model, self._named, probe, probe_mode) if probe is not None
                       else None)
        self._company = _company(model, self._optimizer, twins, probe, clip_norm,
                                 bool(shards) or (world or 1) > 1 or _processes() > 1)
        optimizer_fields = self._groups.declaration()
        self._kind = optimizer_fields["type"]
        self._sender: Optional[Sender] = None
        self._notes: Deque[str] = collections.deque(maxlen=ERRORS_KEPT)  # where another rank pushes
        if self._is_passive:
            return
        layers = self._layers(model, probe)
        self._declared_layers = layers or []
        self._forget_passes()
        self._activations_every = activations_every
        self._activations = (Activations(model, probe, layers)
                             if probe is not None and layers and activations_every else None)
        fields = declaration(optimizer_fields,
                             self._tensors(shards),
                             layers, labels, retention, data, windows, steps)
        connection = http.Connection(url, token, timeout, cafile)
        self._sender = Sender(connection, run, fields, attempt_key=attempt_key, rank=rank or 0,
                              limits=limits, spool=spool, on_reply=_Weak(self, "_replied"),
                              on_lost=_Weak(self, "_lost"))
        reference = weakref.ref(self)

        def at_exit():
            monitor = reference()
            if monitor is not None:  # a job that an exception killed is silent, not over
                monitor._close(CLOSE_SECONDS, is_over=not hasattr(sys, "last_type"))
        self._at_exit = at_exit
        atexit.register(at_exit)

    # ---- the answers ----

    @property
    def action(self) -> Dict[str, Any]:
        """{"kind": "continue" | "reduce_lr" | "skip" | "rollback" | "stop", ...}"""
        return self.last_reply.action if self.last_reply else {"kind": "continue"}

    @property
    def score(self) -> Optional[float]:
        """instability_score, 0 to 1; the rule `instability` fires at 0.5. None: unknown."""
        return self.last_reply.score if self.last_reply else None

    @property
    def alerts(self) -> List[Dict[str, Any]]:
        return self.last_reply.alerts if self.last_reply else []

    @property
    def state(self) -> Optional[str]:
        return self.last_reply.state if self.last_reply else None

    @property
    def verdict(self) -> Optional[str]:
        return self.last_reply.verdict if self.last_reply else None

    @property
    def attempt(self) -> Optional[int]:
        return self._sender.attempt if self._sender else None

    @property
    def next_step(self) -> int:
        """The number of the coming step, unless `step` is given another."""
        return self._next

    @property
    def lr(self) -> float:
        """The largest learning rate of the parameter groups, to which an advised rate refers."""
        return max(self._groups.rates())

    @property
    def dropped(self) -> int:
        """Snapshots that never reached the daemon because the queue was full."""
        return self._sender.dropped if self._sender else 0

    @property
    def lag(self) -> Optional[int]:
        """Steps by which the newest answer is behind the newest push; None before the first."""
        if self.last_reply is None or self._last is None:
            return None
        return self._last - int(self.last_reply.get("step", self._last))

    @property
    def queued(self) -> int:
        """Snapshots that wait in memory."""
        return self._sender.queued if self._sender else 0

    @property
    def is_stale(self) -> bool:
        """A later attempt of the run has taken over; nothing is pushed any more."""
        return self._sender is not None and self._sender.is_stale

    @property
    def is_sharded(self) -> bool:
        """Every rank pushes its own part."""
        return bool(self._shards) or self._rank is not None

    @property
    def sent(self) -> int:
        return self._sender.sent if self._sender else 0

    @property
    def overhead(self) -> float:
        """Share of the time since the first step that was spent in `step`."""
        spent = sum(self.timing[part] for part in ("copy_s", "probe_s", "wait_s", "twin_s"))
        elapsed = time.perf_counter() - self._started if self._started is not None else 0.0
        return spent / elapsed if elapsed > 0 else 0.0

    def note(self, text: str) -> None:
        """Adds to `errors`; logged once."""
        if self._sender is not None:
            self._sender.note(text)
            return
        if text not in self._notes:
            log.warning("lyapd: %s", text)
        self._notes.append(text)

    @property
    def errors(self) -> List[str]:
        """The last things that went wrong, newest last. None of them reached the loop."""
        return list(self._sender.errors if self._sender else self._notes)

    # ---- the loop ----

    def step(self, loss: Any = None, step: Optional[int] = None, **values: Any
             ) -> Optional[Reply]:
        """One optimizer step is about to happen: gradients are there, not clipped. Call it once
        per optimizer.step (with accumulation: not per micro-batch). `values` are metadata of
        docs/wire.md (batch_id=, skipped=, time=, ...) or labels= of the point.
        Never raises and, without wait=True or late_max=, never waits for the network; the cost is
        one copy of parameters and gradients to host memory, and the probe's gradients where due.
        With wait=True returns the answer to this very step, or None when it did not come."""
        if self._sender is None:  # rank 0 pushes
            self._next = (self._next if step is None else int(step)) + 1
        if self._sender is None or self._pid != os.getpid():
            return None
        try:
            return self._step(loss, step, values)
        except Exception as error:  # whatever it was, the job goes on
            self._sender.note("step: %r" % error)
            self._has_followed = False
            return None
        finally:
            self._forget_passes()

    def _step(self, loss, step, values):
        assert self._sender is not None
        at = self._next if step is None else int(step)
        self.timing["steps"] += 1
        if self._last is not None and at <= self._last and self._sender.is_usable:
            self.new_attempt()
        self._next = at + 1
        twin = self._twin(values)
        if not self._sender.is_usable:
            return None
        if self._pace is not None:
            self._every = self._pace.every(time.perf_counter(), self._every)
        if self._every > 1 and at % self._every > 1:  # two steps in a row, so that they compare
            self._has_followed = False
            return None
        started = time.perf_counter()
        self._started = started if self._started is None else self._started
        roles, extra = self._probe_roles(at)
        roles.update(self._activation_roles(at))
        probed = time.perf_counter()
        extra.update(twin)
        item = self._snapshot(at, loss, roles, extra, values)
        self._sender.put(item)
        self._last, self._has_followed, self._left_out = at, True, 0
        copied = time.perf_counter()
        reply = self._await(item)
        self.timing["pushes"] += 1
        self.timing["probe_s"] += probed - started
        self.timing["copy_s"] += copied - probed
        self.timing["wait_s"] += time.perf_counter() - copied
        if self._pace is not None:
            self._pace.pushed(copied - probed)
        return reply

    def _await(self, item):
        """Waits until no more than `late_max` answers are missing; the one to `item` where none
        may be. A daemon that is known to be away is waited for once: the step that met it waits
        out `timeout`, the steps after it do not, until it answers again."""
        if self._late_max is None:
            return None
        self._unanswered.append(item)
        while len(self._unanswered) > self._late_max:
            oldest = self._unanswered.popleft()
            if not (self._has_waited and self._sender.is_down):
                self._has_waited = not oldest.done.wait(self._timeout)
        return Reply(item.reply) if self._late_max == 0 and item.reply else None

    def leave_out(self) -> None:
        """Call when the update of the last `step` is not applied: the next push says so."""
        self._left_out += 1
        self._has_left_out = True

    def new_attempt(self, step: Optional[int] = None) -> None:
        """Call after going back to a checkpoint; `step` is the coming one. A step that does not
        rise does it by itself."""
        self._next = self._next if step is None else step
        if self._sender is not None:
            self._sender.begin_attempt()
            self._last, self._has_followed, self._wants_state = None, True, True
            self._left_out, self._has_left_out = 0, False
            self.probed_at = None
            if self._company is not None:
                self._company.reset()

    def close(self, timeout: float = CLOSE_SECONDS) -> None:
        """Sends what is queued, at most for `timeout` seconds, and ends the run. A job that leaves
        by an exception does not end its run: the daemon then reports it as silent."""
        self._close(timeout, is_over=True)

    def _close(self, timeout: float, is_over: bool) -> None:
        if self._sender is None or self._pid != os.getpid():
            return
        if self._company is not None:
            self._company.close()
            self._company = None
        self._sender.close(timeout, is_over)
        atexit.unregister(self._at_exit)

    def flush(self, timeout: float = CLOSE_SECONDS) -> bool:
        """Waits until all that is queued was answered; False when time ran out."""
        if self._sender is None or self._pid != os.getpid():
            return True
        return self._sender.flush(timeout)

    def __enter__(self) -> "Monitor":
        return self

    def __exit__(self, kind: Any, *rest: Any) -> None:
        self._close(CLOSE_SECONDS, is_over=kind is None)

    # ---- a snapshot ----

    def _snapshot(self, at, loss, roles, extra, values):
        loss = loss.detach() if isinstance(loss, torch.Tensor) else loss
        roles["param"] = self._named
        roles["grad"] = {name: parameter.grad for name, parameter in self._named.items()
                         if parameter.grad is not None}
        needs_state = not self._is_partial and self._needs_state("pair_s" in roles)
        state = self._state() if needs_state else {}
        roles.update(state)
        metadata = {"step": at, "loss": None if loss is None else wire.number(loss),
                    "lr": self._groups.rates(), "optimizer_step": self._updates(),
                    "rank": self._rank, "world": self._world, "shard": self._shards,
                    "time": time.time()}
        if self._left_out and self._last is not None:
            metadata["updates"] = max(at - self._last - self._left_out, 0)
        metadata.update(extra)
        metadata.update(self._scaling())
        if self._clip_norm is not None:
            metadata.update(clip_norm=self._clip_norm, grad_norm=self._grad_norm())
        for key, value in (values.pop("labels", None) or {}).items():
            metadata[key if key.startswith("x-") else "x-" + key] = value
        metadata.update(values)
        if self._is_partial:
            return self._partial_item(at, roles, metadata)
        texts = wire.metadata(metadata)
        layout, data, release = self._capture.take(roles)
        if state:
            self._wants_state = False
        return Item(at, [layout.header(texts), data], bool(state), release)

    # ---- the partial grade ----

    def _choose_grade(self, grade, limits):
        if grade not in (None, "full", "partial"):
            raise ValueError("grade must be 'full', 'partial' or None, not %r" % (grade,))
        sizes = [p.numel() * p.element_size() for p in self._named.values()]
        is_large = 2 * sum(sizes) > max(AUTO_BYTES, limits.queue_bytes)
        has_f64 = all(p.device.type != "mps" for p in self._named.values())
        if grade == "partial" and not has_f64:
            raise ValueError("grade='partial' needs float64, which this device does not have")
        is_partial = grade == "partial" or (grade is None and is_large and has_f64)
        self._offsets = offsets(self._shards) if is_partial else {}
        return is_partial

    def _tensors(self, shards):
        """A partial push needs the whole shapes; else those of shards are learned."""
        if not shards:
            return declare.tensors(self._named)
        if not self._is_partial:
            return None
        return [{"name": name, "shape": list(shards[name]["shape"] if name in shards
                                             else parameter.shape)}
                for name, parameter in self._named.items()]

    def _partial_item(self, at, roles, metadata):
        """Sums where the tensors are; scalars alone until the daemon has told the run's seed."""
        is_waiting = self._late_max is not None and not self._has_waited
        seed = self._sender.wait_seed(self._timeout if is_waiting else 0)
        if seed is None:
            return Item(at, [wire.Layout([]).header(wire.metadata(metadata)), b""], False)
        with torch.no_grad():
            sums = Snapshot(list(self._named), seed, self._offsets)
            true = float(metadata.pop("clip_factor", 1.0))
            grads = {name: g.detach() / true if true != 1.0 else g.detach()
                     for name, g in roles["grad"].items()}
            sums.gradients(self._named, grads)
            self._update_rows(sums, grads, metadata)
            self._probe_rows(sums, roles)
            if "act" in roles:
                metadata.update(sums.activations(self._declared_layers, roles["act"],
                                                 roles["act_perturbed"]))
            entries, data = sums.arrays()
        metadata.update(delta_unit=max(UNITS[p.dtype] for p in self._named.values()),
                        grad_unit=max((UNITS[g.dtype] for g in grads.values()), default=0.0),
                        state_exact=True)
        return Item(at, [wire.Layout(entries).header(wire.metadata(metadata)), data], False)

    def _update_rows(self, sums, grads, metadata):
        rates, clip, norm = self._groups.rates(), 1.0, metadata.get("grad_norm", 0.0)
        if self._clip_norm is not None and norm > self._clip_norm:
            clip = self._clip_norm / (norm + 1e-6)  # as torch.nn.utils.clip_grad_norm_
        for name, g in grads.items():
            parameter = self._named[name]
            group = self._optimizer.param_groups[self._groups.of_tensor[name]]
            rate = self._groups.rate(name)
            sums.step(self._kind, name, parameter, g, clip, group,
                      self._optimizer.state.get(parameter, {}),
                      max(rates) / rate if rate > 0 else 0.0)

    def _probe_rows(self, sums, roles):
        if "probe_grad" in roles:
            sums.role("probe_grad", roles["probe_grad"])
        if "pair_s" in roles:
            weights = self._preconditioner()
            for i, name in enumerate(self._named):
                sums.pair(name, roles["pair_s"][name], roles["pair_y"][name],
                          None if weights is None else weights[i])

    def _needs_state(self, has_pair):
        """Adam's m and v follow from the gradients while every update was pushed; otherwise the
        daemon needs them once, and in sketch retention with every pair."""
        return self._kind in _STATE and (self._wants_state or not self._has_followed
                                         or (has_pair and self._pairs_need_state))

    def _state(self):
        found: Dict[str, Dict[str, torch.Tensor]] = {}
        for role, key in _STATE[self._kind].items():
            held = {name: self._optimizer.state[parameter][key]
                    for name, parameter in self._named.items()
                    if key in self._optimizer.state.get(parameter, {})}
            if held:
                found[role] = held
        return found

    def _updates(self):
        """Updates that Adam's state has seen; None for optimizers that do not count."""
        if self._kind not in _STATE:
            return None
        counts = [state["step"] for state in
                  (self._optimizer.state.get(parameter) for parameter in self._named.values())
                  if state and "step" in state]
        return int(max((float(count) for count in counts), default=0))

    def _scaling(self):
        """Mixed precision: gradients the GradScaler still has to divide, steps it will skip."""
        scaler = self._scaler
        if scaler is None or not scaler.is_enabled():
            return {}
        found = scaler._per_optimizer_states[id(self._optimizer)]["found_inf_per_device"]
        if found:  # unscale_ was called: the gradients are true ones
            return {"loss_scale": scaler.get_scale(),
                    "skipped": any(bool(flag) for flag in found.values())}
        is_finite = all(bool(torch.isfinite(parameter.grad).all())
                        for parameter in self._named.values() if parameter.grad is not None)
        return {"clip_factor": scaler.get_scale(), "loss_scale": scaler.get_scale(),
                "skipped": not is_finite}

    def forget_scaling(self) -> None:
        """For a step whose gradients are thrown away: the scaler allows one unscale_ an update."""
        if self._scaler is not None and self._scaler.is_enabled():
            self._scaler._per_optimizer_states.pop(id(self._optimizer), None)

    def _grad_norm(self):
        """As torch.nn.utils.clip_grad_norm_ computes it, over all the optimizer's parameters."""
        squares = [parameter.grad.detach().double().pow(2).sum().cpu()
                   for group in self._optimizer.param_groups for parameter in group["params"]
                   if parameter.grad is not None]
        return math.sqrt(float(torch.stack(squares).sum())) if squares else 0.0

    # ---- the twins ----

    def _twin(self, values):
        """Twins go along at every step, pushed or not."""
        if self._company is None:
            return {}
        started = time.perf_counter()
        try:
            is_skipped = bool(values.get("skipped") or self._scaling().get("skipped"))
            direction = (self._probe.direction_of(self._optimizer) if self._probe is not None
                         else None)
            is_left_out = self._has_left_out or values.get("updates") == 0
            self._has_left_out = False
            return self._company.step(direction, is_skipped, is_left_out)
        except Exception as error:
            assert self._sender is not None
            self._sender.note("twins switched off: %r" % error)
            self._company.close()
            self._company = None
            return {}
        finally:
            self.timing["twin_s"] += time.perf_counter() - started

    def _forget_passes(self):
        if self._company is not None:
            self._company.forget_pass()

    # ---- the probe ----

    def _probe_roles(self, at):
        """Roles and scalars of a probe, where one is due: the pair every `probe_every` steps, and
        on the step after it the probe gradient alone, so that two snapshots of one function
        follow each other (docs/spec.md 3)."""
        if self._probe is None:
            return {}, {}
        try:
            if self._is_probe_due(at):
                pair = self._probe.measure(self._preconditioner())
                self.probe_pair, self.probed_at = pair, at
            elif self._probe_follow and self._is_whole and self.probed_at == at - 1:
                pair = self._probe.gradient()
            else:
                return {}, {}
        except Exception as error:
            self._sender.note("probe switched off: %r" % error)
            self._probe = None
            return {}, {}
        self.timing["probe_gradients"] += pair.gradients
        names = list(self._named)
        roles = {}
        # Two probe gradients in a row must be of one function of what is pushed: batch norms move
        # it, and so do parameters that are left out.
        is_one = self._is_whole and (pair.s is None or self._probe.is_same_function)
        if is_one or self._probe_gradient_at != at - 1:
            roles["probe_grad"] = dict(zip(names, pair.gradient))
            self._probe_gradient_at = at
        if pair.s is not None and pair.y is not None:
            roles["pair_s"] = dict(zip(names, pair.s))
            roles["pair_y"] = dict(zip(names, pair.y))
        return roles, {"probe_loss": pair.loss}

    def _activation_roles(self, at):
        """Plain and perturbed activations of the probe batch, every `activations_every` steps."""
        if self._activations is None or self._probe is None or at % self._activations_every:
            return {}
        try:
            found = self._activations.measure()
        except Exception as error:
            self._sender.note("activations switched off: %r" % error)
            self._activations = None
            return {}
        if found is None:
            return {}
        return {"act": found.act, "act_perturbed": found.act_perturbed, "gate": found.gate}

    def _is_probe_due(self, at):
        if self._every > 1 and at % self._every:
            return False  # the second of two: the step after it is not pushed
        if self._kind in _STATE and not self._updates():
            return False  # P is not defined before the first update
        return self.probed_at is None or at - self.probed_at >= self._probe_every

    def _preconditioner(self):
        """Diagonal P of docs/spec.md 2.2 from the state the optimizer holds; unequal rates of
        groups are folded in. None: the identity."""
        rates = self._groups.rates()
        if self._kind not in _STATE and len(rates) == 1:
            return None
        reference = max(rates)
        result = []
        for name, parameter in self._named.items():
            diagonal = self._adam_diagonal(name, parameter)
            rate = self._groups.rate(name)
            # A group at rate 0 does not move: a large P keeps the direction out of it.
            result.append(diagonal * (reference / rate if rate > 0 else 1e12))
        return result

    def _adam_diagonal(self, name, parameter):
        if self._kind not in _STATE:
            return torch.ones_like(parameter)
        group = self._optimizer.param_groups[self._groups.of_tensor[name]]
        state = self._optimizer.state.get(parameter, {})
        second = state.get(_STATE[self._kind]["exp_avg_sq"])
        if second is None:
            return torch.ones_like(parameter)
        if self._kind == "rmsprop":
            return second.sqrt() + group["eps"]
        beta1, beta2 = group["betas"]
        count = float(state["step"])
        held = (second / (1 - beta2 ** count)).sqrt() + group["eps"]
        return held * (1 - beta1 ** count)

    # ---- from the background thread ----

    def _replied(self, item, reply):
        self.last_reply = Reply(reply)
        if self.last_reply.reason("sharpness") == "needs-optimizer-state":
            self._pairs_need_state = True
        if "exp_avg_sq" in (reply.get("want") or ()) and not item.has_state:
            self._wants_state = True

    def _lost(self, item):
        self._wants_state = True

    def _layers(self, model, probe):
        try:
            sizes = input_sizes(model, probe) if probe is not None else {}
            return declare.layers(model, self._named, sizes)
        except Exception as error:
            log.warning("lyapd: layers are not declared: %r", error)
            return None


class _Pace:
    """Chooses `every` so that copies cost at most a share of the loop's time; probes, whose cost
    their interval decides, do not count."""

    EVERY_MAX = 1000
    MEMORY = 0.9  # of the running means, per step

    def __init__(self, budget: float):
        self._budget = budget
        self._last: Optional[float] = None
        self._period = self._cost = 0.0

    def every(self, now: float, every: int) -> int:
        """Called at every step. The costs of the step before are in the period too; that makes the
        choice err towards pushing by at most the budget."""
        last, self._last = self._last, now
        if last is None or self._cost == 0:
            return every
        self._period = _mean(self._period, now - last, self.MEMORY)
        needed = 2 * self._cost / (self._budget * self._period)
        if needed <= 2:
            return 1
        return min(math.ceil(needed), self.EVERY_MAX)

    def pushed(self, seconds: float) -> None:
        self._cost = _mean(self._cost, seconds, self.MEMORY)


def _mean(old: float, new: float, memory: float) -> float:
    return memory * old + (1 - memory) * new if old else new


class _Weak:
    """A method of an object that this reference does not keep alive."""

    def __init__(self, target: Any, name: str):
        self._target, self._name = weakref.ref(target), name

    def __call__(self, *args: Any) -> None:
        target = self._target()
        if target is not None:
            getattr(target, self._name)(*args)


def _check(model, optimizer, run, every, probe_every, activations_every):
    if not isinstance(model, torch.nn.Module):
        raise TypeError("model must be a torch.nn.Module, not %s" % type(model).__name__)
    if not hasattr(optimizer, "param_groups"):
        raise TypeError("optimizer must be a torch.optim.Optimizer, not %s"
                        % type(optimizer).__name__)
    if not isinstance(run, str) or not _NAME.fullmatch(run):
        raise ValueError("run= must be of 1 to 128 characters A-Z a-z 0-9 . _ -, not %r" % (run,))
    for name, value in (("every", every), ("probe_every", probe_every),
                        ("activations_every", activations_every)):
        if name == "activations_every" and value is None:
            continue
        if not isinstance(value, int) or value < 1:
            raise ValueError("%s must be a whole number of steps, at least 1, not %r"
                             % (name, value))


def _check_late(wait, late_max):
    if late_max is None:
        return
    if not isinstance(late_max, int) or late_max < 0:
        raise ValueError("late_max must be a whole number, at least 0, not %r" % (late_max,))
    if wait and late_max > 0:
        raise ValueError("wait=True is late_max=0: give one of them")


def _company(model, optimizer, twins, probe, clip_norm, is_parallel):
    if twins is None:
        return None
    if not isinstance(twins, Twins):
        raise TypeError("twins must be lyapd.Twins(closure), not %s" % type(twins).__name__)
    if is_parallel:
        raise ValueError("twins need the whole gradient in one process, not a rank's part of it")
    if twins.active and probe is None:
        raise ValueError("a twin along the active direction needs probe=")
    return Company(model, optimizer, twins, clip_norm)


def _is_replica(rank, shards):
    """Of data-parallel replicas one rank pushes; ranks that hold shards all do."""
    if rank is not None or shards:
        return False
    with contextlib.suppress(Exception):
        return _processes() > 1 and torch.distributed.get_rank() != 0
    return False


def _processes():
    """Of torch.distributed; 1 without."""
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return 1
    return distributed.get_world_size()


def watch(model: torch.nn.Module, optimizer: Any, *, run: str, url: Optional[str] = None,
          probe: Optional[Callable[[], torch.Tensor]] = None, every: int = 1,
          probe_every: int = 5, probe_follow: bool = True, probe_mode: str = "auto",
          activations_every: Optional[int] = 50, wait: bool = False,
          token: Optional[str] = None, include: Optional[Sequence[str]] = None,
          exclude: Optional[Sequence[str]] = None, labels: Optional[Mapping[str, str]] = None,
          spool: Optional[str] = None, budget: Optional[float] = None,
          clip_norm: Optional[float] = None, scaler: Any = None,
          rank: Optional[int] = None, world: Optional[int] = None,
          shards: Optional[Mapping[str, Any]] = None, attempt_key: Optional[str] = None,
          start_step: int = 0, timeout: float = 30.0, limits: Limits = Limits(),
          retention: Optional[str] = None, data: Optional[str] = None,
          windows: Optional[Sequence[int]] = None, cafile: Optional[str] = None,
          twins: Optional[Twins] = None, steps: Optional[int] = None,
          grade: Optional[str] = None, late_max: Optional[int] = None) -> Monitor:
    """Watches a training loop: `loss.backward(); mon.step(loss); optimizer.step()`.

    url, token      of the daemon; default $LYAPD_URL (else http://127.0.0.1:9470), $LYAPD_TOKEN
    run             name of the run, [A-Za-z0-9._-]{1,128}
    probe           function that returns the loss of one fixed batch: curvature (docs/python.md)
    every           push every step (1), or two steps in a row in every `every`
    probe_every     steps between probes; probe_follow: one more probe gradient on the next step
    probe_mode      exact (second derivatives), difference (of two gradients), auto
    activations_every  steps between pushes of the probe's activations (needs probe); None: never
    wait            step waits for its answer, at most `timeout` seconds; once, while no daemon
                    answers
    late_max        step waits, as long, until no more than so many pushes are unanswered: with 1
                    a push travels while the loop makes its next step, and advice is one step late
    include, exclude  glob patterns over parameter names
    labels          of the run, {"team": "vision"}
    spool           directory for snapshots while the daemon is away
    budget          share of the loop's time that copies may take, such as 0.02: chooses `every`
    clip_norm       the norm to which gradients are clipped after step
    twins           lyapd.Twins(closure): growth of small perturbations, at the price of one more
                    training run each (docs/python.md)
    steps           of the whole training, for the horizon of sensitivity
    grade           full: tensors are pushed; partial: sums and sketches, made where the tensors are;
                    None: partial where parameters and gradients do not fit the queue
    scaler          the GradScaler, so that skipped steps and scaled gradients are known
    rank, world, shards  of sharded training; replicas need none, their first rank pushes
    attempt_key     the same for all ranks of one life of the job; default one of its own
    start_step      number of the first step
    limits          bounds of the queue and the spool
    """
    return Monitor(model, optimizer, url=url, run=run, probe=probe, every=every,
                   probe_every=probe_every, probe_follow=probe_follow, probe_mode=probe_mode,
                   activations_every=activations_every, wait=wait, token=token,
                   include=include, exclude=exclude, labels=labels, spool=spool,
                   budget=budget, clip_norm=clip_norm, scaler=scaler, rank=rank, world=world,
                   shards=shards,
                   attempt_key=attempt_key, start_step=start_step, timeout=timeout,
                   limits=limits, retention=retention, data=data, windows=windows, cafile=cafile,
                   twins=twins, steps=steps, grade=grade, late_max=late_max)
