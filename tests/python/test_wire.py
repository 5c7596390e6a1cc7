"""Arrays of every kind as safetensors, scalars as metadata."""

import array
import math
import struct
import unittest

import numpy
import torch

from fake import parse
from lyapd import http, wire


def body(roles, values):
    return b"".join(bytes(part) for part in wire.encode(roles, values))


class Arrays(unittest.TestCase):
    def one(self, value):
        _, tensors, _ = parse(body({"param": {"w": value}}, {"step": 0}))
        return tensors["param/w"]

    def test_lists_of_numbers(self):
        dtype, shape, data = self.one([[1, 2.5], [3, -4]])
        self.assertEqual((dtype, shape), ("F64", [2, 2]))
        self.assertEqual(struct.unpack("<4d", data), (1, 2.5, 3, -4))

    def test_a_number_is_a_scalar(self):
        self.assertEqual(self.one(2.0)[:2], ("F64", []))

    def test_buffers(self):
        self.assertEqual(self.one(array.array("f", [1, 2, 3]))[:2], ("F32", [3]))
        self.assertEqual(self.one(memoryview(array.array("d", [1])))[:2], ("F64", [1]))

    def test_numpy_keeps_dtype_shape_and_bytes(self):
        for dtype, name in ((numpy.float64, "F64"), (numpy.float32, "F32"), (numpy.float16, "F16")):
            values = numpy.array([[1.5, -0.0, numpy.nan], [numpy.inf, 5e-324, 1]], dtype)
            self.assertEqual(self.one(values), (name, [2, 3], values.tobytes()))

    def test_numpy_of_any_layout_is_row_major(self):
        values = numpy.arange(24.0).reshape(2, 3, 4).transpose(2, 0, 1)[::2]
        self.assertEqual(self.one(values), ("F64", [2, 2, 3], values.tobytes()))
        self.assertEqual(self.one(values.astype(">f8")), ("F64", [2, 2, 3], values.tobytes()))
        self.assertEqual(self.one(numpy.array(3.0))[1], [])
        self.assertEqual(self.one(numpy.arange(3))[0], "F64")

    def test_torch_keeps_dtype_shape_and_bytes(self):
        for dtype, name in ((torch.float64, "F64"), (torch.float32, "F32"),
                            (torch.float16, "F16"), (torch.bfloat16, "BF16")):
            values = torch.tensor([[1.5, -0.0], [float("nan"), float("inf")]], dtype=dtype)
            raw = values.reshape(-1).view(torch.uint8).numpy().tobytes()
            self.assertEqual(self.one(values), (name, [2, 2], raw))
        strided = torch.arange(6.0).view(2, 3).t()
        self.assertEqual(self.one(strided)[2], strided.contiguous().numpy().tobytes())
        sparse = torch.eye(3).to_sparse()
        self.assertEqual(self.one(sparse)[2], torch.eye(3).numpy().tobytes())
        self.assertEqual(self.one(torch.nn.Parameter(torch.ones(())))[1], [])

    def test_what_is_no_array_names_the_tensor(self):
        for value in ([[1, 2], [3]], [1, [2]], ["a"], "text", object(),
                      numpy.array(["a"]), torch.ones(2, dtype=torch.complex64),
                      array.array("i", [1]), None.__class__):
            with self.assertRaises(TypeError) as caught:
                body({"param": {"fc.weight": value}}, {"step": 0})
            self.assertIn("fc.weight", str(caught.exception))


class Body(unittest.TestCase):
    def test_roles_of_a_tensor_lie_side_by_side(self):
        roles = {"grad": {"b": [1.0], "a": [2.0]}, "param": {"a": [3.0], "b": [4.0]},
                 "pair_s": {"a": [5.0]}, "exp_avg": {}}
        _, _, names = parse(body(roles, {"step": 3}))
        self.assertEqual(names, ["param/a", "grad/a", "pair_s/a", "param/b", "grad/b"])

    def test_header_is_aligned_and_escaped(self):
        roles = {"param": {'we"ird/\\na\u00efve': [1.0]}}
        raw = body(roles, {"step": 1, "x-note": 'a"b'})
        self.assertEqual(struct.unpack("<Q", raw[:8])[0] % 8, 0)
        metadata, tensors, _ = parse(raw)
        self.assertEqual(metadata["x-note"], 'a"b')
        self.assertIn('param/we"ird/\\na\u00efve', tensors)

    def test_no_copy_of_array_data(self):
        values = numpy.arange(4.0)
        part = wire.encode({"param": {"w": values}}, {"step": 0})[1]
        values[0] = 42.0
        self.assertEqual(struct.unpack("<d", part[:8])[0], 42.0)

    def test_same_name_twice(self):
        with self.assertRaises(ValueError):
            wire.Layout([("param/a", "F32", [1]), ("param/a", "F32", [1])])


class Metadata(unittest.TestCase):
    def test_values_as_strings(self):
        found = wire.metadata({
            "step": numpy.int64(7), "loss": torch.tensor(0.1), "lr": [0.1, 1e-5], "skipped": True,
            "probe_loss": float("nan"), "clip_norm": float("inf"), "time": 0,
            "shard": {"w": {"shape": [4], "offset": 2}}, "batch_id": 12, "rank": None, "x-a": 1})
        self.assertEqual(found, {
            "step": "7", "loss": repr(float(torch.tensor(0.1))), "lr": "0.1,1e-05",
            "skipped": "true", "probe_loss": "NaN", "clip_norm": "Infinity",
            "time": "1970-01-01T00:00:00.000000Z",
            "shard": '{"w":{"shape":[4],"offset":2}}', "batch_id": "12", "x-a": "1"})

    def test_numbers_come_back(self):
        for value in (0.1, -1e-300, 3.0, math.pi * 1e200, float("inf"), -float("inf")):
            self.assertEqual(wire.number(wire.text(value)), value)
        self.assertTrue(math.isnan(wire.number(wire.text(float("nan")))))

    def test_unknown_keys_and_fractions_of_steps(self):
        for values in ({"step": 1, "note": "x"}, {"step": 1.5}):
            with self.assertRaises(TypeError):
                wire.metadata(values)

    def test_scalars_alone(self):
        found = wire.scalars({"step": 3, "loss": float("nan"), "lr": [0.1, 0.2], "skipped": False,
                              "grad_norm": 2.0, "x-note": "7"})
        self.assertEqual(found, {"step": 3, "loss": "NaN", "lr": [0.1, 0.2], "skipped": False,
                                 "grad_norm": 2.0, "x-note": "7"})


class Sending(unittest.TestCase):
    def test_small_buffers_are_joined_and_large_ones_stay(self):
        size = http.SEND_BYTES
        small, large = [bytes([n]) * 1000 for n in range(100)], bytearray(b"x" * size)
        pieces = list(http._gathered(small[:50] + [large, b"", memoryview(b"tail")] + small[50:]))
        self.assertEqual(b"".join(pieces), b"".join(small[:50]) + large + b"tail"
                         + b"".join(small[50:]))
        self.assertTrue(any(piece is large for piece in pieces))
        self.assertEqual(len(pieces), 3)
        many = list(http._gathered([b"y" * 1000] * 200))
        self.assertEqual(len(many), 4)
        self.assertTrue(all(len(piece) <= size for piece in many))
        floats = memoryview(array.array("f", [1.0, 2.0])).cast("B").cast("f", (1, 2))
        self.assertEqual(list(http._gathered([floats, b"z"])),
                         [array.array("f", [1.0, 2.0]).tobytes() + b"z"])
        self.assertEqual(list(http._gathered([])), [])


if __name__ == "__main__":
    unittest.main()
