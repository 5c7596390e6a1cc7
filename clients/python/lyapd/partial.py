"""The partial grade (docs/wire.md 3): sums and sketches of a snapshot, made where the tensors are.
What goes to the daemon grows with the number of tensors, not with their sizes; nothing is kept.

What needs the snapshot before (work, update identity, per-tensor updates) is then estimated from
sketches, as in sketch retention; predictions of the coming update are exact, since the optimizer's
own state is at hand."""

import math
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import torch

SKETCH = 4096
BLOCK = 64
CHUNK = 1 << 20             # elements that are widened to F64 at once
LARGEST = 2.0 ** 480        # beyond it a square overflows: counts as not finite
AUTO_BYTES = 256 << 20      # grade=None: partial where parameters and gradients exceed this
UNITS = {torch.float64: 2.0 ** -53, torch.float32: 2.0 ** -24, torch.float16: 2.0 ** -11,
         torch.bfloat16: 2.0 ** -8}
MOMENTS = ("count", "sq", "abs", "zeros", "nonfinite", "max", "block_sq")
_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


def _signed(z: int) -> int:
    z &= _MASK
    return z - (1 << 64) if z >> 63 else z


def _mix_number(z: int) -> int:
    z &= _MASK
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & _MASK
    return z ^ (z >> 31)


def _shifted(z: torch.Tensor, bits: int) -> torch.Tensor:
    """Logical shift of signed 64-bit words."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def _mix(z: torch.Tensor) -> torch.Tensor:
    z = (z ^ _shifted(z, 30)) * _signed(0xBF58476D1CE4E5B9)
    z = (z ^ _shifted(z, 27)) * _signed(0x94D049BB133111EB)
    return z ^ _shifted(z, 31)


def tensor_seed(run_seed: int, name: str) -> int:
    h = 0xCBF29CE484222325
    for byte in name.encode("utf-8"):
        h = (h ^ byte) * 0x100000001B3 & _MASK
    return _mix_number(run_seed ^ h)


def _places(seed: int, first: int, count: int, device: Any) -> Tuple[torch.Tensor, torch.Tensor]:
    """Signs and places of the coordinates of blocks first ... first + count - 1."""
    b = torch.arange(first, first + count, device=device, dtype=torch.int64)
    h = _mix(_signed(seed) + _signed(_GOLDEN) * (2 * b + 1))
    start = _shifted(_mix(_signed(seed) + _signed(_GOLDEN) * (2 * b + 2)), 52)  # of 2^12
    j = torch.arange(BLOCK, device=device, dtype=torch.int64)
    signs = ((h[:, None] >> j) & 1).double() * 2 - 1
    return signs, (start[:, None] + j) % SKETCH


def _chunks(x: torch.Tensor, offset: int) -> Iterator[Tuple[int, torch.Tensor]]:
    """(number of the first block, [blocks, 64] in F64, zeros where the tensor has no element)."""
    flat = x.detach().reshape(-1)
    at = 0
    while at < flat.numel():
        begin = offset + at
        head = begin % BLOCK
        taken = min(flat.numel() - at, CHUNK - head)
        part = flat[at:at + taken].double()
        tail = -(head + taken) % BLOCK
        if head or tail:
            part = torch.nn.functional.pad(part, (head, tail))
        yield begin // BLOCK, part.view(-1, BLOCK)
        at += taken


class Sums:
    """The rows and sketches of one snapshot, on the device of each tensor; one copy to the host at
    the end. `names` is the declared order; `offsets`: where a shard begins in the whole tensor."""

    def __init__(self, names: Sequence[str], run_seed: int, offsets: Mapping[str, int]):
        self._names, self._offsets = list(names), offsets
        self._seeds = {name: tensor_seed(run_seed, name) for name in self._names}
        self._rows: Dict[str, Dict[str, Any]] = {}
        self._sketches: Dict[str, Dict[Any, torch.Tensor]] = {}

    def put(self, row: str, name: str, value: Any) -> None:
        """`value`: a number, or a tensor of one that is fetched at the end."""
        self._rows.setdefault(row, {})[name] = value

    def role(self, role: str, tensors: Mapping[str, torch.Tensor]) -> None:
        """Moments and sketch of a role; tensors that it lacks have no elements."""
        for name in self._names:
            found = self._moments(role, name, tensors[name]) if name in tensors else [0.0] * 7
            for moment, value in zip(MOMENTS, found):
                self.put("%s_%s" % (role, moment), name, value)
        self._sketches.setdefault(role, {})

    def _add(self, role, name, first, block):
        sketches = self._sketches.setdefault(role, {})
        if block.device not in sketches:
            sketches[block.device] = torch.zeros(SKETCH, dtype=torch.float64, device=block.device)
        signs, places = _places(self._seeds[name], first, block.shape[0], block.device)
        sketches[block.device].index_add_(0, places.reshape(-1), (signs * block).reshape(-1))

    def _moments(self, role, name, x):
        count, zero = x.numel(), x.detach().new_zeros((), dtype=torch.float64)
        square, size, nonzero, bad = zero.clone(), zero.clone(), zero.clone(), zero.clone()
        largest, block_most = zero.clone(), zero.clone()
        for first, block in _chunks(x, self._offsets.get(name, 0)):
            good = _finite(block)
            bad += (good != block).sum()  # of what is not finite: NaN differs from all
            squares = (good * good).sum(1)
            square += squares.sum()
            size += good.abs().sum()
            nonzero += (block != 0).sum()
            largest = torch.maximum(largest, good.abs().max())
            block_most = torch.maximum(block_most, squares.max())
            self._add(role, name, first, good)
        return [float(count), square, size, count - nonzero, bad, largest, block_most]

    def arrays(self) -> Tuple[List[Tuple[str, str, Tuple[int, ...]]], bytearray]:
        """Entries of a body, and its data. What was not computed for one tensor is NaN."""
        values: List[Any] = []
        entries = []
        for row, found in sorted(self._rows.items()):
            entries.append(("reduce/" + row, "F64", (len(self._names),)))
            values += [found.get(name, math.nan) for name in self._names]
        host = _fetch(values)
        for role, parts in sorted(self._sketches.items()):
            entries.append(("sketch/" + role, "F64", (SKETCH,)))
            total = torch.zeros(SKETCH, dtype=torch.float64)
            for part in parts.values():
                total += part.cpu()
            host = torch.cat([host, total])
        data = bytearray(8 * host.numel())
        torch.frombuffer(data, dtype=torch.float64).copy_(host)
        return entries, data


def _finite(block: torch.Tensor) -> torch.Tensor:
    """The elements that count; zeros in the place of the others."""
    return torch.where(block.abs() <= LARGEST, block, torch.zeros_like(block))


def _fetch(values: Sequence[Any]) -> torch.Tensor:
    """Numbers and tensors of one, with one transfer a device."""
    out = torch.zeros(len(values), dtype=torch.float64)
    on: Dict[Any, List[Tuple[int, torch.Tensor]]] = {}
    for i, value in enumerate(values):
        if isinstance(value, torch.Tensor):
            on.setdefault(value.device, []).append((i, value))
        else:
            out[i] = float(value)
    for found in on.values():
        host = torch.stack([value.double() for _, value in found]).cpu()
        out[[i for i, _ in found]] = host
    return out


def _dot(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """In F64, chunk by chunk."""
    a, b = a.detach().reshape(-1), b.detach().reshape(-1)
    total = a.new_zeros((), dtype=torch.float64)
    for at in range(0, a.numel(), CHUNK):
        total += _finite(a[at:at + CHUNK].double()) @ _finite(b[at:at + CHUNK].double())
    return total


def _cuts(x: torch.Tensor, offset: int = 0) -> Iterator[slice]:
    """Ranges of CHUNK elements; `offset` moves their bounds to those of blocks."""
    at = 0
    while at < x.numel():
        end = min(at + CHUNK - (offset + at) % BLOCK, x.numel())
        yield slice(at, end)
        at = end


def _is_like(value: Any, theta: torch.Tensor) -> bool:
    return isinstance(value, torch.Tensor) and value.shape == theta.shape and value.dim() > 0


def _add(totals: Dict[str, Any], row: str, values: torch.Tensor) -> None:
    totals[row] = totals.get(row, 0.0) + values.sum()


class Update:
    """p_t of one tensor and the P_t of docs/spec.md 2.2, from the gradient and the state that the
    optimizer holds; None for an optimizer that is not known."""

    def __init__(self, p: torch.Tensor, precondition: Any, ratio: Optional[torch.Tensor]):
        self.p, self.precondition, self.ratio = p, precondition, ratio

    @staticmethod
    def of(kind: str, theta: torch.Tensor, g: torch.Tensor, group: Mapping[str, Any],
           state: Mapping[str, Any]) -> Optional["Update"]:
        theta, g = theta.detach().double(), g.detach().double()
        wd, lr = float(group.get("weight_decay", 0.0)), float(group["lr"])
        if kind == "sgd":
            return Update._sgd(theta, g + wd * theta, group, state, lr)
        if kind in ("adam", "adamw"):
            return Update._adam(theta, g if kind == "adamw" else g + wd * theta, group, state,
                                lr, wd if kind == "adamw" else 0.0)
        if kind == "rmsprop":
            return Update._rmsprop(g + wd * theta, group, state, lr)
        return None

    @staticmethod
    def _sgd(theta, g, group, state, lr):
        beta = float(group.get("momentum", 0.0))
        if beta:
            buffer = state.get("momentum_buffer")
            m = g if buffer is None else beta * buffer.double() + (1 - group["dampening"]) * g
            g = g + beta * m if group["nesterov"] else m
        return Update(-lr * g, None, None)

    @staticmethod
    def _adam(theta, g, group, state, lr, decay):
        beta1, beta2 = group["betas"]
        t = float(state["step"]) + 1 if "step" in state else 1.0
        zero = torch.zeros_like(g)
        m = beta1 * state.get("exp_avg", zero).double() + (1 - beta1) * g
        v = beta2 * state.get("exp_avg_sq", zero).double() + (1 - beta2) * g * g
        v_hat = v / (1 - beta2 ** t)
        root = v_hat.sqrt() + group["eps"]
        p = -lr * m / (1 - beta1 ** t) / root - lr * decay * theta
        return Update(p, (1 - beta1 ** t) * root, g * g / v_hat.clamp(min=group["eps"] ** 2))

    @staticmethod
    def _rmsprop(g, group, state, lr):
        alpha = float(group["alpha"])
        v = alpha * state.get("square_avg", torch.zeros_like(g)).double() + (1 - alpha) * g * g
        root = v.sqrt() + group["eps"]
        step = g / root
        if group["momentum"]:
            step = step + group["momentum"] * state.get("momentum_buffer",
                                                        torch.zeros_like(g)).double()
        return Update(-lr * step, root, g * g / v.clamp(min=group["eps"] ** 2))


class Snapshot(Sums):
    """All rows of a push."""

    def gradients(self, params: Mapping[str, torch.Tensor], grads: Mapping[str, torch.Tensor]
                  ) -> None:
        self.role("param", params)
        self.role("grad", grads)
        for name, g in grads.items():
            self.put("grad_param", name, _dot(g, params[name]))

    def step(self, kind: str, name: str, theta: torch.Tensor, g: torch.Tensor, factor: float,
             group: Mapping[str, Any], state: Mapping[str, Any], weight: float) -> None:
        """Of the coming update; `factor`: what clipping leaves of g, `weight`: the reference rate
        over this tensor's."""
        totals: Dict[str, Any] = {}
        for cut in _cuts(theta):
            held = {key: value.detach().reshape(-1)[cut] if _is_like(value, theta) else value
                    for key, value in state.items()}
            part = g.detach().reshape(-1)[cut].double()
            update = Update.of(kind, theta.detach().reshape(-1)[cut], factor * part, group, held)
            if update is None:
                return
            p = update.p
            weighted = p * p if update.precondition is None else p * p * update.precondition
            _add(totals, "step_sq", p * p)
            _add(totals, "grad_step", part * p)
            _add(totals, "step_p", weight * weighted)
            if update.ratio is not None:
                _add(totals, "rms_sq", update.ratio)
        for row, value in totals.items():
            self.put(row, name, value)

    def pair(self, name: str, s: torch.Tensor, y: torch.Tensor,
             weight: Optional[torch.Tensor]) -> None:
        totals: Dict[str, Any] = {}
        offset = self._offsets.get(name, 0)
        for cut in _cuts(s, offset):
            a, b = (x.detach().reshape(-1)[cut].double() for x in (s, y))
            root = 1.0 if weight is None else weight.detach().reshape(-1)[cut].double().sqrt()
            for row, value in (("ss", a * a), ("sy", a * b), ("yy", b * b),
                               ("sps", (a * root) ** 2), ("ypy", (b / root) ** 2)):
                _add(totals, "pair_" + row, value)
            for role, x in (("pair_s", a * root), ("pair_y", b / root)):
                for first, block in _chunks(x, offset + cut.start):
                    self._add(role, name, first, _finite(block))
        for row, value in totals.items():
            self.put(row, name, value)

    def activations(self, layers: Sequence[Mapping[str, Any]], act: Mapping[str, torch.Tensor],
                    moved: Mapping[str, torch.Tensor]) -> Dict[str, float]:
        """Rows of the layers that have a tensor; the input's go into the metadata returned."""
        for layer in layers:
            name, tensor = layer["name"], layer.get("tensor")
            if tensor in self._seeds and name in act and name in moved:
                self.put("act_sq", tensor, _dot(act[name], act[name]))
                d = moved[name].detach().double() - act[name].detach().double()
                self.put("act_diff_sq", tensor, _dot(d, d))
        if "input" not in act or "input" not in moved:
            return {}
        d = moved["input"].detach().double() - act["input"].detach().double()
        return {"act_input_sq": float(_dot(act["input"], act["input"])),
                "act_input_diff_sq": float(_dot(d, d))}


def offsets(shards: Optional[Mapping[str, Any]]) -> Dict[str, int]:
    """First coordinate of each shard. A box must be whole rows."""
    out = {}
    for name, shard in (shards or {}).items():
        if "offset" in shard:
            out[name] = int(shard["offset"])
            continue
        shape, start = [list(map(int, shard[key])) for key in ("shape", "start")]
        if any(start[1:]):
            raise ValueError("shard %r: in partial grade a box must be whole rows" % name)
        out[name] = start[0] * math.prod(shape[1:]) if start else 0
    return out
