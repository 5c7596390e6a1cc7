"""Tensors that do not train although others do: what is told, and which healthy models are left
alone."""

import unittest

import torch
from torch import nn
import torch.nn.functional as F

from service import Service
import lyapd

torch.set_num_threads(1)
STEPS = 60
RULES = ("dead-tensors", "stuck-tensors")


class Lora(nn.Module):
    """A frozen matrix and a low-rank addition, the second factor of which starts at zero."""

    def __init__(self):
        super().__init__()
        self.frozen = nn.Linear(16, 16)
        self.down = nn.Linear(16, 2, bias=False)
        self.up = nn.Linear(2, 16, bias=False)
        nn.init.zeros_(self.up.weight)
        self.frozen.requires_grad_(False)

    def forward(self, x):
        return self.frozen(x) + self.up(self.down(x))


class Experts(nn.Module):
    """Two experts; the router sends everything to the first."""

    def __init__(self, collapsed):
        super().__init__()
        self.experts = nn.ModuleList([nn.Linear(16, 16), nn.Linear(16, 16)])
        self.collapsed = collapsed

    def forward(self, x):
        gate = torch.zeros(len(x), 1) if self.collapsed else (x[:, :1] > 0).float()
        return (1 - gate) * self.experts[0](x) + gate * self.experts[1](x)


class Tied(nn.Module):
    """An embedding of which a batch uses few rows, tied to the output."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(500, 16)
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, 500, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens):
        return self.head(self.norm(self.embed(tokens)))


class StillCase(unittest.TestCase):
    def setUp(self):
        torch.manual_seed(5)
        self.daemon = Service()
        self.addCleanup(self.daemon.close)

    def train(self, model, optimizer, loss_of, schedule=None, clip=None):
        """Trains and pushes; the alerts of the two rules, with their evidence."""
        with lyapd.watch(model, optimizer, url=self.daemon.url, run="r", wait=True) as monitor:
            for step in range(STEPS):
                optimizer.zero_grad(set_to_none=True)
                loss = loss_of(model)
                loss.backward()
                if schedule:
                    optimizer.param_groups[0]["lr"] = schedule(step)
                self.last = monitor.step(loss, clip_norm=clip) if clip else monitor.step(loss)
                if clip:
                    nn.utils.clip_grad_norm_(model.parameters(), clip)
                optimizer.step()
        with lyapd.Run(self.daemon.url, "r") as run:
            return [alert for alert in run.alerts() if alert["rule"] in RULES]

    def regression(self, model):
        x = torch.randn(32, 16)
        return F.mse_loss(model(x), x.flip(1))


class Told(StillCase):
    def test_a_dead_relu_layer(self):
        model = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(),
                              nn.Linear(16, 16))
        with torch.no_grad():
            model[2].bias.fill_(-100)
        alerts = self.train(model, torch.optim.Adam(model.parameters(), 1e-3), self.regression)
        self.assertEqual([a["rule"] for a in alerts], ["dead-tensors"])
        self.assertEqual((alerts[0]["firing_step"], alerts[0]["severity"]), (31, "info"))
        # Everything before the dead layer; its own output weights get nothing to multiply either.
        self.assertEqual(alerts[0]["value"], 5)
        self.assertEqual([t["name"] for t in alerts[0]["evidence"]["tensors"]],
                         ["0.weight", "0.bias", "2.weight", "2.bias", "4.weight"])
        self.assertIn("first 0.weight", alerts[0]["summary"])

    def test_an_expert_without_tokens(self):
        model = Experts(collapsed=True)
        alerts = self.train(model, torch.optim.SGD(model.parameters(), 0.05), self.regression)
        self.assertEqual([a["rule"] for a in alerts], ["dead-tensors"])
        self.assertEqual([t["name"] for t in alerts[0]["evidence"]["tensors"]],
                         ["experts.1.weight", "experts.1.bias"])

    def test_weights_of_half_precision_that_round_their_updates_away(self):
        model = nn.Sequential(nn.Linear(16, 16), nn.LayerNorm(16), nn.Linear(16, 16)).bfloat16()
        optimizer = torch.optim.SGD(model.parameters(), 1e-3)
        alerts = self.train(model, optimizer, lambda m: self.half(m))
        self.assertEqual([a["rule"] for a in alerts], ["stuck-tensors"])
        self.assertEqual([t["name"] for t in alerts[0]["evidence"]["tensors"]], ["1.weight"])

    @staticmethod
    def half(model):
        x = torch.randn(32, 16, dtype=torch.bfloat16)
        return F.mse_loss(model(x).float(), x.flip(1).float())


class LeftAlone(StillCase):
    def quiet(self, alerts):
        self.assertEqual(alerts, [])
        self.assertEqual(self.last.value("dead_tensors"), 0)

    def test_a_frozen_layer_and_a_matrix_that_starts_at_zero(self):
        model = Lora()
        trained = [p for p in model.parameters() if p.requires_grad]
        self.quiet(self.train(model, torch.optim.AdamW(trained, 1e-2), self.regression))

    def test_a_layer_that_is_frozen_later(self):
        model = nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 16))

        def loss_of(model):
            self.seen = getattr(self, "seen", 0) + 1
            model[0].requires_grad_(self.seen < 10)
            return self.regression(model)

        self.quiet(self.train(model, torch.optim.Adam(model.parameters(), 1e-3), loss_of))

    def test_a_warm_up_from_rate_zero(self):
        model = Lora()
        trained = [p for p in model.parameters() if p.requires_grad]
        alerts = self.train(model, torch.optim.SGD(trained, 0.1), self.regression,
                            schedule=lambda step: 0.0 if step < 40 else 0.1)
        self.assertEqual(alerts, [])

    def test_embedding_rows_and_tied_weights(self):
        model = Tied()
        self.quiet(self.train(model, torch.optim.AdamW(model.parameters(), 1e-3), self.tokens))

    @staticmethod
    def tokens(model):
        batch = torch.randint(0, 500, (8,))
        return F.cross_entropy(model(batch), (batch + 1) % 500)

    def test_experts_that_are_used(self):
        model = Experts(collapsed=False)
        self.quiet(self.train(model, torch.optim.SGD(model.parameters(), 0.05), self.regression))

    def test_clipping_and_a_rate_that_fades(self):
        model = nn.Sequential(nn.Linear(16, 16), nn.LayerNorm(16), nn.Linear(16, 16))
        alerts = self.train(model, torch.optim.Adam(model.parameters(), 1e-3), self.regression,
                            schedule=lambda step: 1e-3 * (1 - step / STEPS) ** 4, clip=0.01)
        self.quiet(alerts)


if __name__ == "__main__":
    unittest.main()
