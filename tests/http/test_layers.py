"""The representation family over HTTP: bounds of declared layers against numpy's singular values,
residual blocks, local gains, empirical gains in both grades, and what a restart keeps."""
import math
import time
import unittest

import numpy as np

from blackbox import DaemonCase

CIRCULAR = {"kind": "conv2d", "tensor": "conv", "padding": 1, "padding_mode": "circular", "input": [6, 6]}


def wire(arrays):
    """numpy arrays as the body of a JSON push wants them."""
    return {name: {"shape": list(a.shape), "data": a.ravel().tolist()} for name, a in arrays.items()}


def sigma(matrix):
    return float(np.linalg.svd(matrix, compute_uv=False)[0])


class Layers(DaemonCase):
    def setUp(self):
        super().setUp()
        self.rng = np.random.default_rng(5)

    def declare(self, run, layers, status=201, **fields):
        reply = self.daemon.put(f"/v1/runs/{run}", dict(fields, layers=layers, optimizer={"type": "sgd", "lr": 0.01}))
        self.assertEqual(reply.status, status, reply)
        return reply

    def push(self, run, step, params, acts=None):
        arrays = {f"param/{name}": value for name, value in params.items()}
        arrays.update({f"grad/{name}": 0.1 * value for name, value in params.items()})
        arrays.update(acts or {})
        body = {"step": step, "loss": 1.0, "lr": 0.01, "tensors": wire(arrays)}
        return self.ok(self.daemon.push_json(run, body))["metrics"]

    def layers(self, run):
        reply = self.daemon.get(f"/v1/runs/{run}/layers")
        self.assertEqual(reply.status, 200, reply)
        return {row["layer"]: row for row in reply.json["layers"]}

    def settle(self, run, step, params, layer, method, acts=None):
        """Pushes until the worker's bound has entered; returns the point and the layers."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            metrics = self.push(run, step, params, acts)
            rows = self.layers(run)
            if rows[layer]["method"] == method:
                return step + 1, metrics, rows
            step += 1
            time.sleep(0.05)
        self.fail(f"{layer} is still {rows[layer]}")

    def mlp(self):
        return {"a": self.rng.normal(size=(8, 5)), "b": self.rng.normal(size=(8, 8)), "c": self.rng.normal(size=(3, 8))}

    MLP = [
        {"name": "a", "kind": "linear", "tensor": "a", "activation": "gelu"},
        {"name": "b", "kind": "linear", "tensor": "b", "activation": "tanh"},
        {"name": "c", "kind": "linear", "tensor": "c"},
    ]

    def test_product_of_a_perceptron(self):
        params = self.mlp()
        self.declare("mlp", self.MLP)
        metrics = self.push("mlp", 0, params)
        exact = sum(math.log(sigma(w)) for w in params.values()) + math.log(1.1290)
        value = metrics["forward_bound"]
        self.assertEqual(value["trust"], "I")
        self.assertGreaterEqual(value["value"], exact - 1e-9)
        self.assertLess(value["value"], exact + 0.03)  # Gram bounds, at most .2 % over each
        rows = self.layers("mlp")
        self.assertEqual(list(rows), ["a", "b", "c"])
        self.assertEqual((rows["a"]["kind"], rows["a"]["method"], rows["a"]["step"]), ("linear", "matrix", 0))
        self.assertGreaterEqual(rows["a"]["gain"]["value"], 1.1290 * sigma(params["a"]) * (1 - 1e-12))
        self.assertEqual(rows["c"]["log_product"]["value"], value["value"])
        self.assertEqual(metrics["cfl_margin"]["reason"], "no-residual-block")
        self.assertEqual(metrics["empirical_gain"]["reason"], "needs-activations")
        # Scaling a weight moves its gain alone (SPEC 6.6 g).
        params["b"] = 3 * params["b"]
        moved = self.push("mlp", 1, params)["forward_bound"]["value"]
        self.assertGreaterEqual(moved, exact + math.log(3) - 1e-9)

    def test_bounds_hold_while_weights_move(self):
        params = self.mlp()
        params["conv"] = self.rng.normal(size=(2, 2, 3, 3))
        layers = self.MLP + [dict(CIRCULAR, name="conv")]
        self.declare("moving", layers)
        for step in range(30):
            params = {k: v + 0.02 * self.rng.normal(size=v.shape) for k, v in params.items()}
            self.push("moving", step, params)
            rows = self.layers("moving")
            for name in "abc":
                factor = 1.1290 if name == "a" else 1
                self.assertGreaterEqual(rows[name]["gain"]["value"], factor * sigma(params[name]) * (1 - 1e-9))
            symbols = np.fft.fft2(params["conv"], (6, 6)).transpose(2, 3, 0, 1)
            truth = np.linalg.svd(symbols, compute_uv=False).max()
            self.assertGreaterEqual(rows["conv"]["gain"]["value"], truth * (1 - 1e-9), rows["conv"])

    def test_a_convolution_on_its_torus(self):
        params = {"conv": np.ones((1, 1, 3, 3))}
        self.declare("conv", [dict(CIRCULAR, name="c")])
        self.push("conv", 0, params)
        row = self.layers("conv")["c"]
        self.assertEqual(row["method"], "frobenius")  # sqrt(9) |K|_F, before the worker had a turn
        self.close_to(row["gain"]["value"], 9, 1e-12)
        params = {"conv": np.array([[[[0, 1, 0], [1, 1, 1], [0, 1, 0.0]]]])}
        self.declare("cross", [dict(CIRCULAR, name="c")])
        _, metrics, rows = self.settle("cross", 0, params, "c", "torus")
        self.close_to(rows["c"]["gain"]["value"], 5, 1e-12)
        self.close_to(metrics["forward_bound"]["value"], math.log(5), 1e-12)
        self.assertIsNotNone(rows["c"]["bound_step"])

    def test_structured_blocks(self):
        skew = np.array([[0.0, 1.0], [-1.0, 0.0]])
        stable = np.array([[-2.0, 1.0], [-1.0, -2.0]])
        w = self.rng.normal(size=(3, 2))
        params = {"skew": skew, "stable": stable, "w": w, "gate": np.array([[-1.0, 0.5], [0.2, -1.0]])}
        block = {"kind": "residual", "step": 0.5}
        self.declare("blocks", [
            dict(block, name="skew", structure="constant", tensor="skew"),
            dict(block, name="stable", structure="constant", tensor="stable", step=0.1),
            dict(block, name="sym", structure="symmetric", tensor="w", activation="tanh", step=0.1),
            dict(block, name="gated", structure="gated", tensor="gate", activation="relu"),
        ])
        _, metrics, rows = self.settle("blocks", 0, params, "skew", "log-norm")
        self.close_to(rows["skew"]["log_norm_gain"]["value"], math.sqrt(1.25), 2e-3)
        self.assertEqual(rows["skew"]["cfl_margin"]["reason"], "mu-nonnegative")
        self.close_to(rows["stable"]["log_norm"]["value"], -2, 1e-12)
        self.close_to(rows["stable"]["cfl_margin"]["value"], (4 / 5) / 0.1, 1e-2)
        self.close_to(rows["stable"]["backward_gain"]["value"], 1 / 1.2, 1e-12)
        self.close_to(rows["sym"]["cfl_margin"]["value"], 2 / sigma(w) ** 2 / 0.1, 1e-2)
        self.close_to(rows["sym"]["gain"]["value"], max(1, 0.1 * sigma(w) ** 2 - 1), 1e-2)
        self.close_to(rows["gated"]["gain_inf"]["value"], 1, 1e-12)
        # One block without a certificate: there is none for the network.
        self.assertEqual(metrics["cfl_margin"]["reason"], "mu-nonnegative")
        self.close_to(metrics["residual_gain"]["value"], 1 + 0.5 * sigma(params["gate"]), 5e-3)

    def test_free_block_with_shortcut(self):
        params = {"u": self.rng.normal(size=(4, 4)), "v": self.rng.normal(size=(4, 4)), "s": self.rng.normal(size=(4, 4))}
        self.declare("free", [
            {"name": "u", "kind": "linear", "tensor": "u", "activation": "relu"},
            {"name": "v", "kind": "linear", "tensor": "v"},
            {"name": "s", "kind": "linear", "tensor": "s"},
            {"name": "blk", "kind": "residual", "inner": ["u", "v"], "shortcut": ["s"], "activation": "relu"},
        ])
        metrics = self.push("free", 0, params)
        exact = sigma(params["s"]) + sigma(params["u"]) * sigma(params["v"])
        row = self.layers("free")["blk"]
        self.assertEqual(row["method"], "triangle")
        self.close_to(row["triangle"]["value"], exact, 1e-2)
        self.assertGreaterEqual(row["triangle"]["value"], exact * (1 - 1e-12))
        self.assertEqual(row["log_norm_gain"]["reason"], "mu-nonnegative")
        self.close_to(metrics["forward_bound"]["value"], math.log(row["gain"]["value"]), 1e-12)
        self.assertEqual(self.layers("free")["u"]["log_product"]["reason"], "not-applicable")

    TRANSFORMER = [
        {"name": "norm", "kind": "layernorm", "tensor": "gamma", "eps": 1e-5},
        {"name": "attn", "kind": "attention", "tensor": "qkv", "output": "out", "heads": 2},
        {"name": "head", "kind": "linear", "tensor": "head"},
    ]

    def test_attention_and_norms_are_local(self):
        params = {"gamma": np.full(4, 1.5), "qkv": 0.3 * self.rng.normal(size=(12, 4)),
                  "out": self.rng.normal(size=(4, 4)), "head": self.rng.normal(size=(2, 4))}
        x, h = self.rng.normal(size=(2, 3, 4)), self.rng.normal(size=(2, 3, 4))
        acts = {"act/input": x, "act/norm": h}
        self.declare("local", self.TRANSFORMER)
        metrics = self.push("local", 0, params)
        self.assertEqual(metrics["forward_bound"]["reason"], "no-global-bound")
        self.assertEqual(metrics["forward_bound_local"]["reason"], "needs-activations")
        _, metrics, rows = self.settle("local", 1, params, "attn", "tokens", acts)
        self.assertEqual(metrics["forward_bound"]["reason"], "no-global-bound")
        self.assertEqual(metrics["forward_bound_local"]["trust"], "C")
        least = x.reshape(-1, 4).var(axis=1).min()
        self.close_to(rows["norm"]["local_gain"]["value"], 1.5 / math.sqrt(least + 1e-5), 1e-12)
        self.assertEqual((rows["norm"]["local_gain"]["trust"], rows["norm"]["gain"]["reason"]), ("E", "no-global-bound"))
        q, k, v = params["qkv"].reshape(3, 2, 2, 4)
        tokens = max(sigma(sample) for sample in h)
        bound = 0
        for head in range(2):
            value = sigma(params["out"][:, 2 * head:2 * head + 2] @ v[head])
            bound += value * (math.sqrt(3) + tokens**2 * sigma(q[head].T @ k[head]) / math.sqrt(2))
        self.assertGreaterEqual(rows["attn"]["local_gain"]["value"], bound * (1 - 1e-12))
        self.assertLess(rows["attn"]["local_gain"]["value"], 2 * bound)  # |X'X|_F for |X|_2^2

    def test_batchnorm_is_exact_channel_by_channel(self):
        params = {"gamma": np.array([1.0, -2.0, 4.0]), "w": self.rng.normal(size=(2, 3))}
        gates = {"gate/norm": np.array([[3.0, 1.0, 0.5]])}
        layers = [{"name": "norm", "kind": "batchnorm", "tensor": "gamma", "eps": 1e-5},
                  {"name": "head", "kind": "linear", "tensor": "w"}]
        self.declare("exact", layers)
        self.push("exact", 0, params, gates)
        self.assertEqual(self.layers("exact")["norm"]["gain"], {"value": 3.0, "trust": "I"})
        self.declare("sketch", layers, retention="sketch")
        self.push("sketch", 0, params, gates)
        self.assertEqual(self.layers("sketch")["norm"]["gain"]["value"], 4 * 3.0)  # from above

    def test_gates_of_a_linear_layer_count_one_by_one(self):
        params = self.mlp()
        gates = (self.rng.normal(size=(2, 4, 8)) > 0.8).astype(float)  # 8 inputs: each a group of its own
        self.declare("gates", [dict(layer, activation="relu") for layer in self.MLP])
        self.push("gates", 0, params, {"gate/b": gates})
        coarse = self.layers("gates")["b"]["local_gain"]["value"]
        self.assertGreaterEqual(coarse, sigma(params["b"]) * (1 - 1e-12))
        exact = max(sigma(np.diag(gate) @ params["b"]) for gate in gates.reshape(-1, 8))
        deadline = time.monotonic() + 60
        for step in range(1, 400):
            metrics = self.push("gates", step, params)
            row = self.layers("gates")["b"]
            if row["local_gain"]["value"] < coarse or time.monotonic() > deadline:
                break
            time.sleep(0.05)
        self.close_to(row["local_gain"]["value"], exact, 1e-12)
        self.assertLess(exact, 0.95 * coarse)
        self.assertEqual((row["local_gain"]["trust"], row["bound_step"]), ("E", 0))
        local = sum(math.log(sigma(params[name])) for name in "ac") + math.log(exact)
        self.assertGreaterEqual(metrics["forward_bound_local"]["value"], local - 1e-9)
        self.assertLess(metrics["forward_bound_local"]["value"], local + 0.03)

    def perturbed(self, scale):
        x = self.rng.normal(size=(6, 5))
        d = 1e-3 * self.rng.normal(size=(6, 5))
        y = self.rng.normal(size=(6, 3))
        e = 1e-3 * scale * self.rng.normal(size=(6, 3))
        return {"act/input": x, "act_perturbed/input": x + d, "act/c": y, "act_perturbed/c": y + e}, np.linalg.norm(
            y + e - y) / np.linalg.norm(x + d - x)

    def test_empirical_gain_grows_is_kept_and_alerts(self):
        params = self.mlp()
        self.declare("gain", self.MLP)
        largest = 0
        for step, scale in enumerate([1, 1, 1, 5, 2]):
            acts, exact = self.perturbed(scale)
            metrics = self.push("gain", step, params, acts)
            largest = max(largest, exact)
            self.close_to(metrics["empirical_gain"]["value"], exact, 1e-12)
            if step == 3:
                self.assertGreater(metrics["empirical_gain_growth"]["value"], 2)
                alerts = self.daemon.get("/v1/alerts?run=gain&rule=representation-growth").json["alerts"]
                self.assertEqual([alert["severity"] for alert in alerts], ["info"])
                named = alerts[0]["evidence"]["layers"]
                self.assertEqual([layer["name"] for layer in named], ["c"])
                self.assertEqual(named[0]["growth"], metrics["empirical_gain_growth"]["value"])
            else:
                self.assertEqual("value" in metrics["empirical_gain_growth"], True)
        row = self.layers("gain")["c"]
        self.close_to(row["empirical_gain"]["value"], exact, 1e-12)
        self.close_to(row["empirical_gain_max"]["value"], largest, 1e-12)
        self.assertEqual(self.layers("gain")["a"]["empirical_gain"]["reason"], "needs-activations")
        self.daemon.kill()
        self.daemon.start()
        self.assertEqual(self.layers("gain")["c"], row)  # what was answered is there
        acts, exact = self.perturbed(1)
        metrics = self.push("gain", 5, params, acts)
        self.close_to(self.layers("gain")["c"]["empirical_gain_max"]["value"], largest, 1e-12)
        tensors = self.daemon.get("/v1/runs/gain/tensors?sort=empirical_gain&limit=1").json["tensors"]
        self.assertEqual(tensors[0]["tensor"], "c")
        self.close_to(tensors[0]["metrics"]["empirical_gain"], exact, 1e-12)
        self.assertIsNotNone(metrics["empirical_gain_growth"]["value"])  # its window was replayed

    def gains(self, run, step):
        """A push whose perturbations grow in the middle layer alone; the growths of layers and point."""
        rng = np.random.default_rng(step)
        acts = {}
        for name, width, scale in (("input", 5, 1), ("b", 8, 1.2 ** step), ("c", 3, 1)):
            x = rng.normal(size=(6, width))
            acts[f"act/{name}"] = x
            acts[f"act_perturbed/{name}"] = x + 1e-3 * scale * rng.normal(size=(6, width))
        metrics = self.push(run, step, self.params, acts)
        rows = self.layers(run)
        return [rows["b"]["empirical_gain_growth"], rows["c"]["empirical_gain_growth"],
                metrics["empirical_gain_growth"]]

    def test_growth_goes_on_after_a_restart(self):
        self.params = self.mlp()
        for run in ("whole", "cut"):
            self.declare(run, self.MLP)
        whole = [self.gains("whole", step) for step in range(12)]
        self.assertGreater(whole[-1][0]["value"], 4)
        for step in range(12):
            if step == 7:
                self.assertEqual(self.daemon.stop(), 0)  # saves the windows
                self.daemon.start()
            self.assertEqual(self.gains("cut", step), whole[step], step)
        self.daemon.kill()
        self.daemon.start()
        again = self.gains("cut", 12)  # nothing was saved: it fills anew, and says so
        self.assertEqual(again[0], {"value": None, "reason": "warming-up"})

    def test_both_grades_have_the_same_gain(self):
        params = self.mlp()
        acts, _ = self.perturbed(1)
        tensors = [{"name": name, "shape": list(value.shape)} for name, value in params.items()]
        self.declare("full", self.MLP)
        self.declare("partial", self.MLP, tensors=tensors)
        full = self.push("full", 0, params, acts)
        rows = {}
        for role, factor in (("param", 1.0), ("grad", 0.1)):
            for field, of in (("count", np.size), ("sq", lambda a: (a * a).sum()), ("abs", lambda a: abs(a).sum()),
                              ("zeros", lambda a: (a == 0).sum()), ("nonfinite", lambda a: 0),
                              ("max", lambda a: abs(a).max()), ("block_sq", lambda a: (a * a).sum())):
                rows[f"reduce/{role}_{field}"] = np.array([float(of(factor * v)) for v in params.values()])
            rows[f"sketch/{role}"] = np.zeros(4096)
        square = lambda name, other=0: float(((acts[name] - other) ** 2).sum())
        rows["reduce/act_sq"] = np.array([math.nan, math.nan, square("act/c")])
        rows["reduce/act_diff_sq"] = np.array([math.nan, math.nan, square("act_perturbed/c", acts["act/c"])])
        body = {"step": 0, "loss": 1.0, "lr": 0.01, "act_input_sq": square("act/input"),
                "act_input_diff_sq": square("act_perturbed/input", acts["act/input"]),
                "tensors": {name: {"shape": list(a.shape),
                                   "data": ["NaN" if math.isnan(v) else v for v in a.tolist()]} for name, a in rows.items()}}
        partial = self.ok(self.daemon.push_json("partial", body))["metrics"]
        for metric in ("empirical_gain", "empirical_gain_growth"):
            self.assertEqual(full[metric].get("reason"), partial[metric].get("reason"))
        self.close_to(partial["empirical_gain"]["value"], full["empirical_gain"]["value"], 1e-12)

    def test_what_is_refused(self):
        def refused(layers, fragment, **fields):
            reply = self.daemon.put("/v1/runs/refused", dict(fields, layers=layers))
            self.assertEqual((reply.status, fragment in reply.json["detail"]), (400, True), reply)

        tensors = [{"name": "w", "shape": [3]}]
        refused([{"name": "l", "kind": "linear", "tensor": "w"}], "layers[0].tensor", tensors=tensors)
        refused([{"name": "l", "kind": "linear", "tensor": "v"}], "no tensor of the run", tensors=tensors)
        refused([{"name": "l", "kind": "residual", "inner": ["l"]}], "within itself")
        self.declare("open", [{"name": "l", "kind": "linear", "tensor": "nowhere"}])
        metrics = self.push("open", 0, {"w": np.ones((2, 2))})
        self.assertEqual(metrics["forward_bound"]["reason"], "layer-mismatch")
        body = {"step": 1, "loss": 1.0, "tensors": wire({"param/w": np.ones((2, 2)), "act/q": np.ones((2, 2))})}
        reply = self.daemon.push_json("open", body)
        self.assertEqual((reply.status, "no declared layer" in reply.json["detail"]), (400, True), reply)
        body["tensors"] = wire({"param/w": np.ones((2, 2)), "act/l": np.ones((2, 2)), "act_perturbed/l": np.ones((2, 3))})
        reply = self.daemon.push_json("open", body)
        self.assertEqual((reply.status, "number of elements" in reply.json["detail"]), (400, True), reply)
        self.assertEqual(self.push("none", 0, {"w": np.ones((2, 2))})["forward_bound"]["reason"], "no-layers")
        self.assertEqual(self.layers("none"), {})
        self.assertEqual(self.daemon.get("/v1/runs/nobody/layers").status, 404)


if __name__ == "__main__":
    unittest.main()
