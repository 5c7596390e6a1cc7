"""What the client reads from a model's forward, and the activations it takes from it."""

import unittest

import torch
from torch import nn
from torch.nn import functional as F

import fake  # noqa: F401  (finds the package)
from lyapd import declare
from lyapd.activations import Activations, SAMPLES_MAX, STEP


def layers_of(model, named=None):
    return declare.layers(model, dict(model.named_parameters()) if named is None else named)


def brief(layers):
    return [(layer["name"], layer["kind"], layer.get("activation"),
             layer.get("inner")) for layer in layers]


class Residual(nn.Module):
    """Two Euler steps of one block, a position, a head; `kept` is what careless code leaves."""

    def __init__(self, size=6):
        super().__init__()
        self.a, self.b = nn.Linear(size, 9), nn.Linear(9, size)
        self.place = nn.Parameter(torch.randn(size))
        self.head = nn.Linear(size, 3)

    def forward(self, x):
        self.kept = x = x + self.place
        for _ in range(2):
            x = x + 0.5 * self.b(F.gelu(self.a(x)))
        return self.head(F.relu(x).view(x.size(0), -1))


class Projected(nn.Module):
    """As a ResNet halves its image: the shortcut is a layer too."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.down = nn.Conv2d(3, 8, 1, stride=2)
        self.rise = nn.ReLU(inplace=True)
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        y = self.second(self.rise(self.norm(self.first(x))))
        y += self.down(x)
        return self.head(F.max_pool2d(self.rise(y), 3, 1).mean((2, 3)))


class Attention(nn.Module):
    """Hand-written attention within a residual sum, and a loss at the end."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(4, 4) for _ in range(4))

    def forward(self, x, target=None):
        weights = torch.softmax(self.q(x) @ self.k(x).transpose(1, 2), -1)
        x = x + self.out(weights @ self.v(x))
        return x if target is None else F.mse_loss(x, target)


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(3, 3)

    def forward(self, x):
        return self.inner(x) if x.sum() > 0 else x


class Reading(unittest.TestCase):
    def test_chain_with_activations_and_shapes(self):
        model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 8),
                              nn.LeakyReLU(2.0), nn.Linear(8, 2))
        self.assertEqual(brief(layers_of(model)), [
            ("0", "linear", "tanh", None), ("3", "linear", None, None),
            ("4", "other", None, None),  # slope 2 is no activation of the table
            ("5", "linear", None, None)])

    def test_residual_blocks_used_twice(self):
        self.assertEqual(brief(layers_of(Residual())), [
            ("a", "linear", "gelu", None), ("b", "linear", None, None),
            ("add_1", "residual", None, ["a", "b"]),
            ("a#2", "linear", "gelu", None), ("b#2", "linear", None, None),
            ("add_2", "residual", None, ["a#2", "b#2"]),
            ("relu", "activation", "relu", None), ("head", "linear", None, None)])
        self.assertEqual({layer["step"] for layer in layers_of(Residual()) if "step" in layer},
                         {0.5})

    def test_shortcuts(self):
        layers = {layer["name"]: layer for layer in layers_of(Projected())}
        block = [layer for layer in layers.values() if layer["kind"] == "residual"]
        self.assertEqual([(b["inner"], b["shortcut"]) for b in block],
                         [(["first", "norm", "second"], ["down"])])
        self.assertEqual(layers["norm"]["activation"], "relu")
        self.assertEqual(layers["max_pool2d"]["activation"], {"lipschitz": 3.0})

    def test_what_is_not_known_is_said(self):
        layers = layers_of(Attention())
        self.assertEqual([layer["kind"] for layer in layers],
                         ["other", "linear", "residual", "other"])
        self.assertEqual(layers[2]["inner"], [layers[0]["name"], "out"])
        frozen = Residual()
        named = {name: p for name, p in frozen.named_parameters() if not name.startswith("a.")}
        self.assertEqual([layer["kind"] for layer in layers_of(frozen, named)][0], "other")

    def test_forward_that_cannot_be_followed(self):
        self.assertEqual(brief(layers_of(Branching())), [
            ("inner", "linear", None, None), ("(forward)", "other", None, None)])

    def test_nothing_is_left_behind(self):
        model = Residual()
        layers_of(model)
        self.assertFalse(hasattr(model, "kept"))
        self.assertEqual(set(model._modules), {"a", "b", "head"})
        model(torch.randn(2, 6))

    def test_the_chain_bounds_the_jacobian(self):
        """The product over the chain that was read is above the exact Jacobian's norm; leaving a
        layer out would not be, since the network expands."""
        torch.manual_seed(1)
        model = Residual()
        for parameter in model.parameters():
            parameter.data.mul_(2)
        layers = {layer["name"]: layer for layer in layers_of(model)}
        gains = {"gelu": 1.129, "relu": 1.0, None: 1.0}

        def gain(layer):
            if layer["kind"] == "residual":
                product = 1.0
                for name in layer["inner"]:
                    product *= gain(layers[name])
                return 1 + layer["step"] * product
            norm = 1.0
            if layer["kind"] == "linear":
                norm = float(torch.linalg.matrix_norm(
                    model.get_parameter(layer["tensor"]).data, 2))
            return norm * gains[layer.get("activation")]
        inner = {name for layer in layers.values() for name in layer.get("inner", ())}
        bound = 1.0
        for layer in layers.values():
            if layer["name"] not in inner:
                bound *= gain(layer)
        for _ in range(20):
            x = torch.randn(6)
            jacobian = torch.autograd.functional.jacobian(lambda x: model(x[None])[0], x)
            self.assertLess(float(torch.linalg.matrix_norm(jacobian, 2)), bound)


class Taking(unittest.TestCase):
    def measure(self, model, x):
        model.train()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        torch.manual_seed(5)
        found = Activations(model, lambda: model(x).pow(2).mean(), layers_of(model)).measure()
        state, torch_state = model.state_dict(), torch.get_rng_state()
        torch.manual_seed(5)
        self.assertTrue(torch.equal(torch_state, torch.get_rng_state()))
        self.assertTrue(all(torch.equal(before[name], state[name]) for name in before))
        self.assertTrue(model.training)
        self.assertFalse(any(module._forward_hooks or module._forward_pre_hooks
                             for module in model.modules()))
        return found

    def test_values(self):
        torch.manual_seed(2)
        model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
        x = torch.randn(50, 4)
        found = self.measure(model, x)
        rows = x[:SAMPLES_MAX]
        self.assertTrue(torch.equal(found.act["input"], rows))
        moved = found.act_perturbed["input"]
        self.assertAlmostEqual(float((moved - rows).norm() / rows.norm()), STEP, delta=STEP / 2)
        hidden = torch.tanh(model[0](rows)).detach()
        self.assertTrue(torch.allclose(found.act["0"], hidden, atol=1e-6))
        self.assertTrue(torch.allclose(found.act_perturbed["2"], model(moved).detach(),
                                       atol=1e-6))
        self.assertTrue(torch.allclose(found.gate["0"], 1 - hidden ** 2, atol=1e-6))

    def test_gain_of_a_linear_map_is_its_stretch(self):
        torch.manual_seed(3)
        model = nn.Sequential(nn.Linear(4, 4, bias=False).double())
        found = self.measure(model, torch.randn(8, 4, dtype=torch.float64))
        step = found.act_perturbed["input"] - found.act["input"]
        moved = found.act_perturbed["0"] - found.act["0"]
        self.assertTrue(torch.allclose(moved, step @ model[0].weight.T, atol=1e-12))

    def test_tokens_are_moved_behind_the_embedding(self):
        torch.manual_seed(4)
        model = nn.Sequential(nn.Embedding(11, 6), nn.Linear(6, 2))
        found = self.measure(model, torch.randint(0, 11, (5, 7)))
        self.assertEqual(tuple(found.act["input"].shape), (5, 7, 6))
        self.assertTrue(torch.equal(found.act["input"], found.act["0"]))

    def test_batch_norm_gives_its_scale(self):
        torch.manual_seed(6)
        model = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5))
        model[1].running_var.uniform_(0.5, 2)
        found = self.measure(model, torch.randn(9, 3))
        want = (model[1].running_var + 1e-5).rsqrt()
        self.assertTrue(torch.allclose(found.gate["1"], want[None]))

    def test_what_a_norm_reads_is_taken_at_its_entrance(self):
        torch.manual_seed(7)
        model = nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True))
        found = self.measure(model, torch.randn(6, 5, 8))
        norm = model[0].norm1(found.act["0.attention_block"])
        self.assertTrue(torch.allclose(norm, found.act["0.norm1"], atol=1e-6))

    def test_closure_without_an_input(self):
        model = nn.Linear(2, 2)
        taken = Activations(model, lambda: model.weight.pow(2).sum(), layers_of(model)).measure()
        self.assertIsNone(taken)


if __name__ == "__main__":
    unittest.main()
