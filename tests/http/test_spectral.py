"""Norms of weights (docs/spec.md 1.2) from outside: bounds on the right side in both retentions, ranks
in every order, attempts and restarts, the worker and its end."""
import itertools
import json
import math
import random
import re
import unittest

from blackbox import DaemonCase

ROWS, COLS = 12, 8
SIGMA = [5.0, 4.9, 3.0, 1.0]


def reflection(n, rng):
    u = [rng.gauss(0, 1) for _ in range(n)]
    square = sum(x * x for x in u)
    return [[(i == j) - 2 * u[i] * u[j] / square for j in range(n)] for i in range(n)]


def matrix(rows, cols, sigma, seed):
    """Row-major, with these singular values: between two reflections."""
    rng = random.Random(seed)
    left, right = reflection(rows, rng), reflection(cols, rng)
    return [
        sum(s * left[i][k] * right[j][k] for k, s in enumerate(sigma))
        for i in range(rows)
        for j in range(cols)
    ]


def body(w, step, rows=ROWS, cols=COLS):
    tensors = {
        "param/w": ([rows, cols], w),
        "grad/w": ([rows, cols], [0.1] * len(w)),
        "param/b": ([2], [1.0, 2.0]),
        "grad/b": ([2], [0.1, 0.1]),
    }
    return tensors, {"step": step, "loss": 1.0, "lr": 0.1}


class Spectral(DaemonCase):
    flags = ("--spectral_every=3",)

    def push(self, run, w, step, **more):
        return self.ok(self.daemon.push_tensors(run, *body(w, step, **more)))["metrics"]

    def row(self, run):
        rows = self.ok(self.daemon.get("/v1/runs/%s/tensors" % run))["tensors"]
        return {r["tensor"]: r["metrics"] for r in rows}

    def counter(self, name):
        text = self.daemon.get("/metrics").body.decode()
        return float(re.search(r"^%s (\S+)$" % name, text, re.M).group(1))

    def test_bounds_in_both_retentions(self):
        for retention in ("exact", "sketch"):
            self.ok(self.daemon.put("/v1/runs/" + retention, {"retention": retention}), 201)
            rng = random.Random(1)
            for step in range(16):
                scale = 1 + 0.02 * step
                sigma = [s * scale for s in SIGMA]
                metrics = self.push(retention, matrix(ROWS, COLS, sigma, 3), step)
                lower, upper = metrics["spectral_norm"], metrics["spectral_norm_upper"]
                self.assertGreaterEqual(upper["value"], sigma[0] * (1 - 1e-9))
                self.assertEqual(upper["trust"], "I")
                if retention == "sketch" and step < 8:
                    self.assertEqual((lower["value"], lower["reason"]), (None, "warming-up"))
                    self.assertEqual(metrics["spectral_residual"]["reason"], "warming-up")
                    continue
                self.assertLessEqual(lower["value"], sigma[0] * (1 + 1e-9))
                self.assertGreaterEqual(lower["value"], 0.95 * sigma[0])
                self.assertEqual(lower["trust"], "I")
            rows = self.row(retention)
            self.assertEqual(rows["w"]["spectral_norm"], lower["value"])
            self.assertEqual(rows["w"]["spectral_norm_upper"], upper["value"])
            self.assertIsNone(rows["b"]["spectral_norm"])
            if retention == "exact":  # Gram bound and what moved since
                self.assertLess(upper["value"], 1.15 * sigma[0])
            del rng

    def test_a_run_without_matrices(self):
        document = {"step": 0, "loss": 1.0, "tensors": {"param/b": {"shape": [3], "data": [1, 2, 3]},
                                                        "grad/b": {"shape": [3], "data": [1, 1, 1]}}}
        metrics = self.ok(self.daemon.push_json("flat", document))["metrics"]
        for name in ("spectral_norm", "spectral_residual", "spectral_norm_upper"):
            self.assertEqual((metrics[name]["value"], metrics[name]["reason"]), (None, "not-applicable"))

    def test_nonfinite_weights(self):
        for step in range(3):
            self.push("nan", matrix(ROWS, COLS, SIGMA, 3), step)
        w = matrix(ROWS, COLS, SIGMA, 3)
        w[17] = math.nan
        self.assertEqual(self.push("nan", w, 3)["spectral_norm"]["reason"], "nonfinite")
        self.close_to(self.push("nan", matrix(ROWS, COLS, SIGMA, 3), 4)["spectral_norm"]["value"], 5, 0.02)

    def ranks(self, run, w, step, order, edges):
        for rank in order:
            part = w[edges[rank] : edges[rank + 1]]
            tensors = {"param/w": ([len(part)], part), "grad/w": ([len(part)], [0.1] * len(part))}
            shard = {"w": {"shape": [ROWS, COLS], "offset": edges[rank]}}
            metadata = {"step": step, "loss": 1.0, "lr": 0.1, "rank": rank, "world": len(order),
                        "shard": json.dumps(shard)}
            reply = self.daemon.push_tensors(run, tensors, metadata)
        return self.ok(reply)["metrics"]

    def test_ranks_in_every_order(self):
        """Whole rows on four ranks give what one rank gives; rows that are cut give a reason."""
        declared = {"tensors": [{"name": "w", "shape": [ROWS, COLS]}], "retention": "sketch"}
        edges = [0, 3 * COLS, 4 * COLS, 9 * COLS, ROWS * COLS]
        self.ok(self.daemon.put("/v1/runs/one", declared), 201)
        self.ok(self.daemon.put("/v1/runs/four", declared), 201)
        self.ok(self.daemon.put("/v1/runs/cut", declared), 201)
        for step, order in enumerate(itertools.permutations(range(4))):
            w = matrix(ROWS, COLS, [s + 0.01 * step for s in SIGMA], 5)
            tensors, metadata = body(w, step)
            one = self.ok(self.daemon.push_tensors(
                "one", {k: v for k, v in tensors.items() if k.endswith("/w")}, metadata))["metrics"]
            four = self.ranks("four", w, step, order, edges)
            cut = self.ranks("cut", w, step, order, [0, 3 * COLS + 1, 4 * COLS, 9 * COLS, ROWS * COLS])
            for name in ("spectral_norm", "spectral_residual", "spectral_norm_upper"):
                if one[name]["value"] is None:
                    self.assertEqual(one[name], four[name])
                else:
                    self.close_to(four[name]["value"], one[name]["value"], 1e-12)
            self.assertEqual(cut["spectral_norm"]["reason"], "shard-layout")
            self.assertGreaterEqual(cut["spectral_norm_upper"]["value"], 5 + 0.01 * step)
        self.assertIsNotNone(one["spectral_norm"]["value"])

    def test_ranks_ahead_share_their_vectors(self):
        """A rank that pushes the next step before this one is complete measures with the same vectors."""
        declared = {"tensors": [{"name": "w", "shape": [ROWS, COLS]}], "retention": "sketch"}
        half = ROWS // 2 * COLS
        self.ok(self.daemon.put("/v1/runs/ahead", declared), 201)
        w = matrix(ROWS, COLS, SIGMA, 7)

        def push(step, rank):
            part = w[:half] if rank == 0 else w[half:]
            tensors = {"param/w": ([half], part), "grad/w": ([half], [0.1] * half)}
            shard = {"w": {"shape": [ROWS, COLS], "offset": rank * half}}
            return self.daemon.push_tensors("ahead", tensors, {
                "step": step, "loss": 1.0, "lr": 0.1, "rank": rank, "world": 2,
                "shard": json.dumps(shard)}).json

        push(0, 0)
        for step in range(24):
            push(step + 1, 0)
            answer = push(step, 1)
        self.close_to(answer["metrics"]["spectral_norm"]["value"], 5, 0.01)

    def test_attempts_and_restarts(self):
        """Vectors go on over an attempt and over a stop; kill -9 starts them anew."""
        w = matrix(ROWS, COLS, SIGMA, 9)
        self.ok(self.daemon.put("/v1/runs/r", {"retention": "sketch"}), 201)
        for step in range(10):
            metrics = self.push("r", w, step)
        self.assertIsNotNone(metrics["spectral_norm"]["value"])
        self.ok(self.daemon.put("/v1/runs/r", {"attempt": "new", "attempt_key": "k"}))
        self.close_to(self.push("r", w, 0)["spectral_norm"]["value"], 5, 0.02)
        self.push("r", w, 1)
        self.assertEqual(self.daemon.stop(), 0)
        self.daemon.start()
        self.push("r", w, 2)  # its vectors were chosen before the run was read back
        self.close_to(self.push("r", w, 3)["spectral_norm"]["value"], 5, 0.02)
        self.daemon.kill()
        self.daemon.start()
        for step in range(4, 6):
            self.assertEqual(self.push("r", w, step)["spectral_norm"]["reason"], "warming-up")

    def large(self, side=512):
        rng = random.Random(side)
        w = [0.1 * rng.gauss(0, 1) for _ in range(side)] * side
        return [x * (1 + 0.001 * (i % 7)) for i, x in enumerate(w)]

    def test_the_worker_tightens_large_weights(self):
        w = self.large()
        first = self.push("big", w, 0, rows=512, cols=512)["spectral_norm_upper"]["value"]
        self.eventually(lambda: self.counter("lyapd_worker_tasks_total") >= 1, 60)
        step, best = 1, first
        while best > 0.9999 * first and step < 40:
            best = self.push("big", w, step, rows=512, cols=512)["spectral_norm_upper"]["value"]
            step += 1
        rows = self.row("big")["w"]
        self.assertLess(best, first)
        self.assertLessEqual(rows["spectral_norm"], best)
        self.assertLess(best, 1.01 * rows["spectral_norm"])  # nearly rank one: the bounds meet
        self.assertEqual(self.counter("lyapd_worker_dropped_total"), 0)
        self.assertEqual(self.counter("lyapd_worker_failures_total"), 0)

    def test_deleting_and_stopping_do_not_wait_for_the_worker(self):
        w = self.large(1024)
        for run in ("a", "b", "c"):
            self.push(run, w, 0, rows=1024, cols=1024)
        self.assertEqual(self.daemon.request("DELETE", "/v1/runs/a").status, 204)
        self.assertEqual(self.daemon.stop(timeout=30), 0)


if __name__ == "__main__":
    unittest.main()
