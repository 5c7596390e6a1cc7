"""What a model's forward does to its input, read by torch.fx: the chain of layers with their
activations and residual sums that the representation profile needs (docs/spec.md 1).

Only what is certain is claimed. An operation whose gain is not known, a parameter that is not
pushed, a meeting of branches that is no sum of two: each becomes a layer of kind `other`, and the daemon
then reports no bound of the whole. A forward that fx cannot follow gives the layers of the module
tree and one `other` for the way between them."""

import math
import operator
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence

import torch
from torch import fx, nn
from torch.nn import functional as F

# Modules, functions and methods by what they do. Dropout is judged in eval mode: the identity.
ACTIVATIONS = {"ReLU": "relu", "ReLU6": "relu6", "Tanh": "tanh", "Sigmoid": "sigmoid",
               "GELU": "gelu", "SiLU": "silu", "Mish": "mish", "Softplus": "softplus",
               "Softsign": "softsign", "LogSigmoid": "logsigmoid", "LeakyReLU": "leaky_relu",
               "ELU": "elu", "SELU": "selu", "Hardtanh": "hardtanh", "Hardswish": "hardswish"}
_FUNCTIONS: Dict[Any, str] = {
    torch.relu: "relu", F.relu: "relu", F.relu6: "relu6", torch.tanh: "tanh", F.tanh: "tanh",
    torch.sigmoid: "sigmoid", F.sigmoid: "sigmoid", F.gelu: "gelu", F.silu: "silu",
    F.mish: "mish", F.softplus: "softplus", F.softsign: "softsign", F.logsigmoid: "logsigmoid",
    F.leaky_relu: "leaky_relu", F.elu: "elu", F.selu: "selu", F.hardtanh: "hardtanh",
    F.hardswish: "hardswish"}
_METHODS = {"relu": "relu", "tanh": "tanh", "sigmoid": "sigmoid"}
# |f(x) - f(y)| <= |x - y|: reordering, selection, averages.
_SAME_MODULES = ("Identity", "Flatten", "Unflatten", "Dropout", "Dropout1d", "Dropout2d",
                 "Dropout3d", "AlphaDropout", "PixelShuffle", "PixelUnshuffle")
_SAME_FUNCTIONS = (torch.flatten, torch.reshape, torch.permute, torch.transpose, torch.squeeze,
                   torch.unsqueeze, torch.mean, F.dropout, operator.getitem)
_SAME_METHODS = ("flatten", "view", "reshape", "permute", "transpose", "contiguous", "squeeze",
                 "unsqueeze", "mean", "float", "double", "clone", "view_as", "select", "chunk")
_POOLS = {"MaxPool1d": 1, "MaxPool2d": 2, "MaxPool3d": 3}
_POOL_FUNCTIONS: Dict[Any, int] = {F.max_pool1d: 1, F.max_pool2d: 2, F.max_pool3d: 3}
_AVERAGES = ("AvgPool1d", "AvgPool2d", "AvgPool3d", "AdaptiveAvgPool1d", "AdaptiveAvgPool2d",
             "AdaptiveAvgPool3d")
_AVERAGE_FUNCTIONS = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d, F.adaptive_avg_pool1d,
                      F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)
_SUMS = (operator.add, operator.iadd, torch.add)
_PRODUCTS = (operator.mul, operator.imul, torch.mul)
DEPTH_MAX = 10000  # operations of one forward

Entry = Dict[str, Any]
Describe = Callable[[str, nn.Module], Optional[Entry]]


class Unreadable(Exception):
    """forward is no chain from one input to one output."""


class _Way(NamedTuple):
    """What lies between a value and the source: layers in order, and the top-level chain of them
    (a residual block stands for its inner layers)."""
    layers: List[Entry]
    chain: List[Entry]


def read(root: nn.Module, describe: Describe) -> Optional[List[Entry]]:
    """Layers in the order of the computation, residual blocks behind their inner layers; None
    when fx cannot follow forward. `describe` gives the entry of a module with parameters that are
    pushed (without its name), or None."""
    kept = [(module, dict(module.__dict__)) for module in root.modules()]
    try:
        graph = _Tracer().trace(root)
        return _Reader(root, graph, describe).read()
    except Unreadable:
        return None
    except Exception:  # whatever forward does with a value that is none
        return None
    finally:
        for module, attributes in kept:  # forward may have kept what it was shown
            module.__dict__.clear()
            module.__dict__.update(attributes)


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return m.__module__.startswith("torch.") and not isinstance(m, nn.Sequential)


class _Reader:
    def __init__(self, root: nn.Module, graph: fx.Graph, describe: Describe):
        self._modules = dict(root.named_modules())
        self._describe = describe
        self._names: Dict[str, int] = {}
        nodes = list(graph.nodes)
        inputs = [node for node in nodes if node.op == "placeholder" and node.users]
        outputs = [node for node in nodes if node.op == "output"]
        if len(nodes) > DEPTH_MAX or not inputs or len(outputs) != 1:
            raise Unreadable
        self._order = {node: i for i, node in enumerate(nodes)}
        self._source, self._result = inputs[0], outputs[0].args[0]
        self._moving: Dict[fx.Node, None] = {}  # values that change with the input
        for node in nodes:
            if node is self._source or (not _is_shape(node) and any(
                    operand in self._moving for operand in node.all_input_nodes)):
                self._moving[node] = None

    def read(self) -> List[Entry]:
        if not isinstance(self._result, fx.Node):
            raise Unreadable
        return self._way(self._result, self._source).layers

    # ---- names ----

    def _named(self, base: str, entry: Entry) -> Entry:
        count = self._names[base] = self._names.get(base, 0) + 1
        return dict({"name": base if count == 1 else "%s#%d" % (base, count)}, **entry)

    def _unknown(self, node: fx.Node) -> Entry:
        return self._named(_name_of(node), {"kind": "other"})

    # ---- the way from the source to a value ----

    def _way(self, node: fx.Node, source: fx.Node) -> _Way:
        steps = []
        while node is not source:
            steps.append(node)
            operands = self._operands(node)
            node = operands[0] if len(operands) == 1 else self._gate(node, operands)
            if self._order[node] < self._order[source]:
                raise Unreadable
        way = _Way([], [])
        for step in reversed(steps):
            self._append(way, step)
        return way

    def _operands(self, node: fx.Node) -> List[fx.Node]:
        """Distinct operands that change with the input, in order."""
        found = [value for value in node.all_input_nodes if value in self._moving]
        if not found:
            raise Unreadable
        return found

    def _gate(self, node: fx.Node, operands: Sequence[fx.Node]) -> fx.Node:
        """The latest value that every way from the input to `node` passes."""
        behind = {node, *operands}
        rest = list(operands)
        while len(rest) > 1 or any(value in behind for value in rest[1:]):
            rest.sort(key=self._order.__getitem__)
            latest = rest.pop()
            if latest is self._source:
                break
            for value in self._operands(latest):
                behind.add(value)
                if value not in rest:
                    rest.append(value)
        return rest[0]

    # ---- one operation ----

    def _append(self, way: _Way, node: fx.Node) -> None:
        operands = self._operands(node)
        if len(operands) > 1:
            self._join(way, node, operands)
            return
        kind = self._activation(node)
        if kind is not None:
            self._activate(way, node, kind)
            return
        gain = self._gain(node)
        if gain == 1.0:
            return
        if gain is not None:
            self._add(way, self._named(_name_of(node), {"kind": "activation",
                                                        "activation": {"lipschitz": gain}}))
            return
        module = self._modules.get(node.target) if node.op == "call_module" else None
        if isinstance(module, nn.TransformerEncoderLayer):
            self._encoder(way, node.target, module)
            return
        entry = self._describe(node.target, module) if module is not None else None
        self._add(way, self._named(node.target, entry) if entry else self._unknown(node))

    @staticmethod
    def _add(way: _Way, entry: Entry) -> None:
        way.layers.append(entry)
        way.chain.append(entry)

    def _activate(self, way: _Way, node: fx.Node, kind: str) -> None:
        last = way.chain[-1] if way.chain else None
        if last and last["kind"] in ("linear", "conv1d", "conv2d", "conv3d", "layernorm",
                                     "batchnorm", "rmsnorm") and "activation" not in last:
            last["activation"] = kind
        else:
            self._add(way, self._named(_name_of(node), {"kind": "activation",
                                                        "activation": kind}))

    def _join(self, way: _Way, node: fx.Node, operands: Sequence[fx.Node]) -> None:
        """A residual sum; any other meeting of several values is not known."""
        gate = self._gate(node, operands)
        names = dict(self._names)
        try:
            block = self._residual(node, operands, gate)
        except Unreadable:
            block = None
        if block is None:
            self._names = names
            self._add(way, self._unknown(node))
        else:
            way.layers.extend(block[:-1])
            self._add(way, block[-1])

    def _residual(self, node, operands, gate) -> Optional[List[Entry]]:
        """The inner layers and the block, where `node` is a sum of x, or layers of x, and h f(x)."""
        if not _is_sum(node) or len(operands) != 2:
            return None
        branch = operands[0] if operands[1] is gate else operands[1]
        beside = operands[1] if branch is operands[0] else operands[0]
        step = node.kwargs.get("alpha", 1)
        is_scaled_branch = len(node.args) > 1 and node.args[1] is branch
        if not isinstance(step, (int, float)) or step <= 0 or (step != 1 and not is_scaled_branch):
            return None
        factor, branch = self._scaled(branch)
        inner, shortcut = self._way(branch, gate), self._way(beside, gate)
        if step == factor == 1 and len(inner.chain) < len(shortcut.chain):
            inner, shortcut = shortcut, inner  # the projection is the shorter one
        if not inner.chain:
            return None
        block = {"kind": "residual", "step": float(step) * factor,
                 "inner": [entry["name"] for entry in inner.chain]}
        if shortcut.chain:
            block["shortcut"] = [entry["name"] for entry in shortcut.chain]
        return inner.layers + shortcut.layers + [self._named(_block_name(inner, node), block)]

    def _scaled(self, node: fx.Node):
        """(h, f) of h f."""
        if node.op == "call_function" and node.target in _PRODUCTS:
            numbers = [arg for arg in node.args if isinstance(arg, (int, float))]
            if len(numbers) == 1 and numbers[0] > 0:
                return float(numbers[0]), self._operands(node)[0]
        return 1.0, node

    def _activation(self, node: fx.Node) -> Optional[str]:
        if node.op == "call_module":
            module = self._modules[node.target]
            kind = ACTIVATIONS.get(type(module).__name__)
            slope = getattr(module, "negative_slope", getattr(module, "alpha", 0.0))
        elif node.op == "call_function":
            kind = _FUNCTIONS.get(node.target)
            slope = node.kwargs.get("negative_slope", node.kwargs.get(
                "alpha", node.args[1] if len(node.args) > 1 else 0.0))
        else:
            kind, slope = (_METHODS.get(node.target) if node.op == "call_method" else None), 0.0
        is_steep = kind in ("leaky_relu", "elu") and not (
            isinstance(slope, (int, float)) and 0 <= slope <= 1)
        return None if is_steep else kind

    def _gain(self, node: fx.Node) -> Optional[float]:
        """Known gain of an operation without parameters; None otherwise."""
        if node.op == "call_module":
            module = self._modules[node.target]
            name = type(module).__name__
            if name in _SAME_MODULES or name in _AVERAGES:
                return 1.0
            return _pool_gain(module.kernel_size, module.stride, module.dilation,
                              _POOLS[name]) if name in _POOLS else None
        if node.op == "call_method":
            return 1.0 if node.target in _SAME_METHODS else None
        if node.target in _SAME_FUNCTIONS or node.target in _AVERAGE_FUNCTIONS or _is_sum(node):
            return 1.0  # a sum here has one operand that does not depend on the input
        if node.target in _POOL_FUNCTIONS:
            given = dict(zip(("kernel_size", "stride", "padding", "dilation"), node.args[1:]),
                         **node.kwargs)
            return _pool_gain(given.get("kernel_size"), given.get("stride"),
                              given.get("dilation", 1), _POOL_FUNCTIONS[node.target])
        if node.target in _PRODUCTS:
            numbers = [arg for arg in node.args if isinstance(arg, (int, float))]
            return abs(float(numbers[0])) if len(numbers) == 1 else None
        if node.target is operator.truediv and isinstance(node.args[1], (int, float)):
            return abs(1.0 / node.args[1]) if node.args[1] else None
        return None

    def _encoder(self, way: _Way, path: str, module: nn.TransformerEncoderLayer) -> None:
        """x + attention(x), x + feed_forward(x), each before or behind its norm."""
        kind = _activation_name(module.activation)
        blocks = (("attention", ("self_attn",), "norm1"),
                  ("feed_forward", ("linear1", "linear2"), "norm2"))
        for name, parts, norm in blocks:
            inner = [self._part(path, part) for part in parts]
            if len(inner) == 2:
                if kind is None:
                    inner.insert(1, self._named(path + ".activation", {"kind": "other"}))
                else:
                    inner[0]["activation"] = kind
            if module.norm_first:
                inner.insert(0, self._part(path, norm))
            way.layers.extend(inner)
            self._add(way, self._named("%s.%s_block" % (path, name), {
                "kind": "residual", "step": 1.0, "inner": [entry["name"] for entry in inner]}))
            if not module.norm_first:
                self._add(way, self._part(path, norm))

    def _part(self, path: str, part: str) -> Entry:
        whole = "%s.%s" % (path, part)
        entry = self._describe(whole, self._modules[whole])
        return self._named(whole, entry if entry else {"kind": "other"})


def _is_shape(node: fx.Node) -> bool:
    """Sizes are the same for every input of a run."""
    return ((node.op == "call_method" and node.target in ("size", "dim", "numel"))
            or (node.op == "call_function" and node.target is getattr))


def _is_sum(node: fx.Node) -> bool:
    return ((node.op == "call_function" and node.target in _SUMS)
            or (node.op == "call_method" and node.target in ("add", "add_")))


def _pool_gain(kernel: Any, stride: Any, dilation: Any, axes: int) -> Optional[float]:
    """An input is the maximum of at most prod ceil(kernel / stride) windows."""
    kernels, dilations = _spread(kernel, axes), _spread(dilation, axes)
    strides = _spread(stride or kernel, axes)
    if kernels is None or strides is None or dilations is None:
        return None
    count = 1
    for size, step, dilated in zip(kernels, strides, dilations):
        count *= size if dilated > 1 else math.ceil(size / step)
    return math.sqrt(count)


def _spread(value: Any, axes: int) -> Optional[Sequence[int]]:
    values = list(value) if isinstance(value, (list, tuple)) else [value] * axes
    is_known = len(values) == axes and all(isinstance(part, int) and part > 0 for part in values)
    return values if is_known else None


def _activation_name(activation: Any) -> Optional[str]:
    name = ACTIVATIONS.get(type(activation).__name__)
    return name or _FUNCTIONS.get(activation) if callable(activation) else None


def _name_of(node: fx.Node) -> str:
    return str(node.target) if node.op == "call_module" else node.name


def _block_name(inner: _Way, node: fx.Node) -> str:
    """The module path that the inner layers share, else the sum's own name."""
    paths = [entry["name"].split("#")[0].split(".") for entry in inner.chain]
    shared = []
    for parts in zip(*paths):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    prefix = ".".join(shared)
    names = [entry["name"] for entry in inner.layers]
    return prefix + ".block" if prefix and prefix + ".block" not in names else node.name


def fallback(described: Mapping[str, Entry]) -> List[Entry]:
    """Layers of a module tree whose order is not known."""
    result = [dict({"name": path}, **entry) for path, entry in described.items()]
    return result + [{"name": "(forward)", "kind": "other"}] if result else []
