"""The training jobs of the end-to-end tests: three networks on the scikit-learn digits, three
optimizers, and the exact curvature that what the daemon reports is compared with."""

import torch
from torch import nn
import torch.nn.functional as F
from sklearn.datasets import load_digits

torch.set_num_threads(1)

BATCH = 64
PROBE = 256


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(),
                                  nn.Linear(32, 10))

    def forward(self, x):
        return self.body(x)


class Cnn(nn.Module):
    """A stem with batch norm, one residual block, a linear head."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1, bias=False),
                                  nn.BatchNorm2d(8), nn.ReLU())
        self.block = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
                                   nn.Conv2d(8, 8, 3, padding=1))
        self.drop = nn.Dropout(0.1)
        self.head = nn.Linear(8 * 16, 10)

    def forward(self, x):
        x = self.stem(x.view(-1, 1, 8, 8))
        x = F.max_pool2d(x + self.block(x), 2)
        return self.head(self.drop(x.flatten(1)))


class Transformer(nn.Module):
    """The eight rows of an image as tokens, one encoder layer, a mean, a linear head."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(8, 16)
        self.place = nn.Parameter(0.1 * torch.randn(8, 16))
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True)
        self.head = nn.Linear(16, 10)

    def forward(self, x):
        return self.head(self.layer(self.embed(x.view(-1, 8, 8)) + self.place).mean(1))


NETWORKS = {"mlp": Mlp, "cnn": Cnn, "transformer": Transformer}
# Learning rates at which training is healthy, by network.
RATES = {"sgd": {"mlp": 0.1, "cnn": 0.03, "transformer": 0.05},
         "heavy-ball": {"mlp": 0.02, "cnn": 0.005, "transformer": 0.01},
         "adamw": {"mlp": 1e-3, "cnn": 1e-3, "transformer": 1e-3}}


def optimizer_of(kind, model, lr):
    if kind == "sgd":
        return torch.optim.SGD(model.parameters(), lr=lr)
    if kind == "heavy-ball":
        return torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    decay = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    plain = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    return torch.optim.AdamW([{"params": decay, "weight_decay": 0.05},
                              {"params": plain, "weight_decay": 0.0}], lr=lr)


class Job:
    """One training: model, optimizer, batches in a seeded order, a fixed probe batch."""

    def __init__(self, network, optimizer, seed=1, lr=None):
        torch.manual_seed(seed)
        self.model = NETWORKS[network]()
        self.model.train()
        self.lr = RATES[optimizer][network] if lr is None else lr
        self.optimizer = optimizer_of(optimizer, self.model, self.lr)
        self.kind = optimizer
        self.top = None  # of the last exact_sharpness
        digits = load_digits()
        order = torch.randperm(len(digits.target))
        self.x = torch.tensor(digits.data / 8.0 - 1.0, dtype=torch.float32)[order]
        self.y = torch.tensor(digits.target)[order]
        self.probe_x, self.probe_y = self.x[-PROBE:], self.y[-PROBE:]
        self.batches = torch.Generator().manual_seed(seed)

    def probe(self):
        return F.cross_entropy(self.model(self.probe_x), self.probe_y)

    def backward(self):
        """The loss of the next batch, its gradients in .grad."""
        pick = torch.randint(0, len(self.y) - PROBE, (BATCH,), generator=self.batches)
        self.optimizer.zero_grad()
        loss = F.cross_entropy(self.model(self.x[pick]), self.y[pick])
        loss.backward()
        return loss

    def set_lr(self, factor):
        for group in self.optimizer.param_groups:
            group["lr"] *= factor

    def preconditioner(self):
        """P of docs/spec.md 2.2 from the state the optimizer holds, as a list; None for SGD."""
        if self.kind != "adamw":
            return None
        result = []
        for group in self.optimizer.param_groups:
            beta1, beta2 = group["betas"]
            for parameter in group["params"]:
                state = self.optimizer.state[parameter]
                count = float(state["step"])
                result.append((parameter, (1 - beta1 ** count) * (
                    (state["exp_avg_sq"] / (1 - beta2 ** count)).sqrt() + group["eps"])))
        return result


RITZ_RESIDUAL = 0.01   # relative; the eigenvalue is then right to about its square
LANCZOS_LEAST = 8      # so that a direction which has overtaken is found
LANCZOS_MAX = 60


def exact_sharpness(job):
    """The largest eigenvalue of the probe's Hessian (of P^-1 H for Adam), by Lanczos on exact
    Hessian-vector products with full reorthogonalisation, in eval mode."""
    weights = job.preconditioner()
    parameters = ([parameter for parameter, _ in weights] if weights
                  else list(job.model.parameters()))
    scale = ([1 / diagonal.sqrt() for _, diagonal in weights] if weights
             else [torch.ones_like(parameter) for parameter in parameters])
    flags = [(module, module.training) for module in job.model.modules()]
    job.model.eval()
    try:
        gradients = torch.autograd.grad(job.probe(), parameters, create_graph=True)
        scale = torch.cat([part.reshape(-1) for part in scale]).double()

        def product(vector):
            vector = (vector * scale).float()
            parts, at = [], 0
            for parameter in parameters:
                parts.append(vector[at:at + parameter.numel()].view(parameter.shape))
                at += parameter.numel()
            back = torch.autograd.grad(gradients, parameters, grad_outputs=parts,
                                       retain_graph=True)
            return torch.cat([part.reshape(-1) for part in back]).double() * scale
        value, job.top = _lanczos(product, _start(len(scale), job.top))
        return value
    finally:
        for module, was_training in flags:
            module.training = was_training


def _start(size, top):
    """Every direction is in it; the sharpest of the time before saves iterations."""
    noise = torch.randn(size, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    return noise / noise.norm() + (top if top is not None else 0.0)


def _lanczos(product, start):
    basis, alpha, beta = [start / start.norm()], [], []
    while True:
        image = product(basis[-1])
        alpha.append(float(image @ basis[-1]))
        for _ in range(2):
            for other in basis:
                image = image - (image @ other) * other
        beta.append(float(image.norm()))
        matrix = torch.diag(torch.tensor(alpha, dtype=torch.float64))
        for i, value in enumerate(beta[:-1]):
            matrix[i, i + 1] = matrix[i + 1, i] = value
        values, vectors = torch.linalg.eigh(matrix)
        residual = beta[-1] * abs(float(vectors[-1, -1]))
        if len(alpha) >= LANCZOS_LEAST and residual <= RITZ_RESIDUAL * float(values[-1]):
            return float(values[-1]), sum(weight * vector for weight, vector
                                          in zip(vectors[:, -1].tolist(), basis))
        assert len(alpha) < LANCZOS_MAX, "Lanczos does not converge"
        basis.append(image / beta[-1])
