"""The wire format (docs/wire.md): arrays of any framework as safetensors, scalars as metadata."""

import array
import ctypes
import datetime
import json
import math
import sys
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

# In the order in which the roles of one tensor follow each other in a body.
ROLES = ("param", "grad", "delta", "exp_avg", "exp_avg_sq", "probe_grad", "same_batch_grad",
         "pair_s", "pair_y", "act", "act_perturbed", "gate", "anchor")
# What a partial push carries instead: reduce/<field> and sketch/<role>, computed by the client.
PARTIAL = ("reduce", "sketch")
METADATA = ("step", "loss", "lr", "optimizer_step", "updates", "probe_loss", "same_batch_loss",
            "half_diff_sq", "attempt", "rank", "world", "time", "skipped", "twin_log",
            "twin_name", "batch_id", "clip_norm", "grad_norm", "clip_factor", "loss_scale",
            "shard", "param_norm", "update_norm", "delta_unit", "grad_unit", "state_exact",
            "act_input_sq", "act_input_diff_sq", "sent")
FLAGS = ("skipped", "state_exact")
INTEGERS = ("step", "optimizer_step", "updates", "attempt", "rank", "world")
ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_FORMATS = {"d": "F64", "f": "F32", "e": "F16"}
_NAMES = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}
HEADER_ALIGN = 8

if sys.byteorder != "little":  # pragma: no cover
    raise ImportError("lyapd: safetensors is little-endian and this machine is not")


class Block(NamedTuple):
    """The bytes of one array; the memoryview keeps their owner alive."""
    dtype: str
    shape: Tuple[int, ...]
    data: memoryview


def block(value: Any, name: str = "tensor") -> Block:
    """An array of any kind as bytes, without a copy where the memory allows it: torch, NumPy, JAX,
    anything with the buffer protocol, or (nested) lists of numbers. TypeError names the tensor."""
    if isinstance(value, Block):
        return value
    module = type(value).__module__.split(".")[0]
    if module == "torch" or hasattr(value, "data_ptr"):
        return _from_torch(value, name)
    if isinstance(value, (list, tuple, int, float)):
        return _from_lists(value, name)
    if hasattr(value, "__array_interface__") or hasattr(value, "__array__"):
        return _from_numpy(value, name)
    try:
        view = memoryview(value)
    except TypeError:
        raise TypeError("%s: %s is not an array" % (name, type(value).__name__)) from None
    return _from_view(view, name)


def _from_torch(tensor, name):
    tensor = tensor.detach()
    if tensor.is_sparse:
        tensor = tensor.to_dense()
    dtype = _NAMES.get(str(tensor.dtype).replace("torch.", ""))
    if dtype is None:
        raise TypeError("%s: dtype %s is not one of float64, float32, float16, bfloat16"
                        % (name, tensor.dtype))
    tensor = tensor.cpu().contiguous()
    size = tensor.numel() * tensor.element_size()
    if size == 0:
        return Block(dtype, tuple(tensor.shape), memoryview(b""))
    raw = (ctypes.c_char * size).from_address(tensor.data_ptr())
    raw.owner = tensor  # from_address keeps nothing alive
    return Block(dtype, tuple(tensor.shape), memoryview(raw).cast("B"))


def _from_numpy(value, name):
    import numpy
    values = numpy.asarray(value)
    dtype = _NAMES.get(values.dtype.name)
    if dtype is None:
        if values.dtype.kind not in "iub":
            raise TypeError("%s: dtype %s is not one of float64, float32, float16, bfloat16"
                            % (name, values.dtype))
        values, dtype = values.astype(numpy.float64), "F64"
    values = numpy.asarray(values, dtype=values.dtype.newbyteorder("<"), order="C")
    if values.size == 0:
        return Block(dtype, values.shape, memoryview(b""))
    data = memoryview(values.reshape(-1).view(numpy.uint8))
    return Block(dtype, tuple(values.shape), data)


def _from_view(view, name):
    dtype = _FORMATS.get(view.format.lstrip("@=<"))
    if dtype is None:
        raise TypeError("%s: buffer format %r is not one of d, f, e" % (name, view.format))
    data = view.cast("B") if view.c_contiguous else memoryview(view.tobytes())
    return Block(dtype, tuple(view.shape), data)


def _from_lists(value, name):
    shape: List[int] = []
    probe = value
    while isinstance(probe, (list, tuple)):
        shape.append(len(probe))
        if not probe:
            break
        probe = probe[0]
    flat = array.array("d")
    _flatten(value, shape, 0, flat, name)
    return Block("F64", tuple(shape), memoryview(flat).cast("B"))


def _flatten(value, shape, depth, flat, name):
    if depth == len(shape):
        if isinstance(value, (list, tuple)):
            raise TypeError("%s: lists are nested unevenly" % name)
        flat.append(float(value))
        return
    if not isinstance(value, (list, tuple)) or len(value) != shape[depth]:
        raise TypeError("%s: lists of unequal length at depth %d" % (name, depth))
    if depth + 1 == len(shape):
        try:
            flat.extend(value)
            return
        except TypeError:
            raise TypeError("%s: an element is not a number" % name) from None
    for item in value:
        _flatten(item, shape, depth + 1, flat, name)


def number(value: Any) -> float:
    """A Python float from a number, a zero-dimensional tensor or array, or the strings that stand
    for non-finite values."""
    if isinstance(value, str):
        return float(value.replace("Infinity", "inf"))
    return float(value)


def text(value: float) -> str:
    """A number as the wire writes it; reading it back gives the same number."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return repr(float(value))


def metadata(values: Mapping[str, Any]) -> Dict[str, str]:
    """`__metadata__` of a body: known keys and labels that start with x-; None is left out."""
    result = {}
    for key, value in values.items():
        if value is None:
            continue
        if key not in METADATA and not key.startswith("x-"):
            raise TypeError("unknown metadata %r; labels start with x-" % key)
        result[key] = _scalar_text(key, value)
    return result


def _scalar_text(key, value):
    if key == "twin_name" and isinstance(value, (list, tuple)):
        return ",".join(value)
    if key.startswith("x-") or key in ("twin_name", "batch_id"):
        return str(value)
    if key in FLAGS:
        return "true" if value else "false"
    if key == "shard":
        return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    if key == "time":
        return _time_text(value)
    if key in INTEGERS:
        if int(value) != value:
            raise TypeError("%s must be an integer, not %r" % (key, value))
        return str(int(value))
    if key in ("lr", "twin_log") and isinstance(value, (list, tuple)):
        return ",".join(text(number(item)) for item in value)
    return text(number(value))


def _time_text(value):
    if isinstance(value, str):
        return value
    if not isinstance(value, datetime.datetime):
        value = datetime.datetime.fromtimestamp(value, datetime.timezone.utc)
    value = value.astimezone(datetime.timezone.utc)
    return value.strftime("%Y-%m-%dT%H:%M:%S.") + "%06dZ" % value.microsecond


class Layout:
    """Where each array of a body lies. The entries' JSON is made once; only the metadata changes
    from step to step."""

    def __init__(self, entries: Sequence[Tuple[str, str, Sequence[int]]]):
        self.offsets: Dict[str, Tuple[int, int]] = {}
        fields = []
        offset = 0
        for name, dtype, shape in entries:
            if name in self.offsets:
                raise ValueError("two arrays are called %r" % name)
            size = ITEM_BYTES[dtype]
            for extent in shape:
                size *= int(extent)
            self.offsets[name] = (offset, offset + size)
            fields.append('%s:{"dtype":"%s","shape":%s,"data_offsets":[%d,%d]}' % (
                json.dumps(name), dtype, json.dumps([int(extent) for extent in shape]),
                offset, offset + size))
            offset += size
        self.data_bytes = offset
        self._entries = "".join("," + field for field in fields)

    def header(self, values: Mapping[str, str]) -> bytes:
        body = '{"__metadata__":%s%s}' % (json.dumps(values, separators=(",", ":")), self._entries)
        raw = body.encode("utf-8")
        raw += b" " * (-len(raw) % HEADER_ALIGN)
        return len(raw).to_bytes(8, "little") + raw


def ordered(roles: Mapping[str, Mapping[str, Any]]) -> Iterable[Tuple[str, Any]]:
    """(role/name, array) with the roles of one tensor side by side: products between them are then
    exact whatever the run's retention."""
    names: Dict[str, None] = {}
    every = ROLES + PARTIAL
    for role in every:
        for name in roles.get(role) or ():
            names.setdefault(name)
    for name in names:
        for role in every:
            value = (roles.get(role) or {}).get(name)
            if value is not None:
                yield "%s/%s" % (role, name), value


def encode(roles: Mapping[str, Mapping[str, Any]], values: Mapping[str, Any]) -> List[Any]:
    """The buffers of a safetensors body; array data is not copied."""
    blocks = [(name, block(value, name)) for name, value in ordered(roles)]
    layout = Layout([(name, item.dtype, item.shape) for name, item in blocks])
    return [layout.header(metadata(values))] + [item.data for _, item in blocks
                                                if item.data.nbytes]


def scalars(values: Mapping[str, Any]) -> Dict[str, Any]:
    """The JSON form of a push without tensors."""
    result: Dict[str, Any] = {}
    for key, raw in metadata(values).items():
        if key.startswith("x-") or key in ("twin_name", "batch_id", "time"):
            result[key] = raw
        elif key in FLAGS:
            result[key] = raw == "true"
        elif key == "shard":
            result[key] = json.loads(raw)
        elif key in INTEGERS:
            result[key] = int(raw)
        elif key in ("lr", "twin_log") and "," in raw:
            result[key] = [_json_number(part) for part in raw.split(",")]
        else:
            result[key] = _json_number(raw)
    return result


def _json_number(raw):
    value = number(raw)
    return value if math.isfinite(value) else raw


def value_of(metric: Optional[Mapping[str, Any]]) -> Optional[float]:
    """The value of a metric of a reply: a float (perhaps not finite), or None when absent."""
    if not metric or metric.get("value") is None:
        return None
    return number(metric["value"])
