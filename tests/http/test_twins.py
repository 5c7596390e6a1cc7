"""Twins over HTTP (docs/spec.md 2.5, 4.2): distances of perturbed trainings against closed forms on
quadratics, several twins with QR, reasons, gaps, restarts, attempts, forms, ranks, bad input."""
import json
import math
import unittest

import numpy as np

from blackbox import DaemonCase
from twinning import Training, oracle, tangent_logs, text, unit

TWIN_METRICS = ("twin_log", "twin_log_2", "twin_log_3", "twin_log_4", "twin_rate", "twin_growth",
                "twin_active_rate", "window_verdict", "active_verdict", "sensitive_horizon")
CODES = {"DECAY": 0, "BOUNDED": 1, "INCONCLUSIVE": 2, "SUBEXPONENTIAL": 3, "GROWTH_UNRESOLVED": 4,
         "EXPONENTIAL": 5}
WORDS = ("decay", "bounded", "inconclusive", "subexponential", "growth-unresolved", "exponential")


class Twins(DaemonCase):
    def declare(self, run, **fields):
        self.ok(self.daemon.put("/v1/runs/" + run, fields), 201)

    def push(self, run, document):
        return self.ok(self.daemon.push_json(run, document))

    def lines(self, run, documents):
        reply, answers = self.daemon.push_ndjson(run, documents)
        self.assertEqual({a["status"] for a in answers}, {"accepted"}, answers[:2])
        return answers

    def train(self, run, training, steps):
        """Snapshots 0 .. steps, pushed together; the answers."""
        documents = []
        for _ in range(steps + 1):
            documents.append(training.document())
            training.advance()
        return self.lines(run, documents)

    def logs(self, run, logs, first=0, spacing=1, **more):
        """Pushes distances without a training."""
        return self.lines(run, [dict({"step": first + spacing * i, "loss": 1, "twin_log": y}, **more)
                                for i, y in enumerate(logs)])

    def value(self, point, metric):
        found = point["metrics"][metric]
        self.assertIsNotNone(found["value"], (metric, found))
        return found["value"]

    def reason(self, point, metric):
        found = point["metrics"][metric]
        self.assertIsNone(found["value"], (metric, found))
        return found["reason"]

    def agrees(self, point, y, tolerance):
        """The twin metrics of the point are those of the log distances y (SPEC 4.2)."""
        want = oracle.verdict(y)
        rate = point["metrics"]["twin_rate"]
        self.assertEqual(rate["trust"], "E")
        self.assertAlmostEqual(rate["value"], want["rate"], delta=tolerance)
        self.assertAlmostEqual(rate["error"], want["ci"], delta=tolerance)
        self.assertAlmostEqual(self.value(point, "twin_growth"), want["logM"], delta=1e-6)
        self.assertEqual(self.value(point, "window_verdict"), CODES[want["verdict"]])

    # ---- closed forms

    def test_gradient_descent_along_one_mode(self):
        """y_t = t log|1 - eta a|, exactly: decaying, neutral and growing modes."""
        a, lr = (2.0, 12.0, 0.0, 21.0, -0.5), 0.1
        for i, curvature in enumerate(a):
            run, exact = "mode-%d" % i, math.log(abs(1 - lr * curvature))
            training = Training(a, lr, start=[1, 1, 1, 0, 0], twins={"random": np.eye(5)[i]})
            answers = self.train(run, training, 300)
            for t in (64, 65, 256, 300):
                self.assertAlmostEqual(self.value(answers[t], "twin_log"), exact * t, delta=1e-7)
                self.assertAlmostEqual(self.value(answers[t], "twin_rate"), exact, delta=1e-9)
                rise = max(0.0, exact) * (64 if t < 256 else 256)
                self.assertAlmostEqual(self.value(answers[t], "twin_growth"), rise, delta=1e-7)
            word = "bounded" if exact == 0 else "exponential" if exact > 0 else "decay"
            self.assertEqual(answers[300]["verdict_detail"]["twin"], word)
            self.assertEqual(answers[63]["metrics"]["twin_rate"],
                             {"value": None, "reason": "warming-up"})
            self.assertEqual(answers[0]["twins"], ["random", None, None, None])

    def test_a_random_direction_of_gradient_descent(self):
        """All modes at once: the window's verdict is that of the exact tangent product."""
        a, lr, q = np.array([0.3, 5.0, 11.0, 20.6]), 0.1, [0.6, -0.5, 0.4, 1e-3]
        training = Training(a, lr, start=[1, -1, 1, 0], twins={"random": q})
        exact = tangent_logs(a, lr, 0.0, q, 400)
        for t, point in enumerate(self.train("gd", training, 400)):
            self.assertAlmostEqual(self.value(point, "twin_log"), exact[t], delta=1e-7)
            if t >= 64:
                window = 256 if t >= 256 else 64
                self.agrees(point, exact[t - window:t + 1], 1e-9)

    def test_heavy_ball(self):
        """Within its limit (the root's radius is sqrt(beta)), beyond it, and at a saddle; against
        powers of the exact 2 x 2 map, and its spectral radius."""
        lr, beta = 0.1, 0.8
        for name, a, bound in (("inside", (1.0, 8.0), 1e-2), ("beyond", (1.0, 37.0), 2e-4),
                               ("saddle", (1.0, -0.3), 2e-4)):
            training = Training(a, lr, beta, start=[1, 0], twins={"random": [0.3, 1]})
            exact = tangent_logs(a, lr, beta, [0.3, 1], 300)
            answers = self.train(name, training, 300)
            for t in range(64, 301):
                self.assertAlmostEqual(self.value(answers[t], "twin_log"), exact[t], delta=1e-6)
                window = 256 if t >= 256 else 64
                self.agrees(answers[t], exact[t - window:t + 1], 1e-7)
            radius = max(oracle.spectral_radius(oracle.A_heavyball(lr, beta, x)) for x in a)
            self.assertAlmostEqual(self.value(answers[300], "twin_rate"), math.log(radius),
                                   delta=bound)
            if name == "inside":
                self.assertAlmostEqual(math.log(radius), 0.5 * math.log(beta), delta=1e-12)

    def test_several_twins_tell_the_spectrum(self):
        """QR of three random directions and one along v: each slot has its own exponent, the
        metric the largest."""
        a, lr = np.array([25.0, 22.0, 5.0, 9.0]), 0.1
        random = np.random.default_rng(3)
        directions = {"random": random.normal(size=4), "random-2": random.normal(size=4),
                      "random-3": random.normal(size=4), "active": np.eye(4)[1]}
        training = Training(a, lr, start=np.zeros(4), twins=directions)
        answers = self.train("spectrum", training, 520)
        spectrum = sorted((math.log(abs(1 - lr * x)) for x in a), reverse=True)
        last = answers[-1]
        self.assertEqual(last["twins"], list(directions))
        windows = self.ok(self.daemon.get("/v1/runs/spectrum/profile/windows?window=256"
                                          "&metric=twin_log&metric=twin_log_2&metric=twin_log_3"))
        found = [windows["windows"][0]["metrics"][m]["growth"]["rate"]
                 for m in ("twin_log", "twin_log_2", "twin_log_3")]
        for rate, exact in zip(found, spectrum):
            self.assertAlmostEqual(rate, exact, delta=1e-3)
        self.assertAlmostEqual(self.value(last, "twin_rate"), spectrum[0], delta=1e-3)
        self.assertAlmostEqual(self.value(last, "twin_active_rate"), math.log(1.2), delta=1e-9)
        self.assertEqual((last["verdict_detail"]["twin"], last["verdict_detail"]["active_twin"]),
                         ("exponential", "exponential"))
        self.assertEqual(self.value(last, "active_verdict"), 5)

    def test_the_active_direction_sees_what_a_random_one_does_not(self):
        a = np.concatenate([[20.5], np.linspace(0, 1e-3, 40)])
        flat = np.concatenate([[0.0], np.ones(40)])
        training = Training(a, 0.1, start=np.zeros(41), twins={"random": flat, "active": np.eye(41)[0]})
        point = self.train("v", training, 64)[-1]
        self.assertEqual((point["verdict_detail"]["twin"], point["verdict_detail"]["active_twin"]),
                         ("bounded", "exponential"))
        self.assertAlmostEqual(self.value(point, "twin_active_rate"), math.log(1.05), delta=1e-9)
        self.assertEqual(self.value(point, "twin_rate"), self.value(point, "twin_active_rate"))

    def test_renormalisations_leave_no_trace(self):
        """One that is moved back a dozen times and one that never is say the same."""
        a, q = (4.0, 23.0), [0.2, 1]
        often = self.train("often", Training(a, 0.1, start=[1, 0], twins={"random": q}), 150)
        for t, y in enumerate(tangent_logs(a, 0.1, 0.0, q, 150)):
            self.assertAlmostEqual(self.value(often[t], "twin_log"), y, delta=1e-7)
        self.assertGreater(self.value(often[-1], "twin_log"), 2 * math.log(100))  # it was, twice
        big = Training(a, 0.1, start=[1, 0], twins={"random": q}, size=1e-2)
        big.renormalise = lambda: None
        never = self.train("never", big, 150)
        self.assertAlmostEqual(self.value(never[-1], "twin_rate"), self.value(often[-1], "twin_rate"),
                               delta=1e-9)

    def test_rates_are_per_step_whatever_is_pushed(self):
        a, lr, exact = (1.0, 21.0), 0.1, math.log(1.1)
        for spacing in (2, 7):
            training, documents = Training(a, lr, start=[1, 0], twins={"random": [0, 1]}), []
            for t in range(64 * spacing + 1):
                if t % spacing == 0:
                    documents.append(training.document())
                training.advance()
            point = self.lines("every-%d" % spacing, documents)[-1]
            self.assertAlmostEqual(self.value(point, "twin_rate"), exact, delta=1e-9)
            self.assertAlmostEqual(self.value(point, "twin_growth"), 64 * spacing * exact, delta=1e-7)

    # ---- when there is no number

    def test_without_a_twin(self):
        point = self.push("none", {"step": 0, "loss": 1, "lr": 0.1})
        for metric in TWIN_METRICS:
            self.assertEqual(self.reason(point, metric), "no-twin", metric)
        self.assertNotIn("twins", point)
        self.assertIsNone(point["verdict_detail"]["twin"])
        self.assertNotIn("twin", point["verdict_detail"]["sides"])

    def test_reasons_while_it_warms_up_and_after(self):
        answers = self.logs("r", [0.01 * t for t in range(66)])
        for point in answers[:64]:
            self.assertEqual(self.reason(point, "twin_rate"), "warming-up")
            self.assertEqual(self.reason(point, "window_verdict"), "warming-up")
            self.assertEqual(self.reason(point, "twin_active_rate"), "no-twin")
        self.assertEqual(self.reason(answers[65], "sensitive_horizon"), "no-horizon")
        # Silent: the last fit stays for eight spacings, then there is no twin any more.
        for t in range(66, 74):
            point = self.push("r", {"step": t, "loss": 1})
            self.assertAlmostEqual(self.value(point, "twin_rate"), 0.01, delta=1e-12)
            self.assertEqual(self.reason(point, "twin_log"), "no-twin")
        point = self.push("r", {"step": 74, "loss": 1})
        self.assertEqual(self.reason(point, "twin_rate"), "no-twin")
        self.assertEqual(point["verdict_detail"]["sides"], [])

    def test_a_gap_of_a_block_hides_the_shape(self):
        self.logs("g", [0.01 * t for t in range(60)])
        point = self.logs("g", [0.01 * t for t in range(63, 73)], 63)[-1]
        self.assertAlmostEqual(self.value(point, "twin_rate"), 0.01, delta=1e-3)
        point = self.push("g", {"step": 200, "loss": 1, "twin_log": 2.0})
        self.assertEqual(self.reason(point, "twin_rate"), "step-gap")
        answers = self.logs("g", [2 + 0.05 * t for t in range(1, 65)], 201)
        self.assertEqual(self.reason(answers[-2], "twin_rate"), "step-gap")
        self.assertAlmostEqual(self.value(answers[-1], "twin_rate"), 0.05, delta=1e-12)

    def test_a_new_injection_starts_anew(self):
        self.logs("i", [0.05 * t for t in range(100)])
        answers = self.logs("i", [-0.02 * t for t in range(65)], 100)
        for point in answers[:-1]:
            self.assertEqual(self.reason(point, "twin_rate"), "warming-up")
        self.assertAlmostEqual(self.value(answers[-1], "twin_rate"), -0.02, delta=1e-12)
        self.assertEqual(answers[-1]["verdict_detail"]["twin"], "decay")

    def test_a_distance_that_overflowed_or_vanished(self):
        self.logs("inf", [0.1 * t for t in range(70)])
        for step, value in ((70, "Infinity"), (71, "-Infinity"), (72, "NaN")):
            point = self.push("inf", {"step": step, "loss": 1, "twin_log": value})
            self.assertEqual(point["metrics"]["twin_log"]["value"], value)
            self.assertEqual(self.reason(point, "twin_rate"), "nonfinite")
            self.assertIsNone(point["verdict_detail"]["twin"])
        point = self.push("inf", {"step": 73, "loss": 1, "twin_log": 7.3})
        self.assertAlmostEqual(self.value(point, "twin_rate"), 0.1, delta=1e-2)
        series = self.ok(self.daemon.get("/v1/runs/inf/profile?metric=twin_log&from=70"))
        self.assertEqual(series["series"]["twin_log"], ["Infinity", "-Infinity", "NaN", 7.3])

    # ---- life: restarts, attempts, slots, forms, ranks

    def test_a_kill_in_the_middle_changes_no_bit(self):
        def snapshots():
            training = Training((3.0, 20.4, 0.0), 0.1, 0.3, start=[1, 0, 1],
                                twins={"random": [1, 2, 3], "b": [3, 0, 1], "active": [0, 1, 0]})
            for _ in range(160):
                yield training.document()
                training.advance()
        for run in ("whole", "killed"):
            self.declare(run, optimizer={"type": "sgd", "momentum": 0.3}, windows=[64, 100],
                         steps=1000, data="full-batch")
        whole = self.lines("whole", list(snapshots()))
        killed, kills = [], {20: self.daemon.kill, 90: self.daemon.stop, 131: self.daemon.kill}
        for t, document in enumerate(snapshots()):
            if t in kills:
                kills[t]()
                self.daemon.start()
            killed.append(self.push("killed", document))
        for t, (a, b) in enumerate(zip(whole, killed)):
            for metric in TWIN_METRICS:
                self.assertEqual(a["metrics"][metric], b["metrics"][metric], (t, metric))
            self.assertEqual((a["twins"], a["verdict_detail"]["twin"]),
                             (b["twins"], b["verdict_detail"]["twin"]))
        self.daemon.kill()
        self.daemon.start()
        latest = self.ok(self.daemon.get("/v1/runs/killed/profile/latest"))
        for field in ("metrics", "twins", "verdict", "verdict_detail"):
            self.assertEqual(latest[field], killed[-1][field])

    def test_an_attempt_starts_without_twins(self):
        self.logs("a", [0.1 * t for t in range(70)])
        self.ok(self.daemon.put("/v1/runs/a", {"attempt": "new", "attempt_key": "k"}))
        point = self.push("a", {"step": 0, "loss": 1})
        self.assertEqual(self.reason(point, "twin_rate"), "no-twin")
        answers = self.logs("a", [-0.03 * t for t in range(65)], 1)
        self.assertEqual(self.reason(answers[-2], "twin_rate"), "warming-up")
        self.assertAlmostEqual(self.value(answers[-1], "twin_rate"), -0.03, delta=1e-12)

    def test_a_twin_that_joins_late_and_one_that_leaves(self):
        self.logs("late", [0.0] * 30)
        both = [{"step": 30 + t, "loss": 1, "twin_log": [0.0, 0.04 * t], "twin_name": "random,b"}
                for t in range(65)]
        answers = self.lines("late", both)
        self.assertEqual(answers[-2]["verdict_detail"]["twin"], "bounded")
        self.assertEqual(answers[-1]["verdict_detail"]["twin"], "exponential")
        self.assertEqual(answers[-1]["twins"], ["random", "b", None, None])
        answers = self.logs("late", [0.0] * 9, 95, twin_name="random")
        self.assertEqual(answers[7]["verdict_detail"]["twin"], "exponential")
        self.assertEqual(answers[8]["verdict_detail"]["twin"], "bounded")  # b was not heard of

    def test_a_fifth_name_takes_the_place_of_the_silent_one(self):
        four = {"twin_log": [1, 2, 3, 4], "twin_name": "a,b,c,d"}
        self.push("slots", dict(four, step=0, loss=1))
        point = self.push("slots", {"step": 1, "loss": 1, "twin_log": [5, 6], "twin_name": "d,e"})
        self.assertEqual(point["twins"], ["e", None, None, "d"])
        self.assertEqual((self.value(point, "twin_log"), self.value(point, "twin_log_4")), (6, 5))
        # The order in which they are listed does not matter.
        point = self.push("slots", {"step": 2, "loss": 1, "twin_log": [7, 8, 9, 10],
                                    "twin_name": "c, e,d ,b"})
        self.assertEqual(point["twins"], ["e", "b", "c", "d"])
        self.assertEqual([self.value(point, m) for m in TWIN_METRICS[:4]], [8, 10, 7, 9])

    def test_every_form_says_the_same(self):
        training = Training((1.0, 20.5), 0.1, start=[1, 0],
                            twins={"random": [1, 1], "active": [0, 1]})
        for _ in range(66):
            document = training.document()
            points = {
                "json": self.push("json", document),
                "line": self.lines("line", [document])[0],
                "file": self.ok(self.daemon.push_tensors("file", training.tensors(),
                                                         training.metadata())),
            }
            words = dict(document, twin_log=text(training.twin_logs()))  # a comma list, as in a file
            points["words"] = self.push("words", words)
            scalars = {k: text(v) for k, v in training.scalars().items()}
            query = "&".join("%s=%s" % pair for pair in scalars.items())
            points["query"] = self.ok(self.daemon.request("POST", "/v1/runs/query/snapshots?" + query))
            for name, point in points.items():
                for metric in TWIN_METRICS:
                    self.assertEqual(point["metrics"][metric], points["json"]["metrics"][metric],
                                     (name, metric))
                self.assertEqual(point["twins"], ["random", "active", None, None], name)
            training.advance()
        self.assertIsNotNone(points["query"]["metrics"]["twin_rate"]["value"])

    def test_twins_of_a_partial_push_and_of_ranks(self):
        """They are a scalar, which is rank 0's (docs/wire.md); the shards may come in any order."""
        training = Training((1.0, 20.5, 0.0, 2.0), 0.1, start=[1, 0, 1, 1], twins={"random": [1, 1, 0, 0]})
        self.declare("ranks", tensors=[{"name": "w", "shape": [4]}])
        for t in range(66):
            single = self.push("single", training.document())
            for rank in ((0, 1), (1, 0))[t % 2]:
                metadata = dict(training.metadata(), rank=rank, world=2,
                                shard=json.dumps({"w": {"shape": [4], "offset": 2 * rank}}))
                if rank == 1:
                    metadata.pop("twin_log"), metadata.pop("twin_name")
                parts = {n: ([2], x[2 * rank:2 * rank + 2]) for n, (_, x) in training.tensors().items()}
                answer = self.daemon.push_tensors("ranks", parts, metadata)
            point = self.ok(answer)
            for metric in TWIN_METRICS:
                self.assertEqual(point["metrics"][metric], single["metrics"][metric])
            training.advance()
        self.assertIsNotNone(point["metrics"]["twin_rate"]["value"])

    def test_a_repeated_push_counts_once(self):
        self.logs("twice", [0.01 * t for t in range(64)])
        again = self.push("twice", {"step": 63, "loss": 1, "twin_log": 50})
        self.assertEqual((again["status"], self.value(again, "twin_log")), ("duplicate", 0.63))
        point = self.push("twice", {"step": 64, "loss": 1, "twin_log": 0.64})
        self.assertAlmostEqual(self.value(point, "twin_rate"), 0.01, delta=1e-12)

    def test_a_skipped_step_stays_out_of_the_window(self):
        self.logs("skip", [0.01 * t for t in range(64)])
        point = self.push("skip", {"step": 64, "loss": 1, "skipped": True, "twin_log": 9.0})
        self.assertEqual((point["event_only"], self.value(point, "twin_log")), (True, 9.0))
        point = self.push("skip", {"step": 65, "loss": 1, "twin_log": 0.65})
        self.assertAlmostEqual(self.value(point, "twin_rate"), 0.01, delta=1e-3)
        self.assertLess(self.value(point, "twin_growth"), 1)

    def test_the_rule_that_speaks_of_it(self):
        """`sensitive`: rate times what is left to train above ln 10 (SPEC 9), info alone."""
        self.declare("long", steps=10000)
        self.declare("short", steps=80)
        for run, firing in (("long", True), ("short", False)):
            point = self.logs(run, [0.05 * t for t in range(70)])[-1]
            left = {"long": 10000, "short": 80}[run] - 69
            self.assertAlmostEqual(self.value(point, "sensitive_horizon"), 0.05 * left, delta=1e-9)
            alerts = self.ok(self.daemon.get("/v1/alerts?rule=sensitive&run=" + run))["alerts"]
            self.assertEqual([a["severity"] for a in alerts], ["info"] if firing else [])
        self.declare("calm", steps=10000)
        self.assertEqual(self.value(self.logs("calm", [0.0] * 70)[-1], "sensitive_horizon"), 0)

    # ---- bad input

    BAD = [  # what is pushed besides step; status, slug, what the detail names
        ({"twin_log": "fast"}, 400, "invalid-value", ["twin_log", "fast", "number"]),
        ({"twin_log": [1, "fast"]}, 400, "invalid-value", ["twin_log", "fast", "number"]),
        ({"twin_log": [1, None]}, 400, "malformed-body", ["twin_log", "a number", "null"]),
        ({"twin_log": {"random": 1}}, 400, "malformed-body", ["twin_log", "an object"]),
        ({"twin_log": [[1], [2]], "twin_name": "a,b"}, 400, "malformed-body", ["twin_log", "a number", "a list"]),
        ({"twin_log": []}, 400, "invalid-value", ["twin_log"]),
        ({"twin_log": True}, 400, "invalid-value", ["twin_log"]),
        ({"twin_log": "1,,2", "twin_name": "a,b,c"}, 400, "invalid-value", ["twin_log", "1,,2"]),
        ({"twin_log": [1, 2, 3, 4, 5], "twin_name": "a,b,c,d,e"}, 413, "limit-exceeded",
         ["twin_log", "4", "twin"]),
        ({"twin_log": [1, 2]}, 400, "invalid-value", ["twin_name", "0 names", "2 values", "twin_log"]),
        ({"twin_log": [1, 2], "twin_name": "a"}, 400, "invalid-value", ["twin_name", "1 names", "2"]),
        ({"twin_log": 1, "twin_name": "a,b"}, 400, "invalid-value", ["twin_name", "2 names", "1"]),
        ({"twin_name": "a"}, 400, "invalid-value", ["twin_name", "1 names", "0 values"]),
        ({"twin_log": [1, 2], "twin_name": "a,a"}, 400, "invalid-value", ["twin_name", '"a"', "twice"]),
        ({"twin_log": [1, 2], "twin_name": "a,"}, 400, "invalid-value", ["twin_name", "1 to 64 bytes"]),
        ({"twin_log": 1, "twin_name": "n" * 65}, 400, "invalid-value", ["twin_name", "1 to 64 bytes"]),
        ({"twin_log": 1, "twin_name": ""}, 400, "invalid-value", ["twin_name"]),
        ({"twin_rate": 1}, 400, "unknown-field", ["twin_rate"]),
    ]

    def test_what_is_refused_names_field_value_and_limit(self):
        self.push("bad", {"step": 0, "loss": 1, "twin_log": 0})
        for document, status, slug, fragments in self.BAD:
            with self.subTest(document=document):
                detail = self.refused(self.daemon.push_json("bad", dict(document, step=1)), status, slug)
                for fragment in fragments:
                    self.assertIn(fragment, detail)
                if all(isinstance(v, str) for v in document.values()):
                    reply = self.daemon.push_tensors("bad", {}, dict(document, step=1))
                    for fragment in fragments:
                        self.assertIn(fragment, self.refused(reply, status, slug))
        reply = self.daemon.push_tensors("bad", {}, {"step": 1, "twin_log": "0.1"}, "?twin_log=0.2")
        self.assertIn("twin_log", self.refused(reply, 400, "contradiction"))
        # Nothing of it was kept.
        point = self.push("bad", {"step": 1, "loss": 1, "twin_log": 0.1})
        self.assertEqual(point["twins"], ["random", None, None, None])

    def test_a_tensor_is_no_twin(self):
        """The distance is a number that the client makes; a second set of tensors is no role."""
        document = {"step": 0, "tensors": {"twin/w": {"shape": [2], "data": [1, 2]}}}
        detail = self.refused(self.daemon.push_json("role", document), 400, "unknown-field")
        self.assertIn("twin", detail)
        self.assertIn("param", detail)


if __name__ == "__main__":
    unittest.main()
