"""Copies of tensors into the body that is sent: one copy a tensor, straight into its place."""

from typing import Any, Dict, List, Mapping, Tuple

import torch

from . import wire

_DTYPES = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16",
           torch.bfloat16: "BF16"}
IDLE_BUFFERS_MAX = 2   # kept for the next step, so that its pages are there already
LAYOUTS_MAX = 16       # combinations of roles and missing gradients that are remembered


class _Buffer:
    """A body's data and, for each array, a tensor that lies in it."""

    def __init__(self, layout: wire.Layout, sources: List[Tuple[str, torch.Tensor]]):
        self.data = bytearray(layout.data_bytes)
        self.places = [self._place(layout.offsets[name][0], tensor) for name, tensor in sources]

    def _place(self, offset, tensor):
        count, size = tensor.numel(), tensor.element_size()
        if offset % size == 0:
            return torch.frombuffer(self.data, dtype=tensor.dtype, count=count,
                                    offset=offset).view(tensor.shape)
        return torch.frombuffer(self.data, dtype=torch.uint8, count=count * size, offset=offset)

    def fill(self, sources: List[Tuple[str, torch.Tensor]]) -> None:
        for place, (_, tensor) in zip(self.places, sources):
            if place.dtype == tensor.dtype:
                place.copy_(tensor)
            else:  # a mixture of dtypes left this array without alignment: copy its bytes
                place.copy_(tensor.contiguous().reshape(-1).view(torch.uint8))


class Capture:
    """Called by the training thread alone; release may be called from any thread."""

    def __init__(self):
        self._layouts: Dict[Any, wire.Layout] = {}
        self._idle: Dict[Any, List[_Buffer]] = {}

    def take(self, roles: Mapping[str, Mapping[str, torch.Tensor]]):
        """(layout, data, release) of a copy of all tensors."""
        sources = [(name, _dense(tensor)) for name, tensor in wire.ordered(roles)]
        key = tuple((name, tensor.dtype, tensor.shape) for name, tensor in sources)
        layout = self._layouts.get(key)
        if layout is None:
            if len(self._layouts) >= LAYOUTS_MAX:
                self._layouts.clear()
                self._idle.clear()
            layout = wire.Layout([(name, _DTYPES[tensor.dtype], tuple(tensor.shape))
                                  for name, tensor in sources])
            self._layouts[key] = layout
        idle = self._idle.setdefault(key, [])
        try:
            buffer = idle.pop()
        except IndexError:
            buffer = _Buffer(layout, sources)
        with torch.no_grad():
            buffer.fill(sources)

        def release() -> None:
            if len(idle) < IDLE_BUFFERS_MAX:
                idle.append(buffer)
        return layout, memoryview(buffer.data), release


def _dense(tensor: torch.Tensor) -> torch.Tensor:
    tensor = tensor.detach()
    return tensor.to_dense() if tensor.is_sparse else tensor
