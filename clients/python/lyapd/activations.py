"""Activations of the probe batch, plain and with a slightly moved input, and the derivatives of the
activation functions there (docs/spec.md 1.1, 1.5): what the empirical gains are made of.

Two forward passes of the probe closure in eval mode; hooks live for these passes alone. x_0 is the
model's first floating-point input, or, where that is integer tokens, what the first embedding makes
of them."""

import contextlib
import math
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence

import torch
from torch import nn
from torch.nn import functional as F

from .declare import unwrap
from .probe import undisturbed

STEP = 1e-3            # |x'_0 - x_0| / |x_0|: above F32's rounding, below what bends a layer
SAMPLES_MAX = 16       # rows of the batch that are pushed
BYTES_MAX = 8 << 20    # of one push: layers beyond it are left out, last ones first
SEED = 20251222

_APPLY: Dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "relu": F.relu, "relu6": F.relu6, "tanh": torch.tanh, "sigmoid": torch.sigmoid,
    "gelu": F.gelu, "silu": F.silu, "mish": F.mish, "softplus": F.softplus,
    "softsign": F.softsign, "logsigmoid": F.logsigmoid, "selu": F.selu,
    "hardswish": F.hardswish, "identity": lambda x: x}
INPUT = "input"
READERS = ("layernorm", "rmsnorm", "groupnorm", "attention")


class Capture(NamedTuple):
    act: Dict[str, torch.Tensor]            # "input" and the layers by name
    act_perturbed: Dict[str, torch.Tensor]
    gate: Dict[str, torch.Tensor]           # phi' where the activation is known
    passes: int


class Activations:
    """`layers` as declared. The outputs of those that are modules are taken, through their
    activation where it is one of the known ones without parameters."""

    def __init__(self, model: nn.Module, closure: Callable[[], Any],
                 layers: Sequence[Mapping[str, Any]], samples: int = SAMPLES_MAX):
        self._model, self._closure, self._samples = model, closure, samples
        self._root = unwrap(model)
        modules = dict(self._root.named_modules())
        self._layers = {str(layer["name"]): layer for layer in layers
                        if layer["name"] in modules and layer["kind"] not in ("residual", "other")}
        self._modules = {name: modules[name] for name in self._layers}
        # What norms and attention read gives their local gains; where that is no module's output
        # (a residual sum), it is taken at their entrance.
        self._entrances = {name: source for name, source in _sources(layers).items()
                           if name in self._layers and source not in self._layers
                           and source != INPUT and self._layers[name]["kind"] in READERS}
        self._direction: Optional[torch.Tensor] = None

    def measure(self) -> Optional[Capture]:
        """None where the closure shows no input to move."""
        # With gradients enabled: without, torch's fused encoder layers pass by their own parts.
        with undisturbed(self._model, list(self._root.parameters())), torch.enable_grad():
            plain, start = self._run(None)
            if start is None or not plain:
                return None
            moved, _ = self._run(self._displacement(start))
        return self._collect(plain, moved, start)

    def _displacement(self, start: torch.Tensor) -> torch.Tensor:
        if self._direction is None or self._direction.shape != start.shape:
            generator = torch.Generator().manual_seed(SEED)
            self._direction = torch.randn(start.shape, generator=generator,
                                          dtype=torch.float32).to(start)
        length = STEP * float(start.double().norm()) / float(self._direction.double().norm())
        return self._direction * length

    def _run(self, displacement: Optional[torch.Tensor]):
        """Outputs before the activation by layer name, and x_0."""
        outputs: Dict[str, torch.Tensor] = {}
        start: List[torch.Tensor] = []

        def move(value):
            if start:
                return value  # the closure calls the model again: the first call counts
            moved = value if displacement is None else value + displacement
            start.append(moved.detach())
            return moved

        def at_input(_module, inputs):
            if inputs and isinstance(inputs[0], torch.Tensor) and inputs[0].is_floating_point():
                return (move(inputs[0]),) + tuple(inputs[1:])
            return None

        def at_embedding(_module, _inputs, output):
            return move(output)

        def keep(name):
            def hook(_module, _inputs, output):
                value = output[0] if isinstance(output, tuple) else output
                if start and name not in outputs and isinstance(value, torch.Tensor):
                    outputs[name] = value.detach()
            return hook
        def at_entrance(source):
            def hook(_module, inputs):
                if start and source not in outputs and isinstance(inputs[0], torch.Tensor):
                    outputs[source] = inputs[0].detach()
            return hook
        with contextlib.ExitStack() as stack:
            handles = [self._root.register_forward_pre_hook(at_input)]
            for module in self._root.modules():
                if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
                    handles.append(module.register_forward_hook(at_embedding))
                    break
            handles += [module.register_forward_hook(keep(name))
                        for name, module in self._modules.items()]
            handles += [self._modules[name].register_forward_pre_hook(at_entrance(source))
                        for name, source in self._entrances.items()]
            for handle in handles:
                stack.callback(handle.remove)
            self._closure()
        return outputs, start[0] if start else None

    def _collect(self, plain, moved, start):
        rows = min(self._samples, start.shape[0]) if start.dim() else 1
        names = [name for name in plain if name in moved]  # in the order of the computation
        act = {INPUT: start[:rows]}
        act_perturbed = {INPUT: start[:rows] + self._displacement(start)[:rows]}
        gate: Dict[str, torch.Tensor] = {}
        size = 2 * _bytes(act[INPUT])
        for name in names:
            before, after = plain[name], moved[name]
            if before.dim() == 0 or before.shape[0] != start.shape[0]:
                rows_here = slice(None)  # not batch first: all of it or nothing
            else:
                rows_here = slice(rows)
            kind = self._layers.get(name, {}).get("activation", "identity")
            apply = _APPLY.get(kind) if isinstance(kind, str) else None
            if apply is None or rows_here == slice(None):
                continue
            before, after = before[rows_here], after[rows_here]
            size += 3 * _bytes(before)
            if size > BYTES_MAX:
                break
            act[name], act_perturbed[name] = apply(before), apply(after)
            slope = self._slope(name, kind, apply, before)
            if slope is not None:
                gate[name] = slope
        is_finite = all(math.isfinite(float(value.double().sum())) for value in act.values())
        return Capture(act, act_perturbed, gate, 2) if is_finite else None

    def _slope(self, name, kind, apply, before):
        """The derivative of the layer's activation; of a batch norm in eval mode, what the
        daemon does not know of its gain: 1 / sqrt(running variance + eps)."""
        module = self._modules.get(name)
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)):
            if module.running_var is None:
                return None
            return (module.running_var + module.eps).rsqrt()[None]
        if kind == "identity":
            return None
        with torch.enable_grad():
            point = before.clone().requires_grad_(True)
            return torch.autograd.grad(apply(point).sum(), point)[0]


def _sources(layers: Sequence[Mapping[str, Any]]) -> Dict[str, str]:
    """Layer to the layer whose output it reads: the one before in its chain; the first of a
    block reads what the block reads."""
    blocks = {str(layer["name"]): layer for layer in layers if layer["kind"] == "residual"}
    inside = {name for block in blocks.values()
              for part in ("inner", "shortcut") for name in block.get(part, ())}
    result: Dict[str, str] = {}

    def follow(names, source):
        for name in names:
            result[name] = source
            for part in ("inner", "shortcut"):
                follow(blocks.get(name, {}).get(part, ()), source)
            source = name
    follow([str(layer["name"]) for layer in layers if layer["name"] not in inside], INPUT)
    return result


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()
