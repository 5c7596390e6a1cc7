"""The three real networks of the accuracy tables, in float64 and smooth, on scikit-learn's digits:
fully connected, convolutional with residual blocks, transformer. As flat vectors, so that NumPy
optimizers can train them and every number of a step is known."""

import numpy as np
import torch
from jobs import Mlp
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

torch.set_num_threads(1)
ROWS = 192  # of the training set; the probe is the whole of it


class Convolutional(nn.Module):
    """A stem, two residual blocks of two convolutions each, a linear head."""

    def __init__(self, width=6):
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.Tanh(),
                          nn.Conv2d(width, width, 3, padding=1)) for _ in range(2))
        self.head = nn.Linear(width * 16, 10)

    def forward(self, x):
        x = torch.tanh(self.stem(x.view(-1, 1, 8, 8)))
        for block in self.blocks:
            x = x + 0.5 * block(x)
        return self.head(F.avg_pool2d(x, 2).flatten(1))


class Transformer(nn.Module):
    """The eight rows of an image as tokens, one encoder layer, a mean, a linear head."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(8, 16)
        self.place = nn.Parameter(0.1 * torch.randn(8, 16))
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, activation="gelu",
                                                batch_first=True)
        self.head = nn.Linear(16, 10)

    def forward(self, x):
        return self.head(self.layer(self.embed(x.view(-1, 8, 8)) + self.place).mean(1))


NETWORKS = {"fully connected": Mlp, "convolutional": Convolutional,
            "transformer": Transformer}


class Model:
    """Loss and gradient of a network at a flat vector, on all rows or some."""

    rows = ROWS

    def __init__(self, name, seed=1):
        torch.manual_seed(seed)
        self.module = NETWORKS[name]().double()
        self.parameters = list(self.module.parameters())
        self.shapes = {key: tuple(value.shape) for key, value in self.module.named_parameters()}
        digits = load_digits()
        order = np.random.default_rng(seed).permutation(len(digits.target))[:ROWS]
        self.x = torch.tensor(digits.data[order] / 8.0 - 1.0)
        self.y = torch.tensor(digits.target[order])
        self.theta = np.concatenate([p.detach().numpy().ravel() for p in self.parameters])

    def load(self, theta):
        start = 0
        with torch.no_grad():
            for parameter in self.parameters:
                count = parameter.numel()
                parameter.copy_(torch.from_numpy(theta[start:start + count].reshape(
                    parameter.shape)))
                start += count

    def loss(self, rows=None):
        x, y = (self.x, self.y) if rows is None else (self.x[rows], self.y[rows])
        return F.cross_entropy(self.module(x), y)

    def at(self, theta, rows=None):
        self.load(theta)
        loss = self.loss(rows)
        gradient = torch.autograd.grad(loss, self.parameters)
        return float(loss), np.concatenate([part.numpy().ravel() for part in gradient])

    def matrices(self):
        """{name: weight as a matrix, out x rest} of the parameters with two axes or more."""
        return {name: value.detach().numpy().reshape(value.shape[0], -1)
                for name, value in self.module.named_parameters() if value.dim() > 1}
