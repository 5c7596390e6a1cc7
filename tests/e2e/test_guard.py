"""lyapd.Guard in real trainings against the real daemon: every action, in time and late, over a
restart of the daemon and without one."""

import json
import math
import re
import unittest
import urllib.request

import torch

from service import Service
from jobs import Job
import lyapd

HALF = 0.5  # of an advised rate is what Guard takes


def put_rule(url, name, **fields):
    request = urllib.request.Request(url + "/v1/rules/" + name, json.dumps(fields).encode(),
                                     {"Content-Type": "application/json"}, method="PUT")
    urllib.request.urlopen(request, timeout=10).close()


def delete_rule(url, name):
    request = urllib.request.Request(url + "/v1/rules/" + name, method="DELETE")
    urllib.request.urlopen(request, timeout=10).close()


class Training:
    """A job of jobs.py under guard. `faults`: {step: what is done behind its update}, each done
    once, so that a rollback does not meet it again; `poison`: steps whose batch is NaN, once."""

    def __init__(self, url, run, network="mlp", optimizer="sgd", *, wait=True, lr=None,
                 probe=False, seed=1, every=5, timeout=30.0, faults=None, poison=(), restore=None,
                 schedule=None):
        self.job = Job(network, optimizer, seed=seed, lr=lr)
        self.monitor = lyapd.watch(self.job.model, self.job.optimizer, url=url, run=run, wait=wait,
                                   timeout=timeout, probe=self.job.probe if probe else None)
        self.guard = lyapd.Guard(self.monitor, self.job.model, self.job.optimizer, every=every,
                                 restore=restore)
        self.schedule = schedule(self.job.optimizer) if schedule else None
        self.wait = wait
        self.faults, self.poison = dict(faults or {}), set(poison)
        self.losses, self.allowed = [], []
        self.answers = {}  # by step, of the first attempt that came to it

    def step(self):
        at = self.monitor.next_step
        x = self.job.x
        if at in self.poison:
            self.poison.discard(at)
            self.job.x = x * math.nan
        loss = self.job.backward()
        self.job.x = x
        is_allowed = self.guard.allows(loss)
        if not self.wait:
            assert self.monitor.flush(20), self.monitor.errors
        if self.monitor.last_reply is not None:
            self.answers.setdefault(self.monitor.last_reply["step"], self.monitor.last_reply)
        if is_allowed:
            self.job.optimizer.step()
        if self.schedule:
            self.schedule.step()
        self.losses.append(float(loss.detach()))
        self.allowed.append(is_allowed)
        fault = self.faults.pop(at, None)
        if fault is not None:
            fault(self.job)
        return is_allowed

    def run(self, steps):
        for _ in range(steps):
            self.step()
        return self

    def parameters(self):
        return [parameter.detach().clone() for parameter in self.job.model.parameters()]

    def kinds(self):
        return [event["kind"] for event in self.guard.events]


def flip(job):
    """The top exponent bit of a weight: silent data corruption."""
    with torch.no_grad():
        next(job.model.parameters()).view(-1)[7] = math.inf


def alone(steps, network="mlp", optimizer="sgd", without=(), at=None, change=None):
    """The same training without lyapd; the updates `without` are left out."""
    job = Job(network, optimizer)
    losses = []
    for step in range(steps):
        if step == at:
            change(job)
        losses.append(float(job.backward().detach()))
        if step not in without:
            job.optimizer.step()
    return job, losses


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.daemon = Service()
        cls.addClassCleanup(cls.daemon.close)

    def training(self, run, *arguments, **options):
        training = Training(self.daemon.url, run, *arguments, **options)
        self.addCleanup(training.monitor.close, 1.0)
        return training

    def assert_same(self, first, second):
        for a, b in zip(first, second):
            self.assertTrue(torch.equal(a, b))


class Rate(Case):
    """From step 60 on somebody sets a rate far too high."""

    RAISE = {"sgd": 60.0, "heavy-ball": 60.0, "adamw": 300.0}

    def raised(self, optimizer, wait):
        factor = self.RAISE[optimizer]
        training = self.training("%s-%s" % (optimizer, wait), "mlp", optimizer, wait=wait,
                                 probe=True)
        training.run(60)
        training.job.set_lr(factor)
        return training.run(140), alone(200, "mlp", optimizer, at=60,
                                        change=lambda job: job.set_lr(factor))[1]

    def test_the_rate_goes_below_the_largest_stable_one(self):
        for optimizer in self.RAISE:
            for wait in (True, False):
                with self.subTest(optimizer=optimizer, wait=wait):
                    training, ignored = self.raised(optimizer, wait)
                    self.check_cut(training, optimizer, wait)
                    end, end_ignored = (sorted(losses[-20:])[10]
                                        for losses in (training.losses, ignored))
                    print("%s %s: loss %.3g before, %.3g after, %.3g when ignored; cuts %d"
                          % (optimizer, "in time" if wait else "late", training.losses[59], end,
                             end_ignored, training.guard.cuts), flush=True)
                    self.assertLess(end, training.losses[59])
                    self.assertFalse(end_ignored < training.losses[59])

    def check_cut(self, training, optimizer, wait):
        first = training.guard.events[0]
        self.assertEqual(first["kind"], "reduce_lr", training.kinds())
        at = first["step"] if wait else first["step"] - 1  # whose answer it is
        answer = training.answers[at]
        self.assertGreaterEqual(at, 60)
        advised = answer.action["lr"]
        self.assertAlmostEqual(first["lr_max"] / (HALF * advised), 1.0)
        self.assertIn("largest stable rate", answer.action["reason"])
        curvature = float(re.search(r"curvature (\S+)", answer.action["reason"]).group(1))
        numerator = {"sgd": 2.0, "heavy-ball": 2 * 1.9, "adamw": 2 * 1.9 / 0.1}[optimizer]
        self.assertAlmostEqual(advised * curvature / numerator, 1.0, delta=0.01)
        measured = [reply.value("sharpness") for step, reply in sorted(training.answers.items())
                    if step <= at and reply.value("sharpness") is not None]
        self.assertAlmostEqual(curvature / measured[-1], 1.0, delta=0.01)
        self.assertEqual(training.allowed[at], not wait)

    def test_without_curvature_it_is_halved_and_said_so(self):
        put_rule(self.daemon.url, "too-high", metric="lr", threshold=0.2, run="no-probe-*",
                 action="reduce_lr")
        for wait in (True, False):
            with self.subTest(wait=wait):
                training = self.training("no-probe-%s" % wait, wait=wait)
                training.run(20)
                training.job.set_lr(4.0)
                training.run(10)
                action = training.answers[20].action
                self.assertAlmostEqual(action["lr"], 0.5 * 0.4)
                self.assertIn("half the present learning rate", action["reason"])
                self.assertIn("no accepted curvature", action["reason"])
                self.assertEqual(training.kinds(), ["reduce_lr"])
                self.assertEqual(training.guard.events[0]["step"], 20 if wait else 21)
                self.assertAlmostEqual(training.monitor.lr, HALF * 0.5 * 0.4)
                self.assertEqual(training.guard.skipped, 1 if wait else 0)
                self.assertEqual(training.allowed.count(False), 1 if wait else 0)


class Restore(Case):
    """A rule alarms at a training that is well, until somebody takes it away."""

    CALM, LENGTH = 20, 400
    SCHEDULES = {"none": lambda step: 1.0, "falls": lambda step: 1.0 - step / Restore.LENGTH}

    def trained(self, run, schedule, wait, restore):
        training = self.training(
            run, wait=wait, restore=restore,
            schedule=lambda optimizer: torch.optim.lr_scheduler.LambdaLR(optimizer, schedule))
        training.run(10)
        put_rule(self.daemon.url, run, metric="loss", threshold=0.0, run=run, action="reduce_lr")
        while not training.guard.cuts:
            training.step()
        delete_rule(self.daemon.url, run)
        return training.run(150)

    def test_the_rate_comes_back_to_what_the_schedule_gives(self):
        for name, schedule in self.SCHEDULES.items():
            for wait in (True, False):
                with self.subTest(schedule=name, wait=wait):
                    run = "restore-%s-%s" % (name, wait)
                    training = self.trained(run, schedule, wait, self.CALM)
                    self.check_rates(training, run, schedule)
                    lower = self.trained(run + "-low", schedule, wait, None)
                    self.assertEqual(lower.kinds(), ["reduce_lr"])
                    self.assertLess(lower.guard.lr_max, math.inf)
                    end, end_lower = (sorted(t.losses[-20:])[10] for t in (training, lower))
                    print("%s: loss %.3g, %.3g where the rate stays low" % (run, end, end_lower),
                          flush=True)
                    self.assertLess(end, end_lower)

    def check_rates(self, training, run, schedule):
        """As they were pushed: the schedule's below a ceiling that is doubled after calm, no sooner, and then goes."""
        events = list(training.guard.events)
        self.assertEqual(training.kinds(), ["reduce_lr"] + (len(events) - 1) * ["restore"])
        self.assertGreaterEqual(len(events), 2)
        for before, after in zip(events, events[1:]):
            self.assertGreaterEqual(after["step"] - before["step"], self.CALM)
            self.assertIn(after["lr_max"] / before["lr_max"], (2.0, math.inf))
        self.assertEqual(events[-1]["lr_max"], math.inf)
        with lyapd.Run(self.daemon.url, run) as reader:
            series = reader.profile("lr", points=1000)
        self.assertEqual(len(series["step"]), len(training.losses))
        for step, rate in zip(series["step"], series["series"]["lr"]):
            ceilings = [event["lr_max"] for event in events  # what a cut was advised for was pushed
                        if step > event["step"] or (step, event["kind"]) == (event["step"], "restore")]
            whole = training.job.lr * schedule(step)
            self.assertAlmostEqual(rate, min([whole] + ceilings[-1:]), msg=str(step))


class Poison(Case):
    def test_in_time_the_batch_is_left_out_and_no_more(self):
        for network in ("mlp", "cnn"):
            with self.subTest(network=network):
                training = self.training("skip-" + network, network, "heavy-ball", poison=(30,))
                torch.manual_seed(3)  # dropout
                training.run(31)
                self.assertEqual(training.answers[30].action["kind"], "skip")
                self.assertEqual(training.answers[30].action["step"], 30)
                self.assertEqual(training.kinds(), ["skip"])
                torch.manual_seed(4)
                training.run(29)
                for tensor in training.job.model.state_dict().values():
                    self.assertTrue(torch.isfinite(tensor.float()).all())
                self.assertEqual((training.guard.skipped, training.allowed.count(False)), (1, 1))
                self.assertLess(training.losses[-1], training.losses[29])
                self.assertLess(training.answers[33].value("update_identity"), 0.05)
        job, _ = alone(60, "mlp", "heavy-ball", without=(30,))
        trained = self.training("skip-again", "mlp", "heavy-ball", poison=(30,)).run(60)
        self.assert_same(trained.parameters(),
                         [parameter.detach() for parameter in job.model.parameters()])

    def test_late_the_step_before_comes_back(self):
        training = self.training("skip-late", "mlp", "heavy-ball", wait=False, poison=(33,))
        training.run(60)
        self.assertEqual(training.guard.late, 1)
        self.assertEqual(training.kinds(), ["rollback"])
        event = training.guard.events[0]
        self.assertEqual((event["to"], training.guard.rollbacks), (30, 1))
        self.assertLessEqual(event["went_back"], 6)
        self.assertTrue(all(math.isfinite(loss) for loss in training.losses[40:]))
        self.assertLess(training.losses[-1], training.losses[32])


class Corruption(Case):
    def test_the_last_step_before_it_comes_back(self):
        for wait in (True, False):
            with self.subTest(wait=wait):
                training = self.training("flip-%s" % wait, "mlp", "adamw", wait=wait,
                                         faults={33: flip}).run(35)
                if not wait:
                    training.run(1)
                self.assertEqual(training.answers[34].action["kind"], "rollback")
                self.assertEqual(training.answers[34].action["step"], 33)
                event = training.guard.events[0]
                self.assertEqual((event["kind"], event["step"], event["to"]),
                                 ("rollback", 34 if wait else 35, 30))
                self.assertEqual(training.monitor.next_step, 30)
                job, _ = alone(30, "mlp", "adamw")
                self.assert_same(training.parameters(),
                                 [parameter.detach() for parameter in job.model.parameters()])
                lr = training.monitor.lr
                training.run(40)
                self.assertEqual(training.monitor.attempt, 2)
                self.assertAlmostEqual(training.monitor.lr, 0.5 * lr)
                self.assertEqual(training.kinds(), ["rollback"])
                self.assertLess(training.losses[-1], training.losses[33])


class Budget(Case):
    def test_the_budget_holds_over_a_killed_daemon_then_stop(self):
        with Service("--rollbacks-max", "2") as daemon:
            training = Training(daemon.url, "again", "mlp", "sgd",
                                faults={21: flip, 32: flip, 43: flip})
            training.run(30)
            self.assertEqual(training.kinds(), ["rollback"])
            daemon.kill()
            daemon.start()
            training.run(15)
            self.assertEqual(training.kinds(), ["rollback", "rollback"])
            self.assertEqual(training.guard.events[-1]["to"], 30)
            self.assertIsNone(training.faults.get(32))
            training.run(30)
            self.assertEqual(training.kinds(), ["rollback", "rollback", "stop"])
            self.assertIn("spent", training.guard.events[-1]["reason"])
            self.assertTrue(training.guard.is_over)
            self.assertEqual(training.guard.events[-1]["step"], 44)
            training.monitor.close()
            with lyapd.Run(daemon.url, "again") as run:
                self.assertEqual(run.info()["attempt"], 3)

    def test_stop(self):
        put_rule(self.daemon.url, "enough", metric="loss", comparison="<", threshold=1.0,
                 run="stop-*", action="stop")
        for wait in (True, False):
            with self.subTest(wait=wait):
                training = self.training("stop-%s" % wait, wait=wait)
                while not training.guard.is_over and len(training.losses) < 200:
                    training.step()
                first = next(n for n, loss in enumerate(training.losses) if loss < 1.0)
                self.assertEqual(len(training.losses) - 1, first if wait else first + 1)
                held = training.parameters()
                training.run(2)
                self.assert_same(held, training.parameters())


class Outage(unittest.TestCase):
    """What happens to the daemon never reaches the training."""

    STEPS = 120

    def trained(self, wait, at, **options):
        with Service() as daemon:
            training = Training(daemon.url, "away", wait=wait, **options)
            for step in range(self.STEPS):
                for when, what in at.items():
                    if step == when:
                        getattr(daemon, what)()
                loss = training.job.backward()
                self.assertTrue(training.guard.allows(loss))
                training.job.optimizer.step()
            training.monitor.close(1.0)
        job, _ = alone(self.STEPS)
        for a, b in zip(training.job.model.parameters(), job.model.parameters()):
            self.assertTrue(torch.equal(a, b))
        return training

    def test_gone_for_good_the_job_waits_once(self):
        """With wait=True the first step without an answer takes `timeout`, not every step."""
        training = self.trained(True, {40: "kill"}, timeout=1.0)
        self.assertTrue(training.monitor.errors)
        self.assertLess(training.monitor.timing["wait_s"], 10.0)  # 80 s if each waited
        self.assertGreater(training.monitor.timing["wait_s"], 1.0)

    def test_gone_for_good_the_default_does_not_wait(self):
        training = self.trained(False, {40: "kill"})
        self.assertLess(training.monitor.timing["wait_s"], 0.5)

    def test_restarted_the_advice_comes_again(self):
        for wait in (True, False):
            with self.subTest(wait=wait), Service() as daemon:
                training = Training(daemon.url, "back", "mlp", "heavy-ball", wait=wait,
                                    faults={53: flip})
                training.run(40)
                daemon.kill()
                for _ in range(2 if not wait else 0):
                    loss = training.job.backward()
                    self.assertTrue(training.guard.allows(loss))
                    training.job.optimizer.step()
                daemon.start()
                training.run(40)
                self.assertEqual(training.kinds(), ["rollback"])
                self.assertEqual(training.guard.events[0]["to"], 50)
                training.monitor.close(1.0)


if __name__ == "__main__":
    unittest.main()
