"""The probe: exact on quadratics, nothing of the job disturbed."""

import math
import random
import unittest

import numpy
import torch
from torch import nn

import fake  # noqa: F401  (finds the package)
from lyapd import probe as probing
from lyapd.probe import Probe


class Quadratic(nn.Module):
    """theta' H theta / 2 with known eigenvalues, cut into two tensors."""

    def __init__(self, eigenvalues, seed=3):
        super().__init__()
        torch.manual_seed(seed)
        size = len(eigenvalues)
        turn, _ = torch.linalg.qr(torch.randn(size, size, dtype=torch.float64))
        self.matrix = turn @ torch.diag(torch.tensor(eigenvalues, dtype=torch.float64)) @ turn.T
        self.a = nn.Parameter(torch.randn(size // 2, dtype=torch.float64))
        self.b = nn.Parameter(torch.randn(size - size // 2, dtype=torch.float64))

    def loss(self):
        theta = torch.cat([self.a, self.b])
        return 0.5 * theta @ self.matrix @ theta


def probe_of(model, mode):
    return Probe(model, dict(model.named_parameters()), model.loss, mode)


SPECTRUM = [50.0, 20.0, 7.0, 3.0] + [1.0] * 30 + [0.1] * 26


class Accuracy(unittest.TestCase):
    def test_finds_the_top_eigenvalue(self):
        for mode in ("exact", "difference"):
            pair = probe_of(Quadratic(SPECTRUM), mode).measure()
            self.assertAlmostEqual(pair.sharpness, 50.0, delta=0.1)
            self.assertLess(pair.residual, probing.RESIDUAL * 50)

    def test_pair_is_what_it_says(self):
        for mode, digits in (("exact", 12), ("difference", 6)):
            model = Quadratic(SPECTRUM)
            pair = probe_of(model, mode).measure()
            s, y = torch.cat(pair.s), torch.cat(pair.y)
            theta = torch.cat([model.a, model.b]).detach()
            self.assertAlmostEqual(float(s.norm() / theta.norm()), probing.STEP, places=10)
            away = (y - model.matrix @ s).norm() / y.norm()
            self.assertAlmostEqual(float(away), 0, places=digits)
            self.assertAlmostEqual(pair.loss, float(model.loss()), places=12)
            gradient = torch.cat(pair.gradient)
            self.assertTrue(torch.allclose(gradient, model.matrix @ theta, rtol=1e-12))

    def test_negative_curvature_does_not_capture_it(self):
        for mode in ("exact", "difference"):
            subject = probe_of(Quadratic([-80.0, 10.0] + [1.0] * 38), mode)
            found = [subject.measure().sharpness for _ in range(4)]
            self.assertAlmostEqual(found[-1], 10.0, delta=0.3)

    def test_preconditioned(self):
        model = Quadratic(SPECTRUM)
        torch.manual_seed(5)
        diagonal = [torch.rand(30, dtype=torch.float64) + 0.1 for _ in range(2)]
        root = torch.cat(diagonal).rsqrt()
        true = torch.linalg.eigvalsh(root[:, None] * model.matrix * root[None, :])[-1]
        for mode in ("exact", "difference"):
            pair = probe_of(model, mode).measure(diagonal)
            self.assertAlmostEqual(pair.sharpness / float(true), 1.0, delta=3e-3)

    def test_follows_a_curvature_that_moves(self):
        model = Quadratic(SPECTRUM)
        subject = probe_of(model, "exact")
        subject.measure()
        _, vectors = torch.linalg.eigh(model.matrix)
        ratios = []
        for step in range(20):  # another direction overtakes
            model.matrix = model.matrix + 4.0 * torch.outer(vectors[:, 10], vectors[:, 10])
            true = float(torch.linalg.eigvalsh(model.matrix)[-1])
            ratios.append(subject.measure().sharpness / true)
        self.assertGreater(min(ratios[-6:]), 0.97)

    def test_without_second_derivatives_it_takes_differences(self):
        class Once(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                ctx.save_for_backward(x)
                return (x * x).sum()

            @staticmethod
            @torch.autograd.function.once_differentiable
            def backward(ctx, grad):
                return grad * 2 * ctx.saved_tensors[0]
        model = Quadratic([1.0, 1.0, 1.0, 1.0])
        model.loss = lambda: Once.apply(torch.cat([model.a, model.b]))
        subject = probe_of(model, "auto")
        self.assertAlmostEqual(subject.measure().sharpness, 2.0, places=5)
        self.assertEqual(subject.mode, "difference")

    def test_no_pair_of_what_is_not_finite(self):
        model = Quadratic(SPECTRUM)
        with torch.no_grad():
            model.a[0] = math.nan
        for mode in ("exact", "difference"):
            pair = probe_of(model, mode).measure()
            self.assertIsNone(pair.s)
            self.assertTrue(math.isnan(pair.sharpness))

    def test_frozen_parameters_take_no_part(self):
        for mode in ("exact", "difference"):
            model = Quadratic(SPECTRUM)
            subject = probe_of(model, mode)
            subject.measure()
            model.b.requires_grad_(False)
            size = model.a.numel()
            true = float(torch.linalg.eigvalsh(model.matrix[:size, :size])[-1])
            for _ in range(4):
                pair = subject.measure()
            self.assertAlmostEqual(pair.sharpness / true, 1.0, delta=5e-3)
            self.assertEqual(float(pair.y[1].norm()), 0.0)

    def test_half_precision_is_not_displaced(self):
        model = nn.Linear(4, 1).to(torch.bfloat16)
        subject = Probe(model, dict(model.named_parameters()),
                        lambda: model(torch.ones(1, 4, dtype=torch.bfloat16)).sum(), "difference")
        self.assertIsNone(subject.measure().s)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(5, 16), nn.BatchNorm1d(16), nn.Tanh(),
                                  nn.Dropout(0.5), nn.Linear(16, 3))
        self.body[3].eval()  # a module that is in eval mode already stays so

    def forward(self, x):
        return self.body(x)


class Undisturbed(unittest.TestCase):
    def test_everything_is_as_it_was(self):
        for mode in ("exact", "difference"):
            torch.manual_seed(1)
            model = Net()
            model(torch.randn(8, 5)).sum().backward()
            x = torch.randn(12, 5)

            def closure():
                random.random(), numpy.random.rand(), torch.rand(2)
                return model(x).pow(2).mean()
            subject = Probe(model, dict(model.named_parameters()), closure, mode)
            before = self.everything(model)
            for _ in range(3):
                subject.measure()
                subject.gradient()
            self.assertEqual(before, self.everything(model))

    def everything(self, model):
        def raw(tensor):
            return tensor.detach().reshape(-1).view(torch.uint8).numpy().tobytes()
        return ([raw(value) for value in model.state_dict().values() if value.dim()],
                [raw(parameter.grad) for parameter in model.parameters()],
                [parameter._version for parameter in model.parameters()],
                [module.training for module in model.modules()],
                raw(torch.get_rng_state()), random.getstate(),
                numpy.random.get_state()[1].tobytes())

    def test_parameters_come_back_when_the_closure_fails(self):
        model = Quadratic(SPECTRUM)
        calls = []

        def closure():
            calls.append(1)
            if len(calls) == 3:
                raise KeyError("data set")
            return Quadratic.loss(model)
        subject = Probe(model, dict(model.named_parameters()), closure, "difference")
        before = [parameter.detach().clone() for parameter in model.parameters()]
        with self.assertRaises(KeyError):
            subject.measure()
        for parameter, old in zip(model.parameters(), before):
            self.assertTrue(torch.equal(parameter, old))

    def test_one_function_although_it_draws_numbers(self):
        model = Quadratic(SPECTRUM)
        subject = Probe(model, dict(model.named_parameters()),
                        lambda: model.loss() * (1 + torch.rand(())), "difference")
        self.assertEqual(subject.gradient().loss, subject.gradient().loss)


    def test_batch_norm_moves_between_probes_but_not_within(self):
        torch.manual_seed(1)
        model, x = Net(), torch.randn(12, 5)
        subject = Probe(model, dict(model.named_parameters()), lambda: model(x).pow(2).mean())
        first = subject.measure()
        model(torch.randn(8, 5) + 3)  # training moves the running statistics
        after = subject.gradient()
        self.assertEqual((first.loss, subject.is_same_function), (after.loss, False))
        self.assertTrue(all(map(torch.equal, first.gradient, after.gradient)))
        self.assertNotEqual(subject.measure().loss, first.loss)
        self.assertFalse(subject.is_same_function)
        subject.measure()
        self.assertTrue(subject.is_same_function)


class Usage(unittest.TestCase):
    def test_wrong_probe(self):
        model = nn.Linear(2, 1)
        with self.assertRaises(TypeError):
            Probe(model, dict(model.named_parameters()), 3.0)
        with self.assertRaises(ValueError):
            Probe(model, dict(model.named_parameters()), lambda: None, "guess")
        with self.assertRaises(TypeError):
            Probe(model, dict(model.named_parameters()), lambda: torch.ones(2)).gradient()


if __name__ == "__main__":
    unittest.main()
