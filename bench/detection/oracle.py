"""Exact sharpness against its limit, a detector that nobody can have in practice: it sees model and probe data.

Every EVERY steps, lr times the largest eigenvalue of the (for Adam: preconditioned) Hessian of the probe loss, over the
limit of the linear theory: 2 (1 + beta), for Adam 2 (1 + beta1)/(1 - beta1). In between the last value holds.
"""
import numpy as np
import torch

from models import top_curvature

EVERY = 10
FIRST, NEXT = 12, 3  # power iterations from a random vector, and from the last one


class Oracle:
    def __init__(self, run):
        self.run, self.values, self.vector, self.last = run, [], None, np.nan
        opt = run.spec.opt
        b = opt.get("momentum", 0.0)
        self.limit = 2 * (1 + opt["beta1"]) / (1 - opt["beta1"]) if opt["type"] == "adamw" else 2 * (1 + b)

    def step(self, s):
        if s.t % EVERY == 0 and np.isfinite(self.run.probe[-1]):
            self.last = self._sharpness(s)
        self.values.append(s.rates[0] * self.last / self.limit)

    def _sharpness(self, s):
        spec, root = self.run.spec, None
        if s.state:
            if not s.updates:
                return np.nan
            correction = 1 - spec.opt["beta2"] ** s.updates
            root = [
                torch.sqrt(torch.sqrt(torch.tensor(v) / correction) + spec.opt["eps"])
                for v in s.state[1].values()
            ]
        probe = spec.probe_at(s.t) if spec.probe_at else spec.probe
        value, self.vector = top_curvature(
            spec.model, probe, self.vector, FIRST if self.vector is None else NEXT, root
        )
        return value
