"""The daemon dies, is absent, or slow to come: the training is the same and costs little more."""

import socket
import statistics
import time
import unittest

import torch
from torch import nn

from service import Service, eventually
from jobs import Job
import lyapd

STEPS = 300
OVERHEAD_MS_MAX = 5.0   # of the thread's own time, a step's mean, without a daemon


def final(job):
    return torch.cat([parameter.detach().reshape(-1) for parameter in job.model.parameters()])


def train(job, monitor=None, steps=STEPS, at=None, pause=0.0):
    """Seconds of this thread's own work, step by step: what else runs on the machine is not in them."""
    times = []
    for step in range(steps):
        started = time.thread_time()
        loss = job.backward()
        if monitor is not None:
            monitor.step(loss)
        job.optimizer.step()
        times.append(time.thread_time() - started)
        if at and step in at:
            at[step]()
        if pause:
            time.sleep(pause)
    return times


class Outage(unittest.TestCase):
    def test_kill_in_mid_training(self):
        alone = Job("mlp", "heavy-ball")
        train(alone)
        with Service() as daemon:
            job = Job("mlp", "heavy-ball")
            monitor = lyapd.watch(job.model, job.optimizer, url=daemon.url, run="killed",
                                  limits=lyapd.Limits(queue_count=STEPS))
            train(job, monitor, at={100: daemon.kill, 200: daemon.start}, pause=0.002)
            self.assertTrue(monitor.flush(30), monitor.errors)
            self.assertTrue(torch.equal(final(alone), final(job)))
            self.assertEqual((monitor.dropped, monitor.attempt), (0, 1))
            self.assertTrue(monitor.errors, "the outage left no trace")
            monitor.close()
            with lyapd.Run(daemon.url, "killed") as run:
                steps = run.profile("loss", points=10000)["step"]
                self.assertEqual(steps, list(range(STEPS)))
                self.assertEqual(run.info()["state"], "ended")

    def test_a_short_queue_drops_and_says_so(self):
        with Service() as daemon:
            job = Job("mlp", "sgd")
            monitor = lyapd.watch(job.model, job.optimizer, url=daemon.url, run="short",
                                  limits=lyapd.Limits(queue_count=20))
            train(job, monitor, at={100: daemon.kill, 200: daemon.start}, pause=0.002)
            self.assertTrue(monitor.flush(30), monitor.errors)
            self.assertGreater(monitor.dropped, 0)
            with lyapd.Run(daemon.url, "short") as run:
                steps = run.profile("loss", points=10000)["step"]
                # The push that was under way when it died may be stored, though nobody heard so.
                self.assertIn(len(steps), (STEPS - monitor.dropped, STEPS - monitor.dropped + 1))
                self.assertEqual(steps[-1], STEPS - 1)
            monitor.close()

    def test_spool_over_an_absence(self):
        with Service() as daemon:
            daemon.kill()
            job = Job("mlp", "sgd")
            monitor = lyapd.watch(job.model, job.optimizer, url=daemon.url, run="spooled",
                                  limits=lyapd.Limits(queue_count=8), spool=daemon.folder)
            train(job, monitor, steps=60, pause=0.01)
            self.assertTrue(eventually(lambda: monitor.queued == 0))
            monitor.close()
            daemon.start()
            counts = lyapd.send_spool(daemon.folder, daemon.url)
            self.assertEqual(counts["sent"] + monitor.dropped, 60)
            with lyapd.Run(daemon.url, "spooled") as run:
                self.assertEqual(len(run.profile("loss", points=10000)["step"]), counts["sent"])

    def test_without_a_daemon(self):
        with socket.socket() as sock:  # a port that nobody listens on
            sock.bind(("127.0.0.1", 0))
            url = "http://127.0.0.1:%d" % sock.getsockname()[1]
        alone, job = Job("mlp", "adamw"), Job("mlp", "adamw")
        plain = statistics.mean(train(alone))
        monitor = lyapd.watch(job.model, job.optimizer, url=url, run="nobody", probe=None)
        watched = statistics.mean(train(job, monitor))
        started = time.perf_counter()
        monitor.close()
        closing = time.perf_counter() - started
        print("no daemon: %.2f ms a step alone, %.2f ms watched, close %.2f s"
              % (1e3 * plain, 1e3 * watched, closing), flush=True)
        self.assertTrue(torch.equal(final(alone), final(job)))
        self.assertLess(1e3 * (watched - plain), OVERHEAD_MS_MAX)
        self.assertLess(monitor.timing["wait_s"], 2.0)  # in all, and not the timeout of one
        self.assertLess(closing, 4.0)  # with a daemon it may take 5


class Overhead(unittest.TestCase):
    """Not a bound but a number for the reader: what watching costs a larger network."""

    def test_measured(self):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(256, 512), nn.GELU(), nn.Linear(512, 512), nn.GELU(),
                              nn.Linear(512, 10))
        x, y = torch.randn(512, 256), torch.randint(0, 10, (512,))
        loss_of = nn.CrossEntropyLoss()
        count = sum(parameter.numel() for parameter in model.parameters())
        with Service() as daemon:
            rows = [("alone", None), ("watched", {}), ("every=10", {"every": 10}),
                    ("budget 2 %", {"budget": 0.02}),
                    ("probe of 64", {"probe": lambda: loss_of(model(x[:64]), y[:64])})]
            base = None
            for name, options in rows:
                optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
                monitor = None if options is None else lyapd.watch(
                    model, optimizer, url=daemon.url, run="cost-%d" % len(name),
                    limits=lyapd.Limits(queue_count=4), **options)
                seconds = []
                for _ in range(60):
                    started = time.perf_counter()
                    optimizer.zero_grad()
                    loss = loss_of(model(x), y)
                    loss.backward()
                    if monitor:
                        monitor.step(loss)
                    optimizer.step()
                    seconds.append(time.perf_counter() - started)
                median = 1e3 * statistics.median(seconds)
                base = base or median
                print("cost, %d parameters, AdamW, batch 512: %-11s median %.2f ms a step"
                      " (%+.1f %%)%s" % (count, name, median, 100 * (median / base - 1),
                              ", in step %.1f %%, pushed %d" % (
                                  100 * monitor.overhead, monitor.timing["pushes"])
                              if monitor else ""), flush=True)
                if monitor:
                    self.assertEqual(monitor.errors, [])
                    monitor.close()


if __name__ == "__main__":
    unittest.main()
