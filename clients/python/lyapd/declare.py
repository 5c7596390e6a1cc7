"""What a PyTorch job says about itself: tensors, optimizer with its groups, layers."""

import fnmatch
import re
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

import torch
from torch import nn

from . import graph

FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)

# torch.optim class -> declared type, and its constants as {declared name: (group key, index)}.
# A class of another package, or a subclass with a step of its own, is "other": its update is not
# known, and a wrong declaration would be worse than none.
_BETAS = {"beta1": ("betas", 0), "beta2": ("betas", 1), "eps": ("eps", None),
          "weight_decay": ("weight_decay", None)}
_OPTIMIZERS: Tuple[Tuple[str, str, Dict[str, Tuple[str, Optional[int]]]], ...] = (
    ("SGD", "sgd", {"momentum": ("momentum", None), "dampening": ("dampening", None),
                    "nesterov": ("nesterov", None), "weight_decay": ("weight_decay", None)}),
    ("Adam", "adam", _BETAS),
    ("AdamW", "adamw", _BETAS),
    ("RMSprop", "rmsprop", {"momentum": ("momentum", None), "beta2": ("alpha", None),
                            "eps": ("eps", None), "weight_decay": ("weight_decay", None)}),
)
_UNKNOWN_VARIANTS = ("maximize", "centered", "amsgrad")  # flags that change the update rule

def unwrap(model: nn.Module) -> nn.Module:
    """The module itself under torch.compile, DataParallel and DistributedDataParallel."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if inner is None and type(model).__name__ in ("DataParallel", "DistributedDataParallel"):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def unwrap_optimizer(optimizer: Any) -> Any:
    """The torch optimizer under a wrapper that keeps it as `optimizer` (accelerate and others)."""
    for _ in range(4):
        inner = getattr(optimizer, "optimizer", None)
        if isinstance(optimizer, torch.optim.Optimizer) and not hasattr(inner, "param_groups"):
            return optimizer
        if inner is None or not hasattr(inner, "param_groups"):
            return optimizer
        optimizer = inner
    return optimizer


def parameters(model: nn.Module, optimizer: Any, include: Optional[Sequence[str]] = None,
               exclude: Optional[Sequence[str]] = None,
               keep: Optional[Mapping[str, Any]] = None) -> Dict[str, torch.Tensor]:
    """Name to parameter: those that the optimizer updates, shared ones once, in the model's order;
    none without elements, but those of `keep`.
    Parameters of the optimizer that the model does not know get a name by their place."""
    places = {id(parameter): "param_groups.%d.%d" % (i, j)
              for i, group in enumerate(optimizer.param_groups)
              for j, parameter in enumerate(group["params"])}
    known: Dict[str, torch.Tensor] = {}
    seen = set()
    for name, parameter in unwrap(model).named_parameters():
        if id(parameter) in places and id(parameter) not in seen:
            seen.add(id(parameter))
            known[name] = parameter
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if id(parameter) not in seen:
                seen.add(id(parameter))
                known[places[id(parameter)]] = parameter
    return {name: parameter for name, parameter in known.items()
            if parameter.requires_grad and parameter.dtype in FLOATS
            and (parameter.numel() or name in (keep or {}))
            and (not include or _matches(name, include))
            and not (exclude and _matches(name, exclude))}


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


class Groups:
    """The optimizer's parameter groups as the daemon wants them: the largest is the base, the
    others name their tensors."""

    def __init__(self, optimizer: Any, named: Mapping[str, torch.Tensor]):
        self._optimizer = optimizer
        names = {id(parameter): name for name, parameter in named.items()}
        self.names: List[List[str]] = [
            [names[id(parameter)] for parameter in group["params"] if id(parameter) in names]
            for group in optimizer.param_groups]
        order = sorted(range(len(self.names)), key=lambda i: (-len(self.names[i]), i))
        self.order = order[:1] + sorted(i for i in order[1:] if self.names[i])
        self.of_tensor = {name: i for i, found in enumerate(self.names) for name in found}

    def rates(self) -> List[float]:
        """Learning rates of the coming update, base first; one when all are equal."""
        rates = [float(self._optimizer.param_groups[i]["lr"]) for i in self.order]
        return rates[:1] if len(set(rates)) == 1 else rates

    def rate(self, name: str) -> float:
        return float(self._optimizer.param_groups[self.of_tensor[name]]["lr"])

    def declaration(self) -> Dict[str, Any]:
        kind, constants = _kind(self._optimizer)
        resolved = [self._constants(i, kind, constants) for i in self.order]
        base = dict(resolved[0], type=kind)
        groups = []
        for i, own in zip(self.order[1:], resolved[1:]):
            groups.append(dict({key: value for key, value in own.items()
                                if value != base.get(key)}, tensors=self.names[i]))
        if groups:
            base["groups"] = groups
        return base

    def _constants(self, index, kind, constants):
        group = self._optimizer.param_groups[index]
        result: Dict[str, Any] = {}
        if float(group.get("lr", 0)) > 0:
            result["lr"] = float(group["lr"])
        for name, (key, part) in constants.items():
            value = group[key] if part is None else group[key][part]
            result[name] = value if isinstance(value, bool) else float(value)
        return result


def _kind(optimizer):
    cls = type(optimizer)
    if cls.__module__.split(".")[:2] == ["torch", "optim"]:
        for name, kind, constants in _OPTIMIZERS:
            if cls.__name__ == name and not _is_variant(optimizer):
                return _decoupled(optimizer, kind), constants
    return "other", {}


def _decoupled(optimizer, kind):
    """torch 2.6 and later: Adam(decoupled_weight_decay=True) is AdamW."""
    if kind == "adam" and all(group.get("decoupled_weight_decay", False)
                              for group in optimizer.param_groups):
        return "adamw"
    return kind


def _is_variant(optimizer):
    return any(group.get(flag) for group in optimizer.param_groups for flag in _UNKNOWN_VARIANTS)


def tensors(named: Mapping[str, torch.Tensor]) -> List[Dict[str, Any]]:
    return [{"name": name, "shape": list(parameter.shape)} for name, parameter in named.items()]


def layers(model: nn.Module, named: Mapping[str, torch.Tensor],
           inputs: Optional[Mapping[str, Sequence[int]]] = None) -> List[Dict[str, Any]]:
    """The layers in the order in which forward applies them, with activations, residual blocks and
    the geometry of convolutions; `inputs` is what `input_sizes` found."""
    root = unwrap(model)
    names = {id(parameter): name for name, parameter in named.items()}

    def describe(path: str, module: nn.Module) -> Optional[Dict[str, Any]]:
        return _layer(module, (inputs or {}).get(path), names)
    chain = graph.read(root, describe)
    if chain is not None:
        return chain
    found = ((path or type(module).__name__, describe(path, module))
             for path, module in root.named_modules())
    return graph.fallback({path: entry for path, entry in found if entry})


def _layer(module, size, names):
    """Kind, tensors and constants of a module whose parameters are all pushed; None for any other."""
    entry = _kind_of(module, size)
    if entry is None or any(id(parameter) not in names for parameter in module.parameters()):
        return None  # a frozen or left-out tensor is not known to the daemon
    attention = {"query": "q_proj_weight", "key": "k_proj_weight", "value": "v_proj_weight"}
    roles = {"tensor": "weight", "bias": "bias"}
    if entry["kind"] == "attention":
        roles = dict(attention, tensor="in_proj_weight")
        entry["output"] = names[id(module.out_proj.weight)]
    elif entry["kind"] == "embedding":
        roles = {"tensor": "weight"}
    for key, attribute in roles.items():
        name = names.get(id(getattr(module, attribute, None)))
        if name:
            entry[key] = name
    return entry


def _kind_of(module, size):
    if isinstance(module, nn.Linear):
        return {"kind": "linear"}
    if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        return _convolution(module, size)
    if isinstance(module, nn.LayerNorm):
        return {"kind": "layernorm", "eps": module.eps}
    if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)):
        return {"kind": "batchnorm", "eps": module.eps}
    if isinstance(module, nn.Embedding):
        return {"kind": "embedding"}
    if isinstance(module, nn.MultiheadAttention):
        return {"kind": "attention", "heads": module.num_heads}
    return None


def _convolution(module, size):
    entry = {"kind": re.sub(r"^Conv(\dd)$", r"conv\1", type(module).__name__).lower(),
             "stride": _plain(module.stride), "dilation": _plain(module.dilation),
             "groups": module.groups, "padding_mode": module.padding_mode}
    if not isinstance(module.padding, str):
        entry["padding"] = _plain(module.padding)
    if size:
        entry["input"] = [int(extent) for extent in size]
    return entry


def _plain(values):
    return int(values[0]) if len(set(values)) == 1 else [int(value) for value in values]
