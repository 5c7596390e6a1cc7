"""Healthy trainings as people write them: schedules, clipping, groups, half precision, freezing.

Each is declared rightly (the update is the declared one) and warns of nothing."""

import math
import statistics
import unittest

import torch
from torch import nn

from service import Service
from jobs import Job
import lyapd

STEPS = 200


def with_optimizer(cls, **options):
    job = Job("mlp", "sgd")
    job.optimizer = cls(job.model.parameters(), **options)
    return job


class Variants(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.daemon = Service()
        cls.addClassCleanup(cls.daemon.close)

    def train(self, job, before=None, after=None, clip=None, steps=STEPS, **options):
        """(run, monitor) of a training that must be healthy."""
        name = self.id().split(".test_")[1]
        monitor = lyapd.watch(job.model, job.optimizer, url=self.daemon.url, run=name,
                              probe=job.probe, wait=True, timeout=60, clip_norm=clip, **options)
        self.addCleanup(monitor.close)
        for step in range(steps):
            if before:
                before(step)
            monitor.step(job.backward())
            if clip:
                nn.utils.clip_grad_norm_(job.model.parameters(), clip)
            job.optimizer.step()
            if after:
                after(step)
        run = lyapd.Run(self.daemon.url, name)
        self.addCleanup(run.close)
        self.assertEqual((monitor.errors, monitor.dropped), ([], 0))
        self.assertEqual([alert for alert in run.alerts()
                          if alert["severity"] in ("warning", "critical")
                          and alert["firing_step"] is not None], [])
        self.assertEqual(monitor.state, "healthy")
        return run, monitor

    def omega(self, run, least=STEPS - 20):
        values = [value for value in run.profile("update_identity")["series"]["update_identity"]
                  if value is not None]
        self.assertGreater(len(values), least)
        self.assertLess(statistics.median(values), 1e-3)

    def sharpness(self, run, least=STEPS // 5 - 5):
        values = [value for value in run.profile("sharpness")["series"]["sharpness"]
                  if value is not None]
        self.assertGreater(len(values), least)

    def whole(self, *args, **options):
        run, _ = self.train(*args, **options)
        self.omega(run)
        self.sharpness(run)

    def test_nesterov(self):
        self.whole(with_optimizer(torch.optim.SGD, lr=0.02, momentum=0.9, nesterov=True,
                                  weight_decay=1e-3))

    def test_dampening(self):
        self.whole(with_optimizer(torch.optim.SGD, lr=0.05, momentum=0.9, dampening=0.5,
                                  weight_decay=1e-3))

    def test_rmsprop_with_momentum(self):
        self.whole(with_optimizer(torch.optim.RMSprop, lr=3e-4, momentum=0.9))

    def test_adam_with_coupled_decay(self):
        self.whole(with_optimizer(torch.optim.Adam, lr=1e-3, weight_decay=1e-2))

    def test_clipping(self):
        self.whole(Job("mlp", "heavy-ball"), clip=0.5)

    def test_clipping_adamw(self):
        self.whole(Job("mlp", "adamw"), clip=0.5)

    def test_warm_up_and_decay_to_zero(self):
        job = Job("mlp", "adamw")
        schedule = torch.optim.lr_scheduler.LambdaLR(
            job.optimizer, lambda t: min(1.0, (t + 1) / 40) * 0.5 * (
                1 + math.cos(math.pi * t / STEPS)))
        self.whole(job, after=lambda step: schedule.step())

    def test_groups_of_unequal_rates(self):
        job = Job("mlp", "sgd")
        first, rest = list(job.model.parameters())[:2], list(job.model.parameters())[2:]
        job.optimizer = torch.optim.AdamW([{"params": first, "lr": 3e-3}, {"params": rest}],
                                          lr=1e-3)
        self.whole(job)

    def test_kinks_and_dropout(self):
        """ReLU: the trapezoid error of a step is of first order, now and then above its work."""
        job = Job("mlp", "heavy-ball", lr=0.03)
        torch.manual_seed(5)
        job.model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.2),
                                  nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
        job.optimizer = torch.optim.SGD(job.model.parameters(), lr=0.03, momentum=0.9)
        self.whole(job, steps=600)

    def test_frozen_midway(self):
        job = Job("mlp", "adamw")

        def freeze(step):
            if step == STEPS // 2:
                job.model.body[0].requires_grad_(False)
                for parameter in job.model.body[0].parameters():
                    parameter.grad = None
        self.whole(job, before=freeze)

    def test_excluded_parameters(self):
        self.whole(Job("mlp", "sgd"), exclude=["*.bias"])

    def test_sketch_retention(self):
        run, _ = self.train(Job("mlp", "adamw"), retention="sketch")
        self.sharpness(run)

    def test_unknown_optimizer(self):
        run, monitor = self.train(with_optimizer(torch.optim.Adagrad, lr=1e-2))
        self.assertIsNone(monitor.last_reply.value("stability_ratio"))
        self.sharpness(run)

    def test_bfloat16(self):
        job = Job("mlp", "sgd")
        job.model.to(torch.bfloat16)
        job.x, job.probe_x = job.x.to(torch.bfloat16), job.probe_x.to(torch.bfloat16)
        job.optimizer = torch.optim.AdamW(job.model.parameters(), lr=1e-3)
        self.train(job)

    def test_two_in_ten(self):
        run, monitor = self.train(Job("mlp", "adamw"), every=10)
        self.assertEqual(monitor.sent, 2 * STEPS // 10)
        self.omega(run, least=STEPS // 10 - 2)

    def test_probe_under_batch_norm_at_every_step(self):
        run, _ = self.train(Job("cnn", "adamw"), probe_every=1)
        self.sharpness(run)


if __name__ == "__main__":
    unittest.main()
