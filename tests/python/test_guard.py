"""Guard: what it does to a loop for each action of the daemon, and nothing without one."""

import collections
import json
import logging
import math
import os
import subprocess
import sys
import tempfile
import unittest
from unittest import mock

import torch
from torch import nn

from fake import Daemon, free_port
import lyapd
from lyapd import guard as guard_module
from lyapd.ceiling import Ceiling

logging.disable(logging.WARNING)


class Seldom:
    """A schedule that sets its own rates, every so many steps."""

    def __init__(self, optimizer, every):
        self.optimizer, self.every, self.steps = optimizer, every, 0
        self.rates = [group["lr"] for group in optimizer.param_groups]

    def step(self):
        self.steps += 1
        if self.steps % self.every == 0:
            for group, rate in zip(self.optimizer.param_groups, self.rates):
                group["lr"] = rate


class Loop(unittest.TestCase):
    """A job with momentum, batch norm and two groups whose rates differ by ten."""

    wait = True

    def setUp(self):
        self.daemon = Daemon()
        self.addCleanup(self.daemon.close)
        self.metrics = {}  # step -> metrics of the answer, beside the usual ones
        self.actions = {}  # step -> action of the answer; a list: one an attempt
        self.daemon.answer = self.answer
        self.job()

    def job(self):
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 2))
        self.optimizer = torch.optim.SGD(
            [{"params": self.model[0].parameters()}, {"params": self.model[1].parameters()},
             {"params": self.model[3].parameters(), "lr": 0.01}], lr=0.1, momentum=0.9)
        self.batches = torch.Generator().manual_seed(1)

    def answer(self, request):
        if not request.is_push:
            return None
        status, document = self.daemon.usual(request)
        document["attempt"] = attempt = int(request.query["attempt"])
        action = self.actions.get(request.step, {"kind": "continue"})
        if isinstance(action, list):
            action = action[attempt - 1] if attempt <= len(action) else {"kind": "continue"}
        document["action"] = action
        document["metrics"].update(self.metrics.get(request.step, {}))
        return status, document

    def guard(self, **options):
        scaler = options.pop("scaler", None)
        self.monitor = lyapd.watch(self.model, self.optimizer, run="r", url=self.daemon.url,
                                   wait=self.wait, scaler=scaler)
        self.addCleanup(self.monitor.close, 1.0)
        return lyapd.Guard(self.monitor, self.model, self.optimizer, **options)

    def backward(self, poison=False):
        x = torch.randn(8, 4, generator=self.batches)
        self.optimizer.zero_grad()
        loss = self.model(x * math.nan if poison else x).pow(2).mean()
        loss.backward()
        return loss

    def folder(self):
        found = tempfile.TemporaryDirectory()
        self.addCleanup(found.cleanup)
        return found.name

    def one(self, guard, poison=False, **values):
        """(whether the update was made, parameters before it)."""
        before = self.parameters()
        loss = self.backward(poison)
        is_allowed = guard.allows(loss, **values)
        if is_allowed:
            self.optimizer.step()
        return is_allowed, before

    def run_steps(self, guard, count):
        """{step: parameters it began with}"""
        found = {}
        for _ in range(count):
            at = self.monitor.next_step
            found[at] = self.one(guard)[1]
        return found

    def parameters(self):
        return [parameter.detach().clone() for parameter in self.model.parameters()]

    def rates(self):
        return [group["lr"] for group in self.optimizer.param_groups]

    def assert_same(self, first, second):
        self.assertEqual(len(first), len(second))
        for a, b in zip(first, second):
            self.assertTrue(torch.equal(a, b))

    def pushed(self):
        return [request.parse()[0] for request in self.daemon.pushes]


class InTime(Loop):
    def test_a_healthy_training_stays_bit_by_bit_the_same(self):
        for _ in range(50):
            self.backward()
            self.optimizer.step()
        alone = [tensor.clone() for tensor in self.model.state_dict().values()]
        self.job()
        guard = self.guard(every=3, keep=2)
        for _ in range(50):
            self.assertTrue(self.one(guard)[0])
        self.assert_same(alone, list(self.model.state_dict().values()))
        self.assertEqual((guard.skipped, guard.cuts, guard.rollbacks, list(guard.events)),
                         (0, 0, 0, []))
        self.assertTrue(all("updates" not in metadata for metadata in self.pushed()))

    def test_skip_leaves_out_this_update_and_the_next_push_says_so(self):
        self.actions[3] = {"kind": "skip", "step": 3, "reason": "why"}
        guard = self.guard()
        self.run_steps(guard, 3)
        is_allowed, before = self.one(guard)
        self.assertFalse(is_allowed)
        self.assert_same(before, self.parameters())
        self.run_steps(guard, 2)
        self.assertEqual([metadata.get("updates") for metadata in self.pushed()],
                         [None, None, None, None, "0", None])
        self.assertEqual((guard.skipped, guard.late), (1, 0))
        self.assertEqual(list(guard.events), [{"step": 3, "kind": "skip", "reason": "why"}])

    def test_a_skipped_batch_leaves_no_nan_in_running_statistics(self):
        self.actions[4] = {"kind": "skip", "step": 4}
        guard = self.guard(every=2)
        self.run_steps(guard, 4)
        self.assertFalse(self.one(guard, poison=True)[0])
        for buffer in self.model.buffers():
            self.assertTrue(torch.isfinite(buffer.float()).all())
        loss = self.backward()
        self.model.eval()
        self.assertTrue(torch.isfinite(self.model(torch.ones(1, 4))).all())
        self.assertTrue(torch.isfinite(loss))

    def test_a_lower_rate_begins_with_the_next_update(self):
        self.actions[2] = {"kind": "reduce_lr", "lr": 0.08}
        guard = self.guard()
        self.run_steps(guard, 2)
        is_allowed, before = self.one(guard)
        self.assertFalse(is_allowed)
        self.assert_same(before, self.parameters())
        self.assertTrue(self.one(guard)[0])
        for found, expected in zip(self.rates(), (0.04, 0.04, 0.004)):
            self.assertAlmostEqual(found, expected)
        last = self.pushed()[-1]
        self.assertEqual(last["updates"], "0")
        self.assertAlmostEqual(max(float(part) for part in last["lr"].split(",")), 0.04)
        self.assertEqual((guard.cuts, guard.skipped), (1, 1))

    def test_the_ceiling_holds_against_a_scheduler(self):
        self.actions[1] = {"kind": "reduce_lr", "lr": 0.08}
        schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: 1.0 + step)
        guard = self.guard()
        for _ in range(6):
            self.one(guard)
            schedule.step()
        rates = [[float(part) for part in metadata["lr"].split(",")] for metadata in self.pushed()]
        self.assertAlmostEqual(max(rates[1]), 0.2)
        for pushed in rates[2:]:
            self.assertAlmostEqual(max(pushed), 0.04)
            self.assertAlmostEqual(min(pushed), 0.004)
        self.assertEqual(guard.cuts, 1)

    def test_advice_that_is_followed_already_costs_no_update(self):
        self.actions.update({step: {"kind": "reduce_lr", "lr": 0.08} for step in range(1, 8)})
        guard = self.guard()
        self.run_steps(guard, 8)
        self.assertEqual((guard.cuts, guard.skipped), (1, 1))

    def test_a_rate_without_a_number_is_halved(self):
        self.actions[1] = {"kind": "reduce_lr", "lr": None}
        guard = self.guard()
        self.run_steps(guard, 3)
        self.assertAlmostEqual(max(self.rates()), 0.05)

    def test_rollback_restores_a_checkpoint_at_or_before_the_step(self):
        for folder in (None, self.folder()):
            with self.subTest(folder=folder):
                self.daemon.requests.clear()
                self.daemon.attempts.clear()
                self.job()
                self.actions = {17: [{"kind": "rollback", "step": 13, "lr": 0.05, "reason": "x"}]}
                guard = self.guard(every=5, keep=4, folder=folder)
                began = self.run_steps(guard, 17)
                buffers = [b.clone() for b in self.optimizer.state.values() for b in b.values()]
                self.assertFalse(self.one(guard)[0])
                self.assert_same(began[10], self.parameters())
                restored = [b for b in self.optimizer.state.values() for b in b.values()]
                self.assertFalse(all(torch.equal(a, b) for a, b in zip(buffers, restored)))
                self.assertEqual((guard.rollbacks, guard.went_back, guard.skipped), (1, 7, 0))
                self.assertEqual(guard.events[-1]["to"], 10)
                self.assertEqual(self.monitor.next_step, 10)
                self.assertTrue(self.one(guard)[0])
                self.assertAlmostEqual(max(self.rates()), 0.05)
                last = self.daemon.pushes[-1]
                self.assertEqual((last.step, last.query["attempt"]), (10, "2"))
                self.assertNotIn("updates", last.parse()[0])
                self.run_steps(guard, 10)  # past 17 again: that is another attempt
                self.assertEqual(guard.rollbacks, 1)
                if folder is not None:
                    self.assertEqual(sorted(os.listdir(folder)),
                                     sorted("guard-%d.pt" % n for n in (5, 10, 15, 20)))

    def test_the_state_of_the_step_after_a_rollback_is_that_of_the_checkpoint(self):
        """Momentum too: the same batches after it give the same parameters as before it."""
        self.actions[9] = [{"kind": "rollback", "step": 5, "lr": 1.0}]
        guard = self.guard(every=5)
        batches = {}
        began = {}
        for _ in range(9):
            batches[self.monitor.next_step] = self.batches.get_state()
            began.update(self.run_steps(guard, 1))
        self.assertFalse(self.one(guard)[0])
        self.batches.set_state(batches[5])
        again = self.run_steps(guard, 4)
        for step in (5, 6, 7, 8):
            self.assert_same(began[step], again[step])

    def test_checkpoints_of_the_way_that_was_left_are_gone(self):
        """Nothing later takes them for its own: not running statistics, and no file stays."""
        self.actions[17] = [{"kind": "rollback", "step": 6, "lr": 0.05}]
        self.actions[7] = [{"kind": "continue"}, {"kind": "skip", "step": 7}]
        for folder in (None, self.folder()):
            with self.subTest(folder=folder):
                self.daemon.attempts.clear()
                self.job()
                guard = self.guard(every=5, keep=4, folder=folder)
                means = {}
                for _ in range(17):
                    means[self.monitor.next_step] = self.model[1].running_mean.clone()
                    self.run_steps(guard, 1)
                self.assertFalse(self.one(guard)[0])
                if folder is not None:
                    self.assertEqual(sorted(os.listdir(folder)), ["guard-0.pt", "guard-5.pt"])
                self.run_steps(guard, 2)
                self.assertFalse(self.one(guard, poison=True)[0])
                self.assert_same([self.model[1].running_mean], [means[6]])  # the forward of 5 is in

    def test_extra_state_goes_back_too(self):
        self.actions[7] = [{"kind": "rollback", "step": 7, "lr": 0.05}]
        held = {"position": 0}
        guard = self.guard(every=5, extra=(lambda: held, held.update))
        for at in range(8):
            held["position"] = at
            self.one(guard)
        self.assertEqual(held["position"], 5)

    def test_without_a_checkpoint_old_enough_training_goes_on_at_the_lower_rate(self):
        advice = [{"kind": "rollback", "step": 2, "lr": 0.05}]
        self.actions.update({step: advice for step in (9, 10, 11)})
        self.actions[12] = [{"kind": "continue"}]
        self.actions[13] = [{"kind": "rollback", "step": 2, "lr": 0.02}]
        guard = self.guard(every=3, keep=2)
        self.run_steps(guard, 9)
        for _ in range(5):
            self.assertTrue(self.one(guard)[0])
        self.assertEqual((guard.rollbacks, guard.cuts), (0, 2))
        self.assertEqual([(event["kind"], event["step"], event["lr_max"]) for event in guard.events],
                         [("no-checkpoint", 9, 0.05), ("no-checkpoint", 13, 0.02)])
        rates = [max(float(part) for part in metadata["lr"].split(","))
                 for metadata in self.pushed()]
        for rate in rates[10:14]:
            self.assertAlmostEqual(rate, 0.05)

    def test_nothing_is_kept_while_the_loss_rises(self):
        """Not yet an alert, and yet no state to go back to later."""
        self.metrics = {step: {"loss_excess": {"value": 0.5, "trust": "I"},
                               "loss_spread": {"value": 0.3, "trust": "I"}}
                        for step in range(5, 17)}
        self.metrics[12] = {"loss_excess": {"value": 0.5, "trust": "I"},
                            "loss_spread": {"value": 0.45, "trust": "I"}}  # usual here
        self.metrics[15] = {"loss_excess": {"value": "NaN", "trust": "I"}}
        self.actions[16] = [{"kind": "rollback", "step": 16, "lr": 0.05}]
        for folder in (None, self.folder()):
            self.daemon.attempts.clear()
            self.job()
            guard = self.guard(every=2, keep=2, folder=folder)
            began = self.run_steps(guard, 16)
            if folder is not None:
                self.assertEqual(sorted(os.listdir(folder)), ["guard-12.pt", "guard-4.pt"])
            self.assertFalse(self.one(guard)[0])
            self.assert_same(began[12], self.parameters())

    def test_nothing_is_kept_while_something_is_wrong(self):
        self.actions.update({step: {"kind": "reduce_lr", "lr": 0.08} for step in range(4, 12)})
        self.actions[12] = [{"kind": "rollback", "step": 12, "lr": 0.01}]
        guard = self.guard(every=2, keep=2)
        began = self.run_steps(guard, 12)
        self.assertFalse(self.one(guard)[0])
        self.assert_same(began[2], self.parameters())

    def test_stop(self):
        self.actions[2] = {"kind": "stop", "reason": "spent"}
        guard = self.guard()
        self.run_steps(guard, 2)
        self.assertFalse(self.one(guard)[0])
        self.assertTrue(guard.is_over)
        pushes = len(self.daemon.pushes)
        is_allowed, before = self.one(guard)
        self.assertFalse(is_allowed)
        self.assert_same(before, self.parameters())
        self.assertEqual(len(self.daemon.pushes), pushes)


class Late(Loop):
    """Without wait: the answer of a step is there before the next one, at the earliest."""

    wait = False

    def one(self, guard, **values):
        result = super().one(guard, **values)
        self.assertTrue(self.monitor.flush(10))
        return result

    def test_skip_is_too_late_and_counted(self):
        self.actions[2] = {"kind": "skip", "step": 2}
        guard = self.guard()
        for _ in range(6):
            self.assertTrue(self.one(guard)[0])
        self.assertEqual((guard.skipped, guard.late), (0, 1))
        self.assertTrue(all("updates" not in metadata for metadata in self.pushed()))

    def test_a_lower_rate_begins_without_an_update_left_out(self):
        self.actions[2] = {"kind": "reduce_lr", "lr": 0.08}
        guard = self.guard()
        for _ in range(6):
            self.assertTrue(self.one(guard)[0])
        rates = [max(float(part) for part in metadata["lr"].split(","))
                 for metadata in self.pushed()]
        self.assertAlmostEqual(rates[3], 0.1)
        for rate in rates[4:]:
            self.assertAlmostEqual(rate, 0.04)
        self.assertEqual((guard.cuts, guard.skipped), (1, 0))

    def test_rollback_comes_once_though_old_answers_repeat_it(self):
        advice = [{"kind": "rollback", "step": 6, "lr": 0.05}]
        self.actions.update({step: advice for step in range(8, 12)})
        guard = self.guard(every=3)
        began = self.run_steps(guard, 9)
        self.assertFalse(self.one(guard)[0])
        self.assert_same(began[6], self.parameters())
        self.assertEqual((guard.rollbacks, guard.went_back), (1, 3))
        self.run_steps(guard, 8)
        self.assertEqual(guard.rollbacks, 1)


class Slow(Loop):
    """Pushes that are slower than the loop."""

    wait = False

    def test_an_answer_of_the_step_before_is_one_late(self):
        guard = self.guard()
        self.run_steps(guard, 1)
        self.assertTrue(self.monitor.flush(10))
        self.one(guard)
        self.assertEqual((guard.lateness, self.monitor.errors), (1, []))

    def test_a_backlog_is_told_once(self):
        guard = self.guard()
        self.daemon.delay = 0.1
        while guard.lateness <= guard_module.LATE_MAX:
            self.one(guard)
        self.daemon.delay = 0.0
        told = [text for text in self.monitor.errors if "steps late" in text]
        self.assertEqual(len(set(told)), 1)


class Unharmed(Loop):
    def test_a_daemon_that_is_away_changes_nothing(self):
        self.monitor = lyapd.watch(self.model, self.optimizer, run="r",
                                   url="http://127.0.0.1:%d" % free_port())
        self.addCleanup(self.monitor.close, 1.0)
        guard = lyapd.Guard(self.monitor, self.model, self.optimizer)
        for _ in range(5):
            self.assertTrue(self.one(guard)[0])

    def test_answers_without_sense_change_nothing(self):
        for action in ({}, {"kind": "dance"}, {"kind": "rollback", "step": "x"}, 7,
                       {"kind": "reduce_lr", "lr": "many"}):
            self.actions = {1: action}
            self.daemon.attempts.clear()
            self.job()
            guard = self.guard()
            for _ in range(3):
                self.one(guard)
            self.assertFalse(guard.is_over)
            self.assertEqual(guard.rollbacks, 0)

    def test_a_checkpoint_that_cannot_be_written_is_told_and_no_more(self):
        guard = self.guard(folder=self.folder())
        with mock.patch("torch.save", side_effect=OSError("disk full")):
            for _ in range(3):
                self.assertTrue(self.one(guard)[0])
        self.assertIn("disk full", " ".join(self.monitor.errors))

    def test_wrong_use_is_told_at_once(self):
        for options in ({"every": 0}, {"keep": 0}, {"every": 1.5}, {"restore": 0}, {"extra": (1, 2)},
                        {"extra": (len,)}):
            with self.assertRaises(ValueError):
                self.guard(**options)

    def test_ranks_that_hold_shards_are_refused(self):
        monitor = lyapd.watch(self.model, self.optimizer, run="r", url=self.daemon.url, rank=0,
                              world=2, attempt_key="k")
        self.addCleanup(monitor.close, 1.0)
        with mock.patch("torch.distributed.is_initialized", return_value=True), \
                mock.patch("torch.distributed.get_world_size", return_value=2):
            with self.assertRaises(ValueError):
                lyapd.Guard(monitor, self.model, self.optimizer)


class Scaler(torch.cuda.amp.GradScaler):
    """The real one's books, its kernel on the CPU."""

    def __init__(self):
        with mock.patch("torch.cuda.is_available", return_value=True):
            super().__init__(init_scale=1024.0)
        self._lazy_init_scale_growth_tracker(torch.device("cpu"))

    def _unscale_grads_(self, optimizer, inv_scale, found_inf, allow_fp16):
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad.mul_(float(inv_scale))
                found_inf += float(not torch.isfinite(parameter.grad).all())
        return {torch.device("cpu"): found_inf}

    def update(self, new_scale=None):
        found = [flag for state in self._per_optimizer_states.values()
                 for flag in state["found_inf_per_device"].values()]
        assert found, "No inf checks were recorded prior to update."
        self._per_optimizer_states.clear()


class Surroundings(Loop):
    """What else stands in a loop: accumulation, a scaler, schedules, state of one's own."""

    def test_a_bad_batch_is_not_accumulated(self):
        """The loop clears gradients behind an update only."""
        self.actions[3] = {"kind": "skip", "step": 3}
        guard = self.guard()
        for step in range(6):
            for _ in range(2):
                x = torch.randn(8, 4, generator=self.batches)
                loss = self.model(x * math.nan if step == 3 else x).pow(2).mean()
                loss.backward()
            if guard.allows(loss):
                self.optimizer.step()
                self.optimizer.zero_grad()
        self.assertEqual(guard.skipped, 1)
        for parameter in self.parameters():
            self.assertTrue(torch.isfinite(parameter).all())

    def scaled(self, guard, scaler):
        x = torch.randn(8, 4, generator=self.batches)
        self.optimizer.zero_grad()
        loss = self.model(x).pow(2).mean()
        (loss * scaler.get_scale()).backward()
        scaler.unscale_(self.optimizer)
        if guard.allows(loss):
            scaler.step(self.optimizer)
            scaler.update()

    def test_a_scaler_goes_on_behind_an_update_left_out_and_a_rollback(self):
        self.actions[3] = [{"kind": "skip", "step": 3}]
        self.actions[4] = [{"kind": "reduce_lr", "lr": 0.08}]
        self.actions[6] = [{"kind": "rollback", "step": 5, "lr": 0.05}]
        scaler = Scaler()
        guard = self.guard(scaler=scaler, every=1)
        for _ in range(12):
            self.scaled(guard, scaler)
        self.assertEqual(self.monitor.errors, [])
        self.assertEqual((guard.skipped, guard.cuts, guard.rollbacks), (2, 1, 1))

    SCHEDULES = {
        "step": lambda o: torch.optim.lr_scheduler.StepLR(o, 4, 0.5),
        "cosine": lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 40),
        "restarts": lambda o: torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(o, 5),
        "linear": lambda o: torch.optim.lr_scheduler.LinearLR(o, 0.1, 1.0, 20),
        "one-cycle": lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.5, total_steps=40),
        "lambda": lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda step: 1.0 + step),
        "plateau": lambda o: torch.optim.lr_scheduler.ReduceLROnPlateau(o, patience=9),
    }

    def test_no_schedule_gets_above_an_advised_rate(self):
        for name, schedule_of in self.SCHEDULES.items():
            with self.subTest(schedule=name):
                self.daemon.requests.clear()
                self.daemon.attempts.clear()
                self.job()
                schedule = schedule_of(self.optimizer)
                guard = self.guard()
                self.actions = {3: [{"kind": "reduce_lr", "lr": 0.02}]}
                for _ in range(20):
                    if self.one(guard)[0]:
                        schedule.step(*([1.0] if name == "plateau" else []))
                rates = [max(map(float, metadata["lr"].split(","))) for metadata in self.pushed()]
                self.assertGreater(max(rates[:4]), 0.01)
                self.assertLessEqual(max(rates[4:]), 0.01 + 1e-12)
                self.assertEqual(guard.cuts, 1)

    def rates_with(self, actions, steps, schedule_of=None, **options):
        """Rates of the first group as they were pushed."""
        self.daemon.requests.clear()
        self.daemon.attempts.clear()
        self.job()
        self.actions = actions
        schedule = schedule_of(self.optimizer) if schedule_of else None
        guard = self.guard(**options)
        for _ in range(steps):
            self.one(guard)
            if schedule:
                schedule.step()
        return guard, [float(metadata["lr"].split(",")[0]) for metadata in self.pushed()]

    def assert_all_close(self, found, expected):
        self.assertEqual(len(found), len(expected))
        for a, b in zip(found, expected):
            self.assertAlmostEqual(a, b)

    def test_the_rate_comes_back_after_calm_where_that_is_wanted(self):
        cut = {3: {"kind": "reduce_lr", "lr": 0.08}}
        guard, rates = self.rates_with(cut, 20, restore=5)
        self.assert_all_close(rates, 4 * [0.1] + 5 * [0.04] + 5 * [0.08] + 6 * [0.1])
        self.assertEqual((guard.lr_max, [event["kind"] for event in guard.events]),
                         (math.inf, ["reduce_lr", "restore", "restore"]))
        self.assert_all_close(self.rates(), [0.1, 0.1, 0.01])
        guard, rates = self.rates_with(cut, 20)
        self.assert_all_close(rates, 4 * [0.1] + 16 * [0.04])
        cut[7] = {"kind": "reduce_lr", "lr": 0.04}  # calm begins anew
        self.assert_all_close(self.rates_with(cut, 14, restore=5)[1],
                              4 * [0.1] + 4 * [0.04] + 5 * [0.02] + [0.04])

    def test_the_rate_that_comes_back_is_what_the_schedule_alone_would_give(self):
        """Of one that multiplies what it finds, and of one that does not."""
        cut = {3: {"kind": "reduce_lr", "lr": 0.04}, 5: {"kind": "reduce_lr", "lr": 0.02}}
        schedules = {"multiplies": lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.97),
                     "sets": lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda t: 0.97 ** t)}
        for name, schedule_of in schedules.items():
            with self.subTest(schedule=name):
                guard, rates = self.rates_with(cut, 40, schedule_of, restore=4)
                self.assertLessEqual(max(rates[6:10]), 0.01 + 1e-12)
                self.assertLessEqual(max(rates[10:14]), 0.02 + 1e-12)
                self.assertEqual(guard.lr_max, math.inf)
                self.assert_all_close(rates[30:], [0.1 * 0.97 ** t for t in range(30, 40)])

    def test_a_rate_comes_back_step_by_step_below_a_schedule_that_sets_it_seldom(self):
        """Once an epoch, say: what is doubled in between is the rate, not the ceiling alone."""
        cut = {1: {"kind": "reduce_lr", "lr": 0.0125}}
        guard, rates = self.rates_with(cut, 40, lambda o: Seldom(o, 5), restore=8)
        self.assert_all_close(rates, 2 * [0.1] + 8 * [0.00625] + 8 * [0.0125] + 8 * [0.025]
                              + 8 * [0.05] + 6 * [0.1])
        self.assertEqual(guard.lr_max, math.inf)

    def test_a_rate_that_is_a_tensor_comes_back(self):
        """Its rounding to single precision is nobody's setting it anew."""
        for part in (0.3, 0.35, 0.4, 0.45, 0.55):
            groups = mock.Mock(param_groups=[{"lr": torch.tensor(0.1)}])
            ceiling = Ceiling(groups, lambda: float(groups.param_groups[0]["lr"]))
            ceiling.lr_max = 0.1 * part
            for _ in range(4):
                ceiling.hold()
            while ceiling.double():
                ceiling.hold()
            self.assertAlmostEqual(float(groups.param_groups[0]["lr"]), 0.1, msg=str(part))

    def test_a_rate_comes_back_behind_a_rollback_too(self):
        """To what the schedule would give: the checkpoint's own rates were lowered once already."""
        cut = {3: [{"kind": "reduce_lr", "lr": 0.04}], 9: [{"kind": "rollback", "step": 8, "lr": 0.01}]}
        guard, rates = self.rates_with(cut, 40, restore=4, every=3)
        self.assertEqual(guard.rollbacks, 1)
        self.assertEqual(guard.lr_max, math.inf)
        self.assertAlmostEqual(rates[-1], 0.1)
        self.assertAlmostEqual(max(rates), 0.1)

    def test_a_schedule_goes_back_with_the_rest(self):
        """And gives the checkpoint's own rates from there on, below the ceiling."""
        self.actions[9] = [{"kind": "rollback", "step": 6, "lr": 0.02}]
        schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: 0.7 ** step)
        average = torch.optim.swa_utils.AveragedModel(self.model)
        guard = self.guard(every=5, extra=[schedule, average])
        for _ in range(9):
            self.assertTrue(self.one(guard)[0])
            schedule.step()
            average.update_parameters(self.model)
        self.assertFalse(self.one(guard)[0])
        self.assertEqual((schedule.last_epoch, int(average.n_averaged)), (5, 5))
        for step in range(5, 12):
            self.one(guard)
            self.assertAlmostEqual(max(self.rates()), min(0.02, 0.1 * 0.7 ** step))
            schedule.step()

    def test_state_that_is_no_tensor_comes_back_from_disk(self):
        self.actions[7] = [{"kind": "rollback", "step": 7, "lr": 0.05}]
        held = {"seen": collections.deque([0])}
        guard = self.guard(every=5, folder=self.folder(), extra=(lambda: held, held.update))
        for step in range(1, 9):
            self.one(guard)
            held["seen"].append(step)
        self.assertEqual((self.monitor.errors, guard.rollbacks), ([], 1))
        with mock.patch("torch.load", wraps=torch.load) as load:
            guard._kept.newest(None)
        self.assertIs(load.call_args.kwargs["weights_only"], False)  # the default of PyTorch 2.6

    def test_a_checkpoint_that_cannot_be_read_is_none(self):
        """The other ranks hear so: they wait for this one's word in the middle of a rollback."""
        self.actions[7] = [{"kind": "rollback", "step": 7, "lr": 0.05}]
        guard = self.guard(every=5, folder=self.folder())
        with mock.patch("torch.load", side_effect=OSError("gone")), \
                mock.patch.object(guard._ranks, "of_all", wraps=guard._ranks.of_all) as of_all:
            self.run_steps(guard, 9)
        of_all.assert_called_once_with(None)
        self.assertEqual([event["kind"] for event in guard.events], ["no-checkpoint"])
        self.assertEqual(guard.lr_max, 0.05)

    def test_a_checkpoint_that_cannot_be_kept_shifts_no_later_one(self):
        """Ranks go back only to steps that all of them have kept."""
        guard = self.guard(every=4, folder=self.folder())
        with mock.patch("torch.save", side_effect=OSError("full")):
            self.run_steps(guard, 6)
        self.run_steps(guard, 6)
        self.assertEqual([kept.step for kept in guard._kept._list], [8])

    def test_a_checkpoint_that_cannot_be_restored_leaves_all_as_it_was(self):
        """Not the half of it: and the next rollback takes the one before."""
        advice = [{"kind": "rollback", "step": 12, "lr": 0.05}]
        self.actions = {13: advice, 16: advice}
        held = {"position": 0}

        def put(state):
            if state["position"] == 10:
                raise RuntimeError("not mine")
            held.update(state)
        guard = self.guard(every=5, extra=(lambda: held, put))
        began = {}
        for at in range(13):
            held["position"] = at
            began[at] = self.one(guard)[1]
        held["position"] = 13
        is_allowed, before = self.one(guard)
        self.assertTrue(is_allowed)
        for group in self.optimizer.param_groups:  # the update was that of step 13's own state
            for parameter in group["params"]:
                update = group["lr"] * self.optimizer.state[parameter]["momentum_buffer"]
                before_it = before[[p is parameter for p in self.model.parameters()].index(True)]
                self.assertTrue(torch.allclose(parameter + update, before_it, atol=1e-6))
        self.assertEqual((held["position"], guard.rollbacks, guard.cuts), (13, 0, 1))
        self.assertIn("not mine", " ".join(self.monitor.errors))
        self.assertEqual([event["kind"] for event in guard.events], ["no-checkpoint"])
        self.run_steps(guard, 2)
        self.assertFalse(self.one(guard)[0])
        self.assert_same(began[5], self.parameters())
        self.assertEqual((held["position"], guard.rollbacks), (5, 1))

    def test_a_rate_that_is_a_tensor_stays_that_tensor(self):
        rate = torch.tensor(0.1)
        self.optimizer.param_groups[0]["lr"] = rate
        self.actions[1] = {"kind": "reduce_lr", "lr": 0.08}
        guard = self.guard()
        for _ in range(3):
            self.backward()
            guard.allows(0.5)
        self.assertIs(self.optimizer.param_groups[0]["lr"], rate)
        self.assertAlmostEqual(float(rate), 0.04)

    def test_a_rate_that_is_a_tensor_stays_that_tensor_behind_a_rollback(self):
        """Also one that fails. The job sets it by a name of its own."""
        rate = torch.tensor(0.1)
        self.optimizer.param_groups[0]["lr"] = rate
        advice = {"kind": "rollback", "step": 6, "lr": 0.05}
        self.actions = {7: [advice, advice]}
        failures = [RuntimeError("not mine")]

        def put(state):
            if failures:
                raise failures.pop()
        guard = self.guard(every=3, extra=(dict, put))
        self.run_steps(guard, 4)
        rate.fill_(0.2)  # between the checkpoints of steps 3 and 6
        self.run_steps(guard, 4)
        self.assertEqual((guard.rollbacks, guard.cuts), (0, 1))
        self.assertIs(self.optimizer.param_groups[0]["lr"], rate)
        self.assertAlmostEqual(float(rate), 0.2)
        self.actions = {8: advice}
        self.run_steps(guard, 1)
        self.assertEqual(guard.rollbacks, 1)
        self.assertIs(self.optimizer.param_groups[0]["lr"], rate)
        self.assertAlmostEqual(float(rate), 0.1)  # what step 3 began with

    def test_a_job_that_starts_again_keeps_its_ceiling(self):
        self.actions[1] = [{"kind": "reduce_lr", "lr": 0.08}]
        guard = self.guard()
        self.run_steps(guard, 3)
        kept = json.loads(json.dumps(guard.state_dict()))
        self.job()
        again = self.guard()
        again.load_state_dict(kept)
        self.run_steps(again, 2)
        self.assertAlmostEqual(max(self.rates()), 0.04)
        self.assertEqual((again.cuts, again.skipped), (1, 1))
        for optimizer in (self.optimizer.state_dict(), None):  # that has the lowered rate, or not
            self.actions = {}
            self.job()
            if optimizer:
                self.optimizer.load_state_dict(optimizer)
            restored = self.guard(restore=3)
            restored.load_state_dict(kept)
            self.run_steps(restored, 3)
            self.assertAlmostEqual(max(self.rates()), 0.04)
            self.run_steps(restored, 7)
            self.assertAlmostEqual(max(self.rates()), 0.1)
        ceiling, groups = restored._ceiling, self.optimizer.param_groups
        groups[0]["lr"] = groups[1]["lr"] = 0.09  # a schedule has just set it: that is the whole
        ceiling.lr_max, ceiling._held, ceiling._taken = 0.04, 0.04, 0.4
        self.assertAlmostEqual(ceiling.whole, 0.09)
        guard.is_over = True
        again.load_state_dict(guard.state_dict())
        self.assertFalse(again.is_over)  # whoever starts a stopped job again wants it to train


REPLICA = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
import torch
from torch import nn
import lyapd
rank, url, store, folder, fails = int(sys.argv[2]), *sys.argv[3:7]
torch.distributed.init_process_group("gloo", init_method="file://" + store, rank=rank, world_size=2)
torch.manual_seed(0)
model = nn.parallel.DistributedDataParallel(nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2)))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
monitor = lyapd.watch(model, optimizer, run="r", url=url, wait=True)
def put(state):
    if fails == "fails" and rank == 1:
        raise RuntimeError("not here")
guard = lyapd.Guard(monitor, model, optimizer, every=4, keep=2, folder=folder or None, extra=(int, put))
torch.manual_seed(rank)
found = []
for _ in range(60):
    if guard.is_over:
        break
    optimizer.zero_grad()
    loss = model(torch.randn(8, 4)).pow(2).mean()
    loss.backward()
    at = monitor.next_step
    is_allowed = guard.allows(loss)
    if is_allowed:
        optimizer.step()
    found.append([at, is_allowed, monitor.next_step, guard.lr_max,
                  float(sum(p.detach().double().sum() for p in model.parameters()))])
monitor.close()
print(json.dumps([found, guard.state_dict(), monitor.errors, list(guard.events)]))
"""


class Replicas(Loop):
    def test_every_rank_takes_the_way_of_rank_0(self):
        for folder in ("", self.folder()):
            with self.subTest(folder=folder):
                self.daemon.attempts.clear()
                self.check(folder)
                self.assertEqual(sorted(os.listdir(folder)) if folder else [],
                                 ["guard-%d%s.pt" % (step, rank) for step in (12, 8)
                                  for rank in ("-rank1", "")] if folder else [])

    def trained(self, folder="", fails=""):
        """What each rank found: its steps, its books, its errors, its events."""
        client = os.path.dirname(os.path.dirname(lyapd.__file__))
        store = os.path.join(self.folder(), "store")
        jobs = [subprocess.Popen([sys.executable, "-c", REPLICA, client, str(rank), self.daemon.url,
                                  store, folder, fails], stdout=subprocess.PIPE, text=True)
                for rank in range(2)]
        return [json.loads(job.communicate(timeout=240)[0].splitlines()[-1]) for job in jobs]

    def check(self, folder):
        self.actions = {3: [{"kind": "skip", "step": 3}], 5: [{"kind": "reduce_lr", "lr": 0.08}],
                        10: [{"kind": "rollback", "step": 9, "lr": 0.03}],
                        14: [{"kind": "continue"}, {"kind": "stop"}]}
        (first, books, errors, _), (second, other, others, _) = self.trained(folder)
        self.assertEqual((errors, others), ([], []))
        self.assertEqual(first, second)
        self.assertEqual(books, other)
        self.assertEqual([books[name] for name in ("skipped", "cuts", "rollbacks", "went_back")],
                         [2, 1, 1, 2])
        self.assertEqual([at for at, *_ in first], list(range(11)) + list(range(8, 15)))
        self.assertEqual([at for at, is_allowed, *_ in first if not is_allowed], [3, 5, 10, 14])
        self.assertEqual(first[10][4], first[7][4])  # what step 8 began with

    def test_where_one_rank_cannot_go_back_none_does(self):
        self.actions = {10: [{"kind": "rollback", "step": 9, "lr": 0.03}], 14: [{"kind": "stop"}]}
        for folder in ("", self.folder()):
            with self.subTest(folder=folder):
                self.daemon.attempts.clear()
                (first, books, errors, events), (second, other, others, events_other) = self.trained(
                    folder, "fails")
                self.assertEqual(first, second)
                self.assertEqual(books, other)
                self.assertEqual((books["rollbacks"], books["cuts"]), (0, 1))
                self.assertEqual(events, events_other)
                self.assertEqual([event["kind"] for event in events], ["no-checkpoint", "stop"])
                for told in (errors, others):
                    self.assertRegex(" ".join(told), "rank 1.*not here")
                self.assertEqual([at for at, *_ in first], list(range(15)))


if __name__ == "__main__":
    unittest.main()
