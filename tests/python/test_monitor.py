"""watch: what a PyTorch job declares and pushes, and that the job never notices."""

import gc
import logging
import os
import struct
import subprocess
import sys
import threading
import time
import unittest
import weakref

import torch
from torch import nn

from fake import ROOT, Daemon, eventually, free_port
import lyapd
from lyapd import declare
from lyapd.sender import Limits

logging.disable(logging.WARNING)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1, stride=2), nn.ReLU(),
                                  nn.BatchNorm2d(4), nn.Flatten())
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.head = nn.Linear(16, 8)
        self.tied = nn.Linear(16, 8)
        self.tied.weight = self.head.weight
        self.frozen = nn.Linear(2, 2)
        self.frozen.requires_grad_(False)
        self.unused = nn.Linear(3, 3)

    def forward(self, x):
        x = self.body(x.view(-1, 1, 4, 4))
        return self.encoder((self.head(x) + self.tied(x)).unsqueeze(1)).squeeze(1)


def floats(data):
    return struct.unpack("<%df" % (len(data) // 4), data)


class Base(unittest.TestCase):
    def setUp(self):
        torch.manual_seed(0)
        self.daemon = Daemon()
        self.addCleanup(self.daemon.close)
        self.model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
        self.x = torch.randn(16, 4)

    def loss(self):
        return self.model(self.x).pow(2).mean()

    def watch(self, optimizer, model=None, **options):
        options.setdefault("run", "r")
        options.setdefault("url", self.daemon.url)
        monitor = lyapd.watch(model or self.model, optimizer, **options)
        self.addCleanup(monitor.close, 1.0)
        return monitor

    def train(self, monitor, optimizer, steps, **values):
        for _ in range(steps):
            optimizer.zero_grad()
            loss = self.loss()
            loss.backward()
            monitor.step(loss, **values)
            optimizer.step()

    def pushed(self, monitor):
        self.assertTrue(monitor.flush(10))
        return [request.parse() for request in self.daemon.pushes]

    def declared(self):
        self.assertTrue(eventually(lambda: self.daemon.puts))
        return self.daemon.puts[0].json()


class Declaration(Base):
    def test_optimizers(self):
        cases = [
            (torch.optim.SGD, dict(lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4),
             {"type": "sgd", "lr": 0.1, "momentum": 0.9, "dampening": 0.0, "nesterov": True,
              "weight_decay": 1e-4}),
            (torch.optim.Adam, dict(lr=1e-3, betas=(0.8, 0.95), eps=1e-6),
             {"type": "adam", "lr": 1e-3, "beta1": 0.8, "beta2": 0.95, "eps": 1e-6,
              "weight_decay": 0.0}),
            (torch.optim.AdamW, dict(lr=1e-3),
             {"type": "adamw", "lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8,
              "weight_decay": 0.01}),
            (torch.optim.RMSprop, dict(lr=1e-3, alpha=0.9),
             {"type": "rmsprop", "lr": 1e-3, "momentum": 0.0, "beta2": 0.9, "eps": 1e-8,
              "weight_decay": 0.0}),
            (torch.optim.Adagrad, dict(lr=0.1), {"type": "other", "lr": 0.1}),
            (torch.optim.Adam, dict(lr=1e-3, amsgrad=True), {"type": "other", "lr": 1e-3}),
        ]
        for cls, options, expected in cases:
            optimizer = cls(self.model.parameters(), **options)
            named = declare.parameters(self.model, optimizer)
            self.assertEqual(declare.Groups(optimizer, named).declaration(), expected)

    def test_a_subclass_with_its_own_step_is_other(self):
        class Mine(torch.optim.SGD):
            pass
        optimizer = Mine(self.model.parameters(), lr=0.1)
        named = declare.parameters(self.model, optimizer)
        self.assertEqual(declare.Groups(optimizer, named).declaration()["type"], "other")

    def test_groups_name_their_tensors_and_only_what_differs(self):
        first, last = self.model[0], self.model[2]
        optimizer = torch.optim.AdamW(
            [{"params": [last.bias], "lr": 0.01},
             {"params": [first.weight, last.weight]},
             {"params": [first.bias], "weight_decay": 0.0}], lr=1e-3, weight_decay=0.1)
        monitor = self.watch(optimizer)
        found = self.declared()["optimizer"]
        self.assertEqual((found["lr"], found["weight_decay"]), (1e-3, 0.1))
        self.assertEqual(found["groups"], [{"lr": 0.01, "tensors": ["2.bias"]},
                                           {"weight_decay": 0.0, "tensors": ["0.bias"]}])
        self.train(monitor, optimizer, 1)
        optimizer.param_groups[0]["lr"] = 1e-3
        self.train(monitor, optimizer, 1)
        rates = [metadata["lr"] for metadata, _, _ in self.pushed(monitor)]
        self.assertEqual(rates, ["0.001,0.01,0.001", "0.001"])

    def test_tensors_once_without_frozen_ones(self):
        model = Net()
        loose = nn.Parameter(torch.zeros(2))
        optimizer = torch.optim.SGD(list(model.parameters()) + [loose], lr=0.1)
        names = [entry["name"] for entry in declare.tensors(declare.parameters(model, optimizer))]
        self.assertEqual(names.count("head.weight"), 1)
        self.assertNotIn("tied.weight", names)
        self.assertFalse([name for name in names if name.startswith("frozen")])
        self.assertIn("param_groups.0.%d" % (len(list(model.parameters()))), names)

    def test_include_and_exclude(self):
        optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        named = declare.parameters(self.model, optimizer, ["*.weight", "0.*"], ["2.*"])
        self.assertEqual(list(named), ["0.weight", "0.bias"])
        with self.assertRaises(ValueError):
            self.watch(optimizer, include=["nothing"])

    def test_layers(self):
        model = Net()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        x = torch.randn(5, 16)
        self.watch(optimizer, model, probe=lambda: model(x).pow(2).mean())
        layers = {layer["name"]: layer for layer in self.declared()["layers"]}
        self.assertEqual(layers["body.0"], {
            "name": "body.0", "tensor": "body.0.weight", "kind": "conv2d", "stride": 2,
            "padding": 1, "padding_mode": "zeros", "dilation": 1, "groups": 1, "input": [4, 4],
            "activation": "relu", "bias": "body.0.bias"})
        self.assertEqual([(name, layer["kind"]) for name, layer in layers.items()], [
            ("body.0", "conv2d"), ("body.2", "batchnorm"), ("tied", "linear"),
            ("head", "linear"), ("tied.block", "residual"), ("encoder.self_attn", "attention"),
            ("encoder.attention_block", "residual"), ("encoder.norm1", "layernorm"),
            ("encoder.linear1", "linear"), ("encoder.linear2", "linear"),
            ("encoder.feed_forward_block", "residual"), ("encoder.norm2", "layernorm")])
        self.assertEqual(layers["tied"]["tensor"], "head.weight")
        self.assertEqual(layers["encoder.norm1"]["eps"], 1e-5)
        self.assertEqual(layers["encoder.self_attn"]["heads"], 2)
        self.assertEqual(layers["encoder.feed_forward_block"]["inner"],
                         ["encoder.linear1", "encoder.linear2"])
        self.assertEqual(layers["encoder.linear1"]["activation"], "relu")

    def test_wrappers_are_looked_through(self):
        class Compiled(nn.Module):
            def __init__(self, inner):
                super().__init__()
                self._orig_mod = inner

        class Wrapped:
            def __init__(self, inner):
                self.optimizer, self.param_groups = inner, inner.param_groups
        optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.assertIs(declare.unwrap_optimizer(Wrapped(optimizer)), optimizer)
        named = declare.parameters(Compiled(self.model), optimizer)
        self.assertEqual(list(named), ["0.weight", "0.bias", "2.weight", "2.bias"])


class Pushes(Base):
    def test_parameters_and_gradients_of_the_moment(self):
        optimizer = torch.optim.SGD(self.model.parameters(), lr=0.5)
        monitor = self.watch(optimizer)
        self.loss().backward()
        theta = self.model[0].weight.detach().clone().reshape(-1)
        gradient = self.model[0].weight.grad.clone().reshape(-1)
        monitor.step(1.25)
        optimizer.step()
        optimizer.zero_grad()
        metadata, tensors, names = self.pushed(monitor)[0]
        self.assertEqual(names[:3], ["param/0.weight", "grad/0.weight", "param/0.bias"])
        self.assertEqual(floats(tensors["param/0.weight"][2]), tuple(theta.tolist()))
        self.assertEqual(floats(tensors["grad/0.weight"][2]), tuple(gradient.tolist()))
        self.assertEqual((metadata["step"], metadata["loss"], metadata["lr"]), ("0", "1.25", "0.5"))
        self.assertNotIn("optimizer_step", metadata)

    def test_mixed_dtypes(self):
        model = nn.Sequential(nn.Linear(3, 1), nn.Linear(3, 3))
        model[0].to(torch.bfloat16)
        model[1].to(torch.float64)
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        monitor = self.watch(optimizer, model)
        monitor.step(0.0)
        _, tensors, _ = self.pushed(monitor)[0]
        self.assertEqual([tensors["param/0.bias"][0], tensors["param/1.weight"][0]],
                         ["BF16", "F64"])
        self.assertEqual(struct.unpack("<9d", tensors["param/1.weight"][2]),
                         tuple(model[1].weight.detach().reshape(-1).tolist()))

    def test_a_missing_gradient_is_left_out(self):
        optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        monitor = self.watch(optimizer)
        self.model[0](self.x).sum().backward()
        monitor.step(0.0)
        names = self.pushed(monitor)[0][2]
        self.assertIn("grad/0.bias", names)
        self.assertNotIn("grad/2.bias", names)
        self.assertIn("param/2.bias", names)

    def test_steps_attempts_and_every(self):
        optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        monitor = self.watch(optimizer, every=4, start_step=3, attempt_key="life")
        self.train(monitor, optimizer, 7)
        monitor.step(0.0, step=8)
        monitor.step(0.0, step=4)
        self.assertEqual([int(push[0]["step"]) for push in self.pushed(monitor)],
                         [4, 5, 8, 9, 8, 4])
        self.assertEqual([push.query["attempt"] for push in self.daemon.pushes],
                         ["1", "1", "1", "1", "2", "3"])

    def test_a_budget_chooses_every(self):
        optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        monitor = self.watch(optimizer, budget=1e-9)
        self.train(monitor, optimizer, 50)
        self.assertLess(monitor.timing["pushes"], 10)
        self.assertGreater(monitor.overhead, 0)
        idle = self.watch(optimizer, budget=0.5, run="idle")
        for _ in range(20):
            time.sleep(0.003)
            self.train(idle, optimizer, 1)
        self.assertEqual(idle.timing["pushes"], 20)

    def test_adam_counts_and_gives_its_state_when_asked_and_after_gaps(self):
        optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3)
        monitor = self.watch(optimizer)
        self.train(monitor, optimizer, 3)
        usual = self.daemon.usual

        def asks(request):
            status, document = usual(request)
            document["want"] = ["exp_avg", "exp_avg_sq"]
            return status, document
        self.assertTrue(monitor.flush(5))
        self.daemon.answer = lambda request: asks(request) if request.is_push else None
        self.train(monitor, optimizer, 1)
        self.assertTrue(monitor.flush(5))
        self.daemon.answer = lambda request: None
        self.train(monitor, optimizer, 2)
        pushes = self.pushed(monitor)
        self.assertEqual([push[0]["optimizer_step"] for push in pushes],
                         ["0", "1", "2", "3", "4", "5"])
        has = ["exp_avg_sq/0.weight" in push[2] for push in pushes]
        self.assertEqual(has, [False, True, False, False, True, False])
        self.assertEqual(pushes[4][2][:4], ["param/0.weight", "grad/0.weight",
                                            "exp_avg/0.weight", "exp_avg_sq/0.weight"])

    def test_clipping_and_labels(self):
        optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        monitor = self.watch(optimizer, clip_norm=0.5, labels={"team": "vision"})
        self.loss().backward()
        monitor.step(0.0, labels={"phase": 2}, batch_id="b1")
        norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), 0.5))
        metadata = self.pushed(monitor)[0][0]
        self.assertAlmostEqual(float(metadata["grad_norm"]), norm, places=5)
        self.assertEqual((metadata["clip_norm"], metadata["x-phase"], metadata["batch_id"]),
                         ("0.5", "2", "b1"))
        self.assertEqual(self.declared()["labels"], {"team": "vision"})

    def test_grad_scaler(self):
        class Scaler:
            """As torch.cuda.amp.GradScaler keeps its books."""
            def __init__(self):
                self._per_optimizer_states = {}

            def is_enabled(self):
                return True

            def get_scale(self):
                return 1024.0
        optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        scaler = Scaler()
        monitor = self.watch(optimizer, scaler=scaler)
        self.loss().backward()
        for found in ({}, {"cpu": torch.tensor(1.0)}, {"cpu": torch.tensor(0.0)}):
            scaler._per_optimizer_states[id(optimizer)] = {"found_inf_per_device": found}
            monitor.step(0.0)
        first, second, third = [push[0] for push in self.pushed(monitor)]
        self.assertEqual((first["clip_factor"], first["skipped"]), ("1024.0", "false"))
        self.assertEqual((second["skipped"], third["skipped"]), ("true", "false"))
        self.assertNotIn("clip_factor", second)

    def test_probe_pairs(self):
        optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3)
        monitor = self.watch(optimizer, probe=self.loss, probe_every=3)
        self.train(monitor, optimizer, 9)
        pushes = self.pushed(monitor)
        pairs = ["pair_s/0.weight" in push[2] for push in pushes]
        probes = ["probe_grad/0.weight" in push[2] for push in pushes]
        self.assertEqual(pairs, [step in (1, 4, 7) for step in range(9)])
        self.assertEqual(probes, [step in (1, 2, 4, 5, 7, 8) for step in range(9)])
        self.assertEqual(["probe_loss" in push[0] for push in pushes], probes)
        self.assertGreater(monitor.probe_pair.sharpness, 0)

    def test_left_out_parameters_make_no_second_probe_gradient(self):
        optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        monitor = self.watch(optimizer, probe=self.loss, probe_every=2, exclude=["*.bias"])
        self.train(monitor, optimizer, 4)
        self.assertEqual(["probe_grad/0.weight" in push[2] for push in self.pushed(monitor)],
                         [True, False, True, False])

    def test_pairs_carry_the_state_where_the_daemon_keeps_none(self):
        usual = self.daemon.usual

        def sketching(request):
            status, document = usual(request)
            document["metrics"]["sharpness"] = {"value": None, "reason": "needs-optimizer-state"}
            return status, document
        self.daemon.answer = lambda request: sketching(request) if request.is_push else None
        optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3)
        monitor = self.watch(optimizer, probe=self.loss, probe_every=3, wait=True)
        self.train(monitor, optimizer, 8)
        has = ["exp_avg_sq/0.weight" in push[2] for push in self.pushed(monitor)]
        self.assertEqual(has, [step in (1, 4, 7) for step in range(8)])

    def test_the_answer(self):
        optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        monitor = self.watch(optimizer, wait=True)
        self.assertIsNone(monitor.score)
        self.assertEqual(monitor.action, {"kind": "continue"})
        reply = monitor.step(0.5)
        self.assertEqual(reply["step"], 0)
        self.assertEqual((monitor.score, monitor.state, monitor.verdict, monitor.alerts),
                         (0.25, "healthy", "inconclusive", []))
        self.assertEqual((monitor.attempt, monitor.lag), (1, 0))


class NeverHurts(Base):
    def test_training_is_the_same_bit_by_bit(self):
        def result(is_watched):
            torch.manual_seed(4)
            self.model = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.3), nn.Linear(3, 2))
            optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-2)
            monitor = self.watch(optimizer, probe=self.loss) if is_watched else None
            for _ in range(30):
                optimizer.zero_grad()
                loss = self.loss()
                loss.backward()
                if monitor:
                    monitor.step(loss)
                optimizer.step()
            return [parameter.detach().clone() for parameter in self.model.parameters()]
        for plain, watched in zip(result(False), result(True)):
            self.assertTrue(torch.equal(plain, watched))

    def test_without_a_daemon_it_costs_little_and_raises_nothing(self):
        optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        monitor = self.watch(optimizer, url="http://127.0.0.1:%d" % free_port(),
                             limits=Limits(queue_count=8))
        started = time.perf_counter()
        self.train(monitor, optimizer, 500)
        self.assertLess(time.perf_counter() - started, 5.0)
        self.assertGreaterEqual(monitor.dropped, 480)
        self.assertTrue(monitor.errors)
        started = time.perf_counter()
        monitor.close()
        self.assertLess(time.perf_counter() - started, 2.0)
        monitor.step(0.0)  # after close: ignored

    def test_only_a_job_that_comes_to_its_end_says_so(self):
        optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        with self.watch(optimizer, run="over") as monitor:
            self.train(monitor, optimizer, 2)
        with self.assertRaises(ZeroDivisionError):
            with self.watch(optimizer, run="crashed") as monitor:
                self.train(monitor, optimizer, 2)
                raise ZeroDivisionError
        script = ("import sys, torch; sys.path.insert(0, %r); import lyapd\n"
                  "w = torch.nn.Linear(2, 1); o = torch.optim.SGD(w.parameters(), lr=.1)\n"
                  "m = lyapd.watch(w, o, url=%r, run=sys.argv[1])\n"
                  "w(torch.ones(1, 2)).sum().backward(); m.step(1.0); o.step(); m.flush()\n"
                  "sys.argv[1] == 'left' or 1 / 0\n")
        client = os.path.dirname(os.path.dirname(lyapd.__file__))
        for run in ("left", "died"):
            subprocess.run([sys.executable, "-c", script % (client, self.daemon.url), run],
                           stderr=subprocess.DEVNULL, timeout=120)
        ended = {r.path.rsplit("/", 1)[-1] for r in self.daemon.puts if r.json().get("ended")}
        self.assertEqual(ended, {"over", "left"})

    def test_wait_ends_with_its_time_out(self):
        self.daemon.answer = lambda request: "hang" if request.is_push else None
        optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        monitor = self.watch(optimizer, wait=True, timeout=0.2)
        started = time.perf_counter()
        self.assertIsNone(monitor.step(0.0))
        self.assertLess(time.perf_counter() - started, 1.0)

    def test_late_max_bounds_how_late_the_answers_are(self):
        """However much faster the loop is, and no more is waited for than that."""
        optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        release = threading.Semaphore(0)
        self.daemon.answer = lambda request: release.acquire() and None if request.is_push else None
        monitor = self.watch(optimizer, late_max=2)
        for _ in range(2):
            self.assertIsNone(monitor.step(0.5))  # nothing is answered yet, and nothing is missed
        self.assertIsNone(monitor.last_reply)
        for step in range(2, 8):
            release.release()
            self.assertIsNone(monitor.step(0.5))
            self.assertEqual(monitor.last_reply["step"], step - 2)
        for _ in range(2):
            release.release()
        self.assertEqual([push[0]["step"] for push in self.pushed(monitor)],
                         [str(step) for step in range(8)])

    def test_late_max_waits_once_for_a_daemon_that_is_away(self):
        optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        monitor = self.watch(optimizer, url="http://127.0.0.1:%d" % free_port(), late_max=1,
                             timeout=0.5)
        for _ in range(20):
            self.assertIsNone(monitor.step(0.5))
        self.assertLess(monitor.timing["wait_s"], 5.0)  # 9.5 s if each waited
        self.assertGreaterEqual(monitor.timing["wait_s"], 0.4)

    def test_late_max_that_makes_no_sense_is_told_at_once(self):
        optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        for options in ({"late_max": -1}, {"late_max": 0.5}, {"late_max": 1, "wait": True}):
            with self.assertRaises(ValueError):
                self.watch(optimizer, **options)

    def test_errors_of_the_loop_stay_inside(self):
        optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        monitor = self.watch(optimizer)
        monitor.step("not a number")
        monitor.step(0.0, nonsense=1)
        monitor.step(0.5)
        self.assertEqual(len(self.pushed(monitor)), 1)
        self.assertEqual(len(monitor.errors), 2)

    def test_a_broken_probe_is_switched_off(self):
        optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        calls = []

        def broken():
            calls.append(1)
            raise KeyError("data")
        monitor = self.watch(optimizer, probe=broken)
        self.train(monitor, optimizer, 12)
        self.assertEqual((len(self.pushed(monitor)), len(calls)), (12, 1))
        self.assertIn("probe", monitor.errors[0])

    def test_wrong_use_is_told_at_once(self):
        optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        for wrong in (dict(run=""), dict(run="a b"), dict(every=0), dict(probe_every=1.5),
                      dict(clip_norm=-1),
                      dict(budget=0),
                      dict(url="nowhere")):
            with self.assertRaises(ValueError):
                self.watch(optimizer, **wrong)
        with self.assertRaises(TypeError):
            self.watch(optimizer, probe=1)
        with self.assertRaises(TypeError):
            lyapd.watch("model", optimizer, run="r")
        with self.assertRaises(TypeError):
            lyapd.watch(self.model, None, run="r")

    def test_a_forked_child_is_silent(self):
        optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        monitor = self.watch(optimizer)
        self.train(monitor, optimizer, 1)
        self.assertTrue(monitor.flush(5))
        child = os.fork()
        if child == 0:
            monitor.step(0.0)
            monitor.close()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        self.assertEqual(status, 0)
        self.train(monitor, optimizer, 1)
        self.assertEqual(len(self.pushed(monitor)), 2)

    def test_the_interpreter_ends_and_the_rest_is_sent(self):
        code = """
import sys; sys.path.insert(0, %r)
import torch, lyapd
model = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
monitor = lyapd.watch(model, optimizer, run="r", url=sys.argv[1])
for _ in range(5):
    loss = model(torch.ones(1, 2)).sum(); loss.backward(); monitor.step(loss); optimizer.step()
""" % os.path.join(ROOT, "clients", "python")
        subprocess.run([sys.executable, "-c", code, self.daemon.url], check=True, timeout=60)
        self.assertEqual([request.step for request in self.daemon.pushes], list(range(5)))
        self.assertEqual(self.daemon.puts[-1].json(), {"ended": True})
        started = time.monotonic()
        subprocess.run([sys.executable, "-c", code, "http://127.0.0.1:%d" % free_port()],
                       check=True, timeout=60, stderr=subprocess.DEVNULL)
        self.assertLess(time.monotonic() - started, 30)

    def test_the_monitor_is_not_kept_alive(self):
        optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        monitor = lyapd.watch(self.model, optimizer, run="r", url=self.daemon.url)
        monitor.step(0.0)
        monitor.close(2)
        reference = weakref.ref(monitor)
        del monitor
        gc.collect()
        self.assertIsNone(reference())


if __name__ == "__main__":
    unittest.main()
