"""Every row of the table of docs/spec.md 4.3 from a training that was really made, its qualifiers,
`verdict_detail`, the event `theorem-check-failed`, and that no verdict says more than it knows."""
import math
import unittest

import numpy as np

from blackbox import DaemonCase
from twinning import Training, oracle

SGD = {"optimizer": {"type": "sgd", "lr": 0.1}, "data": "full-batch", "windows": [16, 64]}
MINI = dict(SGD, data="minibatch")
E = np.eye(4)


def saddle(t):
    """Pairs by turns along the sharp and the negative direction."""
    return E[2][:3] if t % 2 else E[1][:3]


class Verdicts(DaemonCase):
    def train(self, run, training, declaration, steps=64):
        """Snapshots 0 .. steps in one body; the answers, each checked for what it may claim."""
        documents = []
        for _ in range(steps + 1):
            documents.append(training.document())
            training.advance()
        return self.push(run, documents, declaration)

    def push(self, run, documents, declaration=None):
        if declaration is not None:
            self.ok(self.daemon.put("/v1/runs/" + run, declaration), 201)
        reply, answers = self.daemon.push_ndjson(run, documents)
        self.assertEqual({a["status"] for a in answers}, {"accepted"}, reply)
        for answer in answers:
            self.claims_no_converse(answer)
        return answers

    def claims_no_converse(self, point):
        """A finite window can falsify a bound, not prove one: what sounds like stability needs every
        side, and names the sides it has."""
        verdict, detail = point["verdict"], point["verdict_detail"]
        has = lambda metric: point["metrics"][metric]["value"] is not None  # noqa: E731
        twins = has("window_verdict") or has("active_verdict")
        self.assertEqual("twin" in detail["sides"], twins)
        self.assertEqual("energy" in detail["sides"], has("dissipation_window"))
        if has("stability_ratio"):
            self.assertIn("prediction", detail["sides"])
            self.assertEqual(detail["prediction"]["stability_ratio"],
                             point["metrics"]["stability_ratio"]["value"])
        calm = {detail["twin"], detail["active_twin"]} <= {None, "decay", "bounded"}
        if verdict == "consistent-stable":
            self.assertEqual(detail["sides"], ["twin", "prediction", "energy"])
            self.assertTrue(calm)
        elif verdict == "dissipating":
            self.assertFalse(twins)
        elif verdict == "edge" and not twins:
            self.assertEqual(detail["trust"], "C")
        for qualifier in detail["qualifiers"]:
            self.assertIn(qualifier, ("sensitive-but-training", "theorem-check-failed"))
        if "sensitive-but-training" in detail["qualifiers"]:
            self.assertIn("exponential", (detail["twin"], detail["active_twin"]))

    def says(self, point, verdict, *, twin=None, active=None, mode=None, trust="E", sides="",
             qualifiers=()):
        detail = point["verdict_detail"]
        self.assertEqual(point["verdict"], verdict, detail)
        self.assertEqual((detail["twin"], detail["active_twin"]), (twin, active))
        self.assertEqual((detail["mode"], detail["trust"]), (mode, trust))
        self.assertEqual(detail["sides"], sides.split())
        self.assertEqual([q for q in detail["qualifiers"] if q != "theorem-check-failed"],
                         list(qualifiers))

    def events(self, run, kind):
        events = self.ok(self.daemon.get("/v1/runs/%s/events?limit=1000" % run))["events"]
        return [e for e in events if e["kind"] == kind]

    # ---- the rows, from the top

    def spiked(self, run, twin):
        """A probe loss that stays four times higher than it was."""
        random = np.random.default_rng(11)
        documents = []
        for t in range(320):
            level = (1.0 if t < 260 else 4.0) * math.exp(0.02 * random.normal())
            documents.append(dict({"step": t, "loss": level, "probe_loss": level}, **twin(t)))
        return self.push(run, documents)

    def test_energy_violation_comes_first(self):
        for run, twin, sides in (("alone", lambda t: {}, ""),
                                 ("beside", lambda t: {"twin_log": -0.1 * t}, "twin")):
            answers = self.spiked(run, twin)
            self.assertNotIn("energy-violation", {a["verdict"] for a in answers[:261]})
            violated = [a for a in answers if a["verdict"] == "energy-violation"]
            self.assertTrue(violated)
            self.says(violated[0], "energy-violation", twin="decay" if sides else None, sides=sides)
            self.assertLess(violated[0]["step"], 260 + 40)  # E12: 18 to 22 pushes
            self.assertEqual(violated[0]["state"], "unstable")

    def test_consistent_stable(self):
        for run, curvatures, twin, word in (("decay", (1.0, 5.0, 12.0), [1, 1, 1], "decay"),
                                            ("bounded", (1.0, 0.0, 12.0), [0, 1, 1], "bounded")):
            training = Training(curvatures, 0.1, start=[1, 1, 1], twins={"random": twin}, pair=[0, 0, 1])
            answers = self.train(run, training, SGD)
            self.says(answers[-1], "consistent-stable", twin=word, sides="twin prediction energy")
            self.assertLessEqual(answers[-1]["metrics"]["dissipation_window"]["value"], 0)
            prediction = answers[-1]["verdict_detail"]["prediction"]
            self.assertAlmostEqual(prediction["stability_ratio"], 0.6, delta=1e-6)
            self.assertEqual(prediction["rate"], 0)  # the largest of {0, log |1 - 1.2|}
            # Before the twin's window is full the energy speaks alone.
            self.says(answers[-2], "dissipating", sides="prediction energy")

    def test_edge_not_realised(self):
        """s > 1 along a direction in which neither the training nor the random twin lies."""
        training = Training((1.0, 0.0, 25.0), 0.1, start=[1, 1, 0], twins={"random": E[1][:3]},
                            pair=[0, 0, 1])
        point = self.train("edge", training, SGD)[-1]
        self.says(point, "edge", twin="bounded", mode="sharpness", sides="twin prediction energy")
        self.assertAlmostEqual(point["verdict_detail"]["prediction"]["stability_ratio"], 1.25, delta=1e-6)
        self.assertAlmostEqual(point["verdict_detail"]["prediction"]["rate"], math.log(1.5), delta=1e-6)
        self.assertIsNone(point["verdict_detail"]["prediction"]["gain"])

    def test_onset(self):
        """The same, and the twin along v grows."""
        training = Training((1.0, 0.0, 25.0), 0.1, start=[1, 1, 0],
                            twins={"random": E[1][:3], "active": E[2][:3]}, pair=[0, 0, 1])
        point = self.train("onset", training, SGD)[-1]
        self.says(point, "onset", twin="bounded", active="exponential", mode="sharpness",
                  sides="twin prediction energy", qualifiers=["sensitive-but-training"])

    def test_consistent_unstable_names_the_mode(self):
        training = Training((1.0, 0.0, 22.0), 0.1, start=[1, 1, 1e-9], twins={"random": [1, 1, 1]},
                            pair=[0, 0, 1])
        point = self.train("sharp", training, MINI)[-1]
        self.says(point, "consistent-unstable", twin="exponential", mode="sharpness",
                  sides="twin prediction")
        self.assertAlmostEqual(point["verdict_detail"]["prediction"]["rate"], math.log(1.2), delta=1e-6)
        # A saddle: the rate is that of lambda_min, s = .25.
        training = Training((1.0, -0.5, 5.0), 0.1, start=[1, 0, 1], twins={"random": [0, 1, 0]},
                            pair=saddle)
        point = self.train("saddle", training, SGD)[-1]
        self.says(point, "consistent-unstable", twin="exponential", mode="lambda_min",
                  sides="twin prediction energy", qualifiers=["sensitive-but-training"])
        self.assertAlmostEqual(point["verdict_detail"]["prediction"]["rate"], math.log(1.05), delta=1e-6)
        self.assertAlmostEqual(point["metrics"]["twin_rate"]["value"], math.log(1.05), delta=1e-9)
        self.assertNotIn("theorem-check-failed", point["verdict_detail"]["qualifiers"])

    def batches(self, **more):
        """Two batches whose curvatures along one direction are 0 and 30, the probe's their mean:
        |1 - 1.5| < 1, but the product of the two steps is |1||1 - 3| = 2 (SPEC 2.6, 4.3)."""
        return Training(lambda t: (1.0, 30.0 if t % 2 else 0.0), 0.1, start=[1, 0],
                        twins={"random": [0, 1]}, pair=[0, 1], probe=(1.0, 15.0), **more)

    def test_hidden_instability(self):
        point = self.train("hidden", self.batches(), MINI)[-1]
        self.says(point, "hidden-instability", twin="exponential", sides="twin prediction")
        self.assertAlmostEqual(point["metrics"]["twin_rate"]["value"], math.log(2) / 2, delta=1e-9)
        self.assertAlmostEqual(point["verdict_detail"]["prediction"]["stability_ratio"], 0.75, delta=1e-6)
        # The probe's energy falls all the while: not reproducible, not diverging.
        point = self.train("sensitive", self.batches(probe_grad=True), MINI)[-1]
        self.says(point, "hidden-instability", twin="exponential", sides="twin prediction energy",
                  qualifiers=["sensitive-but-training"])

    def test_a_lambda_min_too_small_to_explain(self):
        """Growth at more than twice the rate of the known negative curvature."""
        def turns(t):
            return (1.0, -3.0 if t % 2 else 1.0, 5.0)
        training = Training(turns, 0.1, start=[1, 0, 1], twins={"random": [0, 1, 0]}, pair=saddle,
                            probe=(1.0, -0.5, 5.0))
        point = self.train("partly", training, MINI)[-1]
        rate = point["metrics"]["twin_rate"]["value"]
        self.assertAlmostEqual(rate, math.log(1.3 * 0.9) / 2, delta=1e-9)
        self.assertLess(rate / 2, math.log(1.05))  # it does explain half of it
        self.says(point, "consistent-unstable", twin="exponential", mode="lambda_min",
                  sides="twin prediction")
        training = Training(turns, 0.1, start=[1, 0, 1], twins={"random": [0, 1, 0]}, pair=saddle,
                            probe=(1.0, -0.3, 5.0))
        point = self.train("less", training, MINI)[-1]
        self.assertGreater(rate / 2, math.log(1.03))
        self.says(point, "hidden-instability", twin="exponential", sides="twin prediction")

    def test_sensitive_but_training(self):
        """An optimizer without a linear limit: there is no s, but the loss falls."""
        training = Training((1.0, -0.5), 0.1, start=[1, 0], twins={"random": [0, 1]}, pair=[1, 0])
        declaration = dict(SGD, optimizer={"type": "other", "lr": 0.1})
        point = self.train("other", training, declaration)[-1]
        self.assertIsNone(point["metrics"]["stability_ratio"]["value"])
        self.says(point, "sensitive-but-training", twin="exponential", sides="twin energy",
                  qualifiers=["sensitive-but-training"])

    def test_subexponential(self):
        """A saddle under a falling rate 2 / (t + 1): the perturbation grows as t^2."""
        training = Training((0.1, -1.0), lambda t: 2 / (t + 1), start=[1, 0], twins={"random": [0, 1]},
                            pair=[1, 0])
        point = self.train("power", training, SGD)[-1]
        self.assertAlmostEqual(point["metrics"]["twin_log"]["value"], math.log(65 * 66 / 2), delta=1e-6)
        self.says(point, "bounded-exponent-unbounded-profile", twin="subexponential",
                  sides="twin prediction energy")

    def test_without_a_twin(self):
        training = Training((1.0, 25.0), 0.1, start=[1, 0], pair=[0, 1])
        self.says(self.train("edge-alone", training, SGD)[-1], "edge", mode="sharpness", trust="C",
                  sides="prediction energy")
        training = Training((1.0, 12.0), 0.1, start=[1, 1], pair=[0, 1])
        answers = self.train("falling", training, SGD)
        self.says(answers[-1], "dissipating", sides="prediction energy")
        self.says(answers[15], "inconclusive", trust="C", sides="prediction")  # 15 of 16 residuals
        # Below the limit, but the energy rises: another function each step, pushed as if it were one.
        training = Training(lambda t: (1.3**t, 12.0), 1e-3, start=[1, 1], pair=[0, 1])
        point = self.train("rising", training, SGD, 20)[-1]
        self.assertGreater(point["metrics"]["dissipation_window"]["value"], 0)
        self.says(point, "inconclusive", trust="C", sides="prediction energy")

    def test_insufficient_information(self):
        training = Training(lambda t: (1.0, 3.0 + t % 2), 0.1, start=[1, 1])
        point = self.train("blind", training, MINI)[-1]
        self.says(point, "insufficient-information", trust="C")
        self.assertEqual(point["verdict_detail"]["prediction"],
                         {"stability_ratio": None, "rate": None, "gain": None})
        # One probe changes that for the rest of the attempt.
        answers = self.push("blind", [{"step": 65, "loss": 1, "probe_loss": 1}, {"step": 66, "loss": 1}])
        self.assertEqual([a["verdict"] for a in answers], ["inconclusive", "inconclusive"])
        self.ok(self.daemon.put("/v1/runs/blind", {"attempt": "new", "attempt_key": "k"}))
        self.says(self.push("blind", [{"step": 0, "loss": 1}])[0], "insufficient-information", trust="C")

    # ---- inconclusive: what must not be called stable or unstable

    def test_one_side_alone_is_inconclusive(self):
        for run, logs, word in (("b", [0.0] * 65, "bounded"), ("d", [-0.1 * t for t in range(65)], "decay"),
                                ("e", [0.1 * t for t in range(65)], "exponential")):
            documents = [{"step": t, "loss": 1, "twin_log": y} for t, y in enumerate(logs)]
            self.says(self.push(run, documents)[-1], "inconclusive", twin=word, trust="C", sides="twin")
        # A bounded twin below the limit, and no energy: mini-batches without a probe.
        training = Training((1.0, 0.0, 12.0), 0.1, start=[1, 1, 1], twins={"random": [0, 1, 1]},
                            pair=[0, 0, 1])
        self.says(self.train("no-energy", training, MINI)[-1], "inconclusive", twin="bounded", trust="C",
                  sides="twin prediction")

    def test_a_decaying_twin_above_the_limit_is_inconclusive(self):
        training = Training((1.0, 5.0, 25.0), 0.1, start=[1, 1, 0], twins={"random": [1, 1, 0]},
                            pair=[0, 0, 1])
        self.says(self.train("odd", training, SGD)[-1], "inconclusive", twin="decay", trust="C",
                  sides="twin prediction energy")

    def noisy(self, is_wanted):
        """Log distances that walk at random, the first seed whose verdict is as wanted."""
        for seed in range(2000):
            random = np.random.default_rng(seed)
            steps = random.normal(0.06, 0.35, size=64)
            y = np.concatenate([[0.0], np.cumsum(steps)])
            if is_wanted(oracle.verdict(y)):
                return y
        self.fail("no such walk")

    def test_noise_hides_the_growth(self):
        """INCONCLUSIVE stays so whatever the other side; GROWTH_UNRESOLVED counts as exponential
        above ln 100 alone."""
        cases = (("noise", lambda v: v["verdict"] == "INCONCLUSIVE", "inconclusive", "inconclusive"),
                 ("little", lambda v: v["verdict"] == "GROWTH_UNRESOLVED" and v["G"] < 4.4,
                  "growth-unresolved", "inconclusive"),
                 ("much", lambda v: v["verdict"] == "GROWTH_UNRESOLVED" and v["G"] > 4.8,
                  "exponential", "consistent-unstable"))
        for run, is_wanted, word, verdict in cases:
            training, documents = Training((1.0, 25.0), 0.1, start=[1, 0], pair=[0, 1]), []
            for y in self.noisy(is_wanted):
                documents.append(dict(training.document(), twin_log=float(y)))
                training.advance()
            point = self.push(run, documents, MINI)[-1]
            self.assertEqual((point["verdict_detail"]["twin"], point["verdict"]), (word, verdict), run)

    # ---- sides come and go

    def test_sides_that_are_no_longer_there_are_not_used(self):
        """A curvature counts for 20 steps, a twin for eight of its spacings."""
        training = Training((1.0, 0.0, 25.0), 0.1, start=[1, 1, 0],
                            twins={"random": E[1][:3], "active": E[2][:3]},
                            pair=lambda t: E[2][:3] if t <= 64 else None)
        answers = self.train("ages", training, MINI, 90)
        self.assertEqual(answers[64]["verdict"], "onset")
        self.assertEqual(answers[84]["verdict"], "onset")
        self.says(answers[85], "inconclusive", twin="bounded", active="exponential", trust="C", sides="twin")
        training.twins, training.names, training.logs, training.pair = [], [], [], [0, 0, 1]
        answers = self.train_on("ages", training, 9)
        self.assertEqual(answers[7]["verdict"], "onset")
        self.says(answers[8], "edge", mode="sharpness", trust="C", sides="prediction")

    def train_on(self, run, training, count):
        documents = []
        for _ in range(count):
            documents.append(training.document())
            training.advance()
        return self.push(run, documents)

    def test_the_verdict_is_read_again_from_the_store(self):
        """After kill -9, from every route, the same words."""
        point = self.train("kept", self.batches(probe_grad=True), MINI)[-1]
        spiked = self.spiked("spiked", lambda t: {"twin_log": 0.0})
        violated = next(a for a in spiked if a["verdict"] == "energy-violation")
        for _ in range(2):
            latest = self.ok(self.daemon.get("/v1/runs/kept/profile/latest"))
            alone = self.ok(self.daemon.get("/v1/runs/kept"))
            listed = self.ok(self.daemon.get("/v1/runs"))["runs"]
            for field in ("verdict", "verdict_detail"):
                self.assertEqual(latest[field], point[field])
                self.assertEqual(alone["point"][field], point[field])
            self.assertEqual(alone["verdict"], point["verdict"])
            self.assertEqual([r["verdict"] for r in listed if r["run"] == "kept"], [point["verdict"]])
            # A repeated push gets the first answer's words.
            again = self.ok(self.daemon.push_json("spiked", {"step": violated["step"], "loss": 1}))
            self.assertEqual(again["status"], "duplicate")
            for field in ("verdict", "verdict_detail"):
                self.assertEqual(again[field], violated[field])
            self.daemon.kill()
            self.daemon.start()

    # ---- theorem-check-failed

    def test_the_event_when_growth_breaks_the_energy(self):
        """A mode energy exists (s < 1) and the twin grows at .35 a step: more than any P allows."""
        answers = self.train("broken", self.batches(), MINI, 80)
        failing = [a["step"] for a in answers
                   if "theorem-check-failed" in a["verdict_detail"]["qualifiers"]]
        self.assertEqual(failing, list(range(64, 81)))
        detail = answers[-1]["verdict_detail"]["prediction"]
        self.assertAlmostEqual(detail["gain"], oracle.energy_prediction(oracle.A_gd(0.1, 15.0, 0.0))[1],
                               delta=1e-6)
        events = self.events("broken", "theorem-check-failed")
        self.assertEqual([e["step"] for e in events], [64])  # once while it lasts
        said, metrics = events[0]["detail"], answers[64]["metrics"]
        self.assertEqual(said["rate"], metrics["twin_rate"]["value"])
        self.assertEqual(said["rate_error"], metrics["twin_rate"]["error"])
        self.assertEqual(said["log_growth"], metrics["twin_growth"]["value"])
        self.assertAlmostEqual(said["log_gain"], math.log(detail["gain"]), delta=1e-12)
        self.daemon.kill()
        self.daemon.start()
        training = self.batches()
        for _ in range(81):
            training.advance()
        point = self.train_on("broken", training, 1)[0]
        self.assertIn("theorem-check-failed", point["verdict_detail"]["qualifiers"])
        self.assertEqual(len(self.events("broken", "theorem-check-failed")), 1)

    def test_no_event_where_the_theorem_holds(self):
        """The twin falls faster than the energy of the accepted mode promises; no energy exists
        above the limit, nor at a saddle."""
        heavy = dict(MINI, optimizer={"type": "sgd", "lr": 0.1, "momentum": 0.9})
        cases = (("gd", SGD, Training((15.0, 14.0), 0.1, start=[1, 1], twins={"random": [1, 1]}, pair=[1, 0])),
                 ("above", SGD, Training((1.0, 22.0), 0.1, start=[1, 0], twins={"random": [1, 1]}, pair=[0, 1])),
                 ("saddle", SGD, Training((1.0, -0.5, 5.0), 0.1, start=[1, 0, 1], twins={"random": [0, 1, 0]},
                                          pair=saddle)),
                 ("heavy", heavy, Training((0.02,), 0.1, 0.9, start=[1], twins={"random": [1]}, pair=[1])))
        for run, declaration, training in cases:
            answers = self.train(run, training, declaration, 70)
            self.assertIsNotNone(answers[-1]["verdict_detail"]["twin"])
            for answer in answers:
                self.assertNotIn("theorem-check-failed", answer["verdict_detail"]["qualifiers"], run)
            self.assertEqual(self.events(run, "theorem-check-failed"), [])

    def test_a_turning_state_is_no_growth(self):
        """Heavy ball within its limit: a mode turns in the plane of theta and momentum, so that the
        distance of theta alone passes zero and rises again by far more than M, which bounds both
        together. The energy's bound from the injection on holds."""
        heavy = dict(MINI, optimizer={"type": "sgd", "lr": 0.1, "momentum": 0.9})
        for curvature in (2.0, 17.0, 36.0):
            run = "turning-%g" % curvature
            training = Training((curvature,), 0.1, 0.9, start=[1], twins={"active": [1]}, pair=[1])
            answers = self.train(run, training, heavy, 70)
            prediction = answers[-1]["verdict_detail"]["prediction"]
            self.assertGreater(answers[-1]["metrics"]["twin_growth"]["value"],
                               math.log(2 * prediction["gain"]))
            for answer in answers:
                bound = prediction["gain"] * math.sqrt(2)  # |(theta_0, theta_0)|
                self.assertLess(answer["metrics"]["twin_log"]["value"], math.log(bound))
                self.assertNotIn("theorem-check-failed", answer["verdict_detail"]["qualifiers"])
            self.assertEqual(self.events(run, "theorem-check-failed"), [])


if __name__ == "__main__":
    unittest.main()
