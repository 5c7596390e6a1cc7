"""Twins (docs/spec.md 2.5): copies of the training that start a small distance away.

A twin holds its own parameters and a copy of the optimizer with its memory. At every step it sees
the batch, the random numbers and the rates of the training, so that its log distance grows as a
perturbation of the trajectory does. Each costs one more training run: a forward and backward pass
and an update per step, and the memory of another set of parameters and optimizer state.

Nothing of the job changes: .grad is never written, parameters, buffers and random states come back
bit by bit."""

import contextlib
import copy
import math
from typing import Any, Callable, Dict, List, Optional, Sequence

import torch

from .probe import SEED, dot

ACTIVE, RANDOM = "active", "random"
SIZE = {torch.float64: 1e-7, torch.float32: 1e-4}  # |theta' - theta| / |theta| (E5)
# Renormalised outside [e/10, 10 e]. SPEC allows 100, and 1e-6 in F64: there the curvature of the
# map cost up to 2e-6 per step over 64 steps, a hundred times what it costs here (docs/python.md).
LEAVE = 10.0
ORTHOGONAL_EVERY = 10  # steps between orthogonalisations of several random twins
COUNT_MAX = 4        # of one run
# State that must not be negative: second moments and sums of squares.
_SQUARES = ("exp_avg_sq", "max_exp_avg_sq", "square_avg", "sum", "acc_delta")


class Twins:
    """`closure` computes the training loss of the present batch with the model's present
    parameters; the loop may use the same function for its own loss. `count` random twins (kept
    orthogonal to each other where there are several), and with `active` one along the probe's
    direction, injected anew every `renew` steps (0: never)."""

    def __init__(self, closure: Callable[[], torch.Tensor], count: int = 1, active: bool = False,
                 renew: int = 512, seed: int = SEED):
        if not callable(closure):
            raise TypeError("twins need a function that returns the loss of the present batch")
        if not isinstance(count, int) or count < 0 or not 1 <= count + bool(active) <= COUNT_MAX:
            raise ValueError("1 to %d twins are possible, not %r random ones%s"
                             % (COUNT_MAX, count, " and one along v" if active else ""))
        if not isinstance(renew, int) or renew < 0:
            raise ValueError("renew must be a whole number of steps >= 0, not %r" % (renew,))
        self.closure, self.count, self.active = closure, count, bool(active)
        self.renew, self.seed = renew, seed


class _Twin:
    """One copy of parameters and optimizer, and the log of its distance in units of e."""

    def __init__(self, name: str, optimizer: Any, parameters: Sequence[torch.Tensor]):
        self.name, self.log, self.born, self.is_new = name, 0.0, 0, True
        self.pending: Optional[List[Dict[str, Any]]] = None  # options of the update to be made
        self.optimizer = copy.deepcopy(optimizer)
        originals = [p for group in optimizer.param_groups for p in group["params"]]
        copies = [p for group in self.optimizer.param_groups for p in group["params"]]
        of = {id(original): twin for original, twin in zip(originals, copies)}
        self.parameters = [of[id(parameter)] for parameter in parameters]

    def pairs(self, optimizer, parameters):
        """(key, the training's tensor, the twin's) of the whole state that evolves."""
        for original, mine in zip(parameters, self.parameters):
            yield "", original.data, mine.data
            held = self.optimizer.state.get(mine, {})
            for key, value in optimizer.state.get(original, {}).items():
                other = held.get(key)
                if (isinstance(value, torch.Tensor) and value.is_floating_point()
                        and isinstance(other, torch.Tensor) and value.shape == original.shape
                        and key != "step"):
                    yield key, value, other


class Company:
    """The twins of one training, for `lyapd.watch`."""

    def __init__(self, model: torch.nn.Module, optimizer: Any, twins: Twins,
                 clip_norm: Optional[float]):
        self._model, self._optimizer, self._spec = model, optimizer, twins
        self._clip_norm = clip_norm
        self._parameters = list(dict.fromkeys(
            p for group in optimizer.param_groups for p in group["params"]))
        kinds = {parameter.dtype for parameter in self._parameters}
        if not kinds <= set(SIZE):
            raise ValueError("twins need float32 or float64 parameters, not %s: a distance this "
                             "small drowns in their rounding" % ", ".join(
                                 sorted(str(kind) for kind in kinds - set(SIZE))))
        self._relative = max(SIZE[kind] for kind in kinds)
        self._size = 0.0
        self._twins: List[_Twin] = []
        self._random: Optional[List[torch.Tensor]] = None  # states before the loop's forward pass
        self._is_twin_pass = False
        self._steps, self._was_updated = 0, False
        self._hook = model.register_forward_pre_hook(self._before_forward)

    def close(self) -> None:
        self._hook.remove()

    def forget_pass(self) -> None:
        """The passes since the update were not the loop's: a probe, activations."""
        self._random = None

    def reset(self) -> None:
        """The training went back: twins start anew from where it is."""
        self._twins, self._was_updated = [], False

    def step(self, direction: Optional[Sequence[torch.Tensor]], is_skipped: bool,
             is_left_out: bool = False) -> Dict[str, Any]:
        """Called between backward and the update: what goes with the snapshot. The twins take the
        step that the training is about to take with the next call, which knows whether the training
        took it (`is_left_out`: it did not)."""
        for twin in self._twins:
            self._settle(twin, is_left_out)
        if not is_left_out and self._was_updated:
            self._steps += 1
        self._inject(direction)
        self._renormalise()
        values = {"twin_log": self._logs(), "twin_name": [twin.name for twin in self._twins]}
        for twin in self._twins:
            twin.is_new = False
        self._was_updated = not is_skipped
        if not is_skipped:
            for twin in self._twins:
                self._prepare(twin)
        self._random = None
        return values if self._twins else {}

    # ---- injection ----

    def _inject(self, direction):
        spec = self._spec
        names = {twin.name for twin in self._twins}
        for i in range(spec.count):
            name = RANDOM if i == 0 else "%s-%d" % (RANDOM, i + 1)
            if name not in names:
                self._begin(name, self._noise(i))
        old = next((twin for twin in self._twins if twin.name == ACTIVE), None)
        is_due = old is None or (spec.renew and self._steps - old.born >= spec.renew)
        if spec.active and direction is not None and is_due:
            self._twins = [twin for twin in self._twins if twin is not old]
            self._begin(ACTIVE, direction)

    def _noise(self, i):
        generator = torch.Generator().manual_seed(self._spec.seed + i)
        return [torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p.device, p.dtype)
                if p.requires_grad else torch.zeros_like(p) for p in self._parameters]

    def _begin(self, name, direction):
        if self._size == 0:
            plain = [p.data for p in self._parameters]
            self._size = self._relative * (math.sqrt(dot(plain, plain)) or 1.0)
        norm = math.sqrt(dot(direction, direction))
        if not 0 < norm < math.inf:
            return
        twin = _Twin(name, self._optimizer, self._parameters)
        twin.born = self._steps
        for mine, part in zip(twin.parameters, direction):
            mine.data.add_(part.to(mine.dtype), alpha=self._size / norm)
        distance = self._distance(twin)  # as rounded
        if distance > 0:
            twin.log = -math.log(distance / self._size)
            self._twins.append(twin)
            self._orthogonalise()

    # ---- distances ----

    def _difference(self, twin):
        return [mine.data.double() - p.data.double()
                for mine, p in zip(twin.parameters, self._parameters)]

    def _distance(self, twin):
        difference = self._difference(twin)
        return math.sqrt(dot(difference, difference))

    def _company(self):
        return [twin for twin in self._twins if twin.name != ACTIVE]

    def _logs(self):
        """y of each; of several random ones the logs of R_jj, so that they tell exponents apart."""
        lengths = {id(twin): self._distance(twin) for twin in self._twins}
        random = self._company()
        if len(random) > 1:
            differences = [self._difference(twin) for twin in random]
            gram = torch.tensor([[dot(a, b) for b in differences] for a in differences],
                                dtype=torch.float64)
            size = gram.diagonal().clamp(min=1e-300).sqrt()
            found, info = torch.linalg.cholesky_ex(gram / size[:, None] / size[None, :])
            if int(info) == 0:
                for i, twin in enumerate(random):
                    lengths[id(twin)] = float(found[i, i] * size[i])
        return [self._log(twin, lengths[id(twin)]) for twin in self._twins]

    def _log(self, twin, length):
        if twin.is_new:
            return 0.0  # exactly: so the daemon knows an injection
        return twin.log + (math.log(length / self._size) if length > 0 else -math.inf)

    def _renormalise(self):
        for twin in self._twins:
            distance = self._distance(twin)
            if 0 < distance < math.inf and not (
                    self._size / LEAVE <= distance <= self._size * LEAVE):
                self._scale(twin, self._size / distance)
        if self._steps % ORTHOGONAL_EVERY == 0:
            self._orthogonalise()

    def _scale(self, twin, factor):
        """The whole state difference (theta, m, v) by one factor, whose log is remembered."""
        before = self._distance(twin)
        with torch.no_grad():
            for key, value, mine in twin.pairs(self._optimizer, self._parameters):
                mine.copy_(value.double() + factor * (mine.double() - value.double()))
                if key in _SQUARES and factor > 1:
                    mine.clamp_(min=0)
        after = self._distance(twin)
        if after > 0:
            twin.log += math.log(before / after)

    def _orthogonalise(self):
        """Gram-Schmidt of the random twins by the distances of their parameters; what is subtracted
        from theta is subtracted from m and v too, since the tangent map is linear in all."""
        random = self._company()
        if len(random) < 2:
            return
        for j, twin in enumerate(random):
            before = self._difference(twin)
            for other in random[:j]:
                base = self._difference(other)
                square = dot(base, base)
                if square > 0:
                    self._subtract(twin, other, dot(self._difference(twin), base) / square)
            after = self._distance(twin)
            if 0 < after < math.sqrt(dot(before, before)) or after > 0:
                self._scale(twin, self._size / after)

    def _subtract(self, twin, other, weight):
        others = list(other.pairs(self._optimizer, self._parameters))
        with torch.no_grad():
            for (_, value, mine), (_, _, theirs) in zip(
                    twin.pairs(self._optimizer, self._parameters), others):
                mine.sub_((theirs.double() - value.double()).to(mine.dtype), alpha=weight)

    # ---- one step ----

    def _before_forward(self, _module, _inputs):
        """The first forward pass of a step: the loop's is remembered, a twin's repeats it. A pass
        without gradients is no training pass."""
        if not self._is_twin_pass:
            if self._random is None and torch.is_grad_enabled():
                self._random = _random_states(self._parameters)
        elif self._random is not None and self._is_first_pass:
            self._is_first_pass = False
            _set_random(self._random)

    def _prepare(self, twin):
        """The gradient of the present batch and the options of the update that uses it."""
        for mine, part in zip(twin.parameters, self._gradient(twin)):
            mine.grad = part
        twin.pending = [{key: value for key, value in group.items() if key != "params"}
                        for group in self._optimizer.param_groups]

    def _settle(self, twin, is_left_out):
        if twin.pending is not None and not is_left_out:
            for options, mine in zip(twin.pending, twin.optimizer.param_groups):
                mine.update(options)
            if self._clip_norm is not None:
                torch.nn.utils.clip_grad_norm_(twin.parameters, self._clip_norm)
            twin.optimizer.step()
        twin.pending = None
        for mine in twin.parameters:
            mine.grad = None

    def _gradient(self, twin):
        """Of the present batch at the twin's parameters, which stand in the model meanwhile."""
        active = [i for i, p in enumerate(self._parameters) if p.requires_grad]
        kept = [p.data for p in self._parameters]
        buffers = [(buffer, buffer.detach().clone()) for buffer in self._model.buffers()]
        states = _random_states(self._parameters)
        self._is_twin_pass = self._is_first_pass = True
        try:
            for parameter, mine in zip(self._parameters, twin.parameters):
                parameter.data = mine.data.clone()
            if self._random is not None:
                _set_random(self._random)
            with torch.enable_grad(), _alone(self._model):
                loss = self._spec.closure()
                found = torch.autograd.grad(loss, [self._parameters[i] for i in active],
                                            allow_unused=True)
        finally:
            self._is_twin_pass = False
            for parameter, old in zip(self._parameters, kept):
                parameter.data = old
            with torch.no_grad():
                for buffer, old in buffers:
                    buffer.copy_(old)
            _set_random(states)
        gradient: List[Optional[torch.Tensor]] = [None] * len(self._parameters)
        for i, part in zip(active, found):
            gradient[i] = None if part is None else part.detach()
        return gradient


def _alone(model):
    return model.no_sync() if hasattr(model, "no_sync") else contextlib.nullcontext()


def _random_states(parameters):
    devices = sorted({p.device.index for p in parameters if p.device.type == "cuda"})
    return [(None, torch.get_rng_state())] + [
        (device, torch.cuda.get_rng_state(device)) for device in devices]


def _set_random(states):
    for device, state in states:
        if device is None:
            torch.set_rng_state(state)
        else:
            torch.cuda.set_rng_state(state, device)
