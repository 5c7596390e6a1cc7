"""Expressions, packs, versions, cooldowns, rates and groups of rules, over HTTP."""
import unittest

from blackbox import DaemonCase, Quadratic


class RulesCase(DaemonCase):
    def rule(self, name, metric, threshold, status=201, **fields):
        body = dict({"metric": metric, "comparison": ">", "threshold": threshold}, **fields)
        return self.ok(self.daemon.put("/v1/rules/" + name, body), status)

    def losses(self, run, losses, first=0):
        """Pushes losses in one body; None pushes the step without one."""
        documents = [
            {"step": first + i} if loss is None else {"step": first + i, "loss": loss}
            for i, loss in enumerate(losses)
        ]
        reply, lines = self.daemon.push_ndjson(run, documents)
        self.assertEqual(reply.status, 200, reply)
        for line in lines:
            self.assertEqual(line.get("status"), "accepted", line)
        return lines

    def alerts(self, query):
        return self.ok(self.daemon.get("/v1/alerts?" + query))["alerts"]

    def fired(self, rule, run):
        return [(a["firing_step"], a["resolved_step"]) for a in self.alerts("rule=%s&run=%s" % (rule, run))]


class Expressions(RulesCase):
    def test_two_metrics(self):
        self.rule("ratio", "grad_norm / param_norm", 2)
        q = Quadratic(curvatures=(1.0, 1, 1, 1, 1, 1))
        self.ok(self.daemon.push_json("a", q.snapshot()))  # |g| = |w|
        self.assertEqual(self.fired("ratio", "a"), [])
        q.a = [3.0] * 6
        q.step = 1
        self.ok(self.daemon.push_json("a", q.snapshot()))
        alert = self.alerts("rule=ratio&run=a")[0]
        self.close_to(alert["value"], 3)
        self.assertEqual(alert["evidence"]["metric"], "grad_norm / param_norm")
        self.assertEqual(sorted(alert["evidence"]["operands"]), ["grad_norm", "param_norm"])
        self.assertIn("|g_t|", alert["evidence"]["formula"])
        # One side absent: neither good nor bad.
        self.ok(self.daemon.push_json("a", {"step": 2, "loss": 1}))
        self.assertEqual(self.alerts("rule=ratio&run=a")[0]["state"], "firing")

    def test_tensors(self):
        self.rule("share", "grad_norm / point.grad_norm", 0.9, tensor="*")
        self.rule("rms", "grad_norm / sqrt(elements)", 1e9, tensor="*", comparison="<")
        q = Quadratic(curvatures=(1, 1, 1, 1, 100, 100))
        self.ok(self.daemon.push_json("t", q.snapshot()))
        self.assertEqual([a["tensor"] for a in self.alerts("rule=share")], ["second"])
        rms = {a["tensor"]: a["value"] for a in self.alerts("rule=rms")}
        self.close_to(rms["first"], (sum(g * g for g in q.grad[:4]) / 4) ** 0.5)
        self.close_to(rms["second"], (sum(g * g for g in q.grad[4:]) / 2) ** 0.5)

    def test_windows_look_at_the_points_before_and_leave_nan_out(self):
        self.rule("z", "(loss - mean(loss, 10)) / sd(loss, 10)", 6)
        noise = [1 + 0.01 * ((i * 7) % 5) for i in range(40)]
        self.losses("w", noise[:20] + ["NaN", "Infinity"] + noise[22:30] + [5.0] + noise[31:40])
        firing = self.alerts("rule=z&run=w")
        # The infinite loss is above any window; the NaN is nobody's but nonfinite's.
        self.assertEqual([a["firing_step"] for a in firing], [21, 30])
        self.assertEqual(firing[1]["evidence"]["window"]["nonfinite"], 2)
        self.assertEqual(self.fired("nonfinite", "w")[0][0], 20)

    def test_a_rule_made_late_looks_back_at_once_and_a_restart_changes_nothing(self):
        self.losses("late", [1 + 0.01 * (i % 3) for i in range(30)])
        self.rule("jump", "loss / mean(loss, 20)", 1.5)
        self.rule("first", "loss / first_highest(loss, 5)", 1.5)
        self.losses("late", [2.0], first=30)
        self.assertEqual((self.fired("jump", "late"), self.fired("first", "late")), ([(30, None)], [(30, None)]))
        self.daemon.kill()
        self.daemon.start()
        # 1.6 times the mean of 20 when the 2.0 is among them, and not when a restart forgot the others.
        self.losses("late", [1.0, 1.66], first=31)
        jump = self.alerts("rule=jump&run=late")
        self.assertEqual([(a["firing_step"], a["resolved_step"]) for a in jump], [(30, 31), (32, None)])
        mean = (sum([1 + 0.01 * (i % 3) for i in range(12, 30)]) + 2 + 1) / 20
        self.close_to(jump[1]["value"], 1.66 / mean)

    def test_what_is_wrong_is_named(self):
        for metric, slug, words in (
            ("grad_norm /", "malformed-body", ["byte 11", "end"]),
            ("grad_norm % loss", "malformed-body", ["byte 10"]),
            ("los + 1", "unknown-field", ["los"]),
            ("frob(loss)", "unknown-field", ["frob", "median"]),
            ("mean(loss, 0)", "invalid-value", ["0", "4096"]),
            ("mean(loss, 5000)", "invalid-value", ["5000", "4096"]),
            ("mean(loss, 10, 11)", "invalid-value", ["11", "10"]),
            ("mean(1, 10)", "malformed-body", ["metric"]),
            ("(" * 40 + "loss" + ")" * 40, "limit-exceeded", ["16"]),
            ("+".join(["loss"] * 40), "limit-exceeded", ["32"]),
            ("+" + "1" * 300, "limit-exceeded", ["240"]),
            ("", "missing-field", ["metric"]),
        ):
            detail = self.refused(
                self.daemon.put("/v1/rules/bad", {"metric": metric, "threshold": 1}),
                413 if slug == "limit-exceeded" else 400,
                slug,
            )
            for word in words:
                self.assertIn(word, detail, metric)
        for field, value in (
            ("cooldown", 65537), ("cooldown_s", -1), ("notify_per_hour", 3601), ("cause", "a b"),
            ("run", "x" * 257), ("cooldown", 1.5),
        ):
            reply = self.daemon.put("/v1/rules/bad", {"metric": "loss", "threshold": 1, field: value})
            self.assertIn(reply.status, (400, 413), (field, reply))
            self.assertIn(field, reply.json["detail"])

    def test_selectors_take_patterns(self):
        self.rule("mine", "loss", 5, run="gpt-*", runs={"team": "vis*"})
        for run, team in (("gpt-1", "vision"), ("gpt-2", "audio"), ("bert", "vision")):
            self.ok(self.daemon.put("/v1/runs/" + run, {"labels": {"team": team}}), 201)
            self.losses(run, [6])
        self.assertEqual([a["run"] for a in self.alerts("rule=mine")], ["gpt-1"])


class Versions(RulesCase):
    def test_every_put_is_kept(self):
        for i in range(3):
            self.rule("v", "loss", i, status=200 if i else 201)
        versions = self.ok(self.daemon.get("/v1/rules/v/versions"))["versions"]
        self.assertEqual([(v["version"], v["threshold"]) for v in versions], [(1, 0), (2, 1), (3, 2)])
        self.assertEqual(self.ok(self.daemon.get("/v1/rules/v?version=2"))["threshold"], 1)
        self.refused(self.daemon.get("/v1/rules/v?version=9"), 404, "not-found")
        self.assertEqual(self.daemon.request("DELETE", "/v1/rules/v").status, 204)
        self.rule("v", "loss", 7)  # the numbers go on, the history stays
        self.daemon.kill()
        self.daemon.start()
        versions = self.ok(self.daemon.get("/v1/rules/v/versions?order=desc"))["versions"]
        self.assertEqual([(v["version"], v.get("deleted", False)) for v in versions],
                         [(5, False), (4, True), (3, False), (2, False), (1, False)])

    def test_the_newest_hundred_are_kept(self):
        for i in range(105):
            self.rule("many", "loss", i, status=200 if i else 201)
        answer = self.ok(self.daemon.get("/v1/rules/many/versions?limit=1000"))["versions"]
        self.assertEqual((len(answer), answer[0]["version"], answer[-1]["version"]), (100, 6, 105))

    def test_an_alert_names_the_version_that_made_it(self):
        self.rule("v", "loss", 5)
        self.rule("v", "loss", 4, status=200)
        self.losses("r", [6])
        self.assertEqual(self.alerts("rule=v")[0]["rule_version"], 2)


class Packs(RulesCase):
    def test_switched_on_and_off(self):
        packs = {p["pack"]: p for p in self.ok(self.daemon.get("/v1/packs"))["packs"]}
        self.assertEqual(sorted(packs), ["default", "sagemaker", "spikes"])
        self.assertTrue(packs["default"]["enabled"])
        self.assertEqual((packs["spikes"]["enabled"], packs["spikes"]["enabled_rules"]), (False, 0))
        answer = self.ok(self.daemon.put("/v1/packs/sagemaker", {"enabled": True}))
        self.assertTrue(answer["enabled"])
        names = {r["rule"] for r in answer["rules"]}
        for name in ("ExplodingTensor", "VanishingGradient", "WeightUpdateRatio", "LossNotDecreasing",
                     "Overfit", "Overtraining", "DeadRelu", "AllZero", "UnchangedTensor", "StalledTrainingRule"):
            self.assertIn(name, names)
        for rule in answer["rules"]:
            stored = self.ok(self.daemon.get("/v1/rules/" + rule["rule"]))
            self.assertTrue(stored["enabled"] and stored["builtin"] and stored["source"], stored)
        self.ok(self.daemon.put("/v1/packs/spikes", {"enabled": True, "rules": ["lightning-loss-spike"]}))
        self.daemon.kill()
        self.daemon.start()
        spikes = self.ok(self.daemon.get("/v1/packs/spikes"))
        self.assertEqual([r["rule"] for r in spikes["rules"] if r["enabled"]], ["lightning-loss-spike"])
        self.ok(self.daemon.put("/v1/packs/sagemaker", {"enabled": False}))
        self.assertEqual(self.ok(self.daemon.get("/v1/packs/sagemaker"))["enabled_rules"], 0)

    def test_a_rule_replaced_by_an_own_one_stays(self):
        self.rule("Overfit", "loss", 99)
        self.ok(self.daemon.put("/v1/packs/sagemaker", {"enabled": True}))
        rule = self.ok(self.daemon.get("/v1/rules/Overfit"))
        self.assertEqual((rule["threshold"], rule["builtin"]), (99, False))

    def test_what_is_wrong_is_named(self):
        self.refused(self.daemon.get("/v1/packs/none"), 404, "not-found")
        self.refused(self.daemon.put("/v1/packs/none", {"enabled": True}), 404, "not-found")
        self.assertIn("enabled", self.refused(self.daemon.put("/v1/packs/spikes", {}), 400, "missing-field"))
        self.assertIn("edge", self.refused(
            self.daemon.put("/v1/packs/spikes", {"enabled": True, "rules": ["edge"]}), 400, "invalid-value"))

    def test_the_spike_detectors_survive_a_nan(self):
        """The NaN test of the public detectors: a NaN, then a spike of 25 times the level."""
        self.ok(self.daemon.put("/v1/packs/spikes", {"enabled": True}))
        level = [1 + 0.02 * ((i * 13) % 7) for i in range(200)]
        self.losses("nan", level[:160] + ["NaN"] + level[161:180] + [25.0] + level[181:200])
        for rule in ("olmo-loss-spike", "olmo-skip-loss", "lightning-loss-spike", "megatron-loss-spike",
                     "entrenar-loss-spike"):
            self.assertEqual([f for f, _ in self.fired(rule, "nan")], [180], rule)
        self.assertEqual([f for f, _ in self.fired("spikes-nonfinite", "nan")], [160])

    def test_the_sagemaker_rules_fire(self):
        self.ok(self.daemon.put("/v1/packs/sagemaker", {"enabled": True}))
        self.losses("flat", [1.0] * 15)
        self.assertEqual([f for f, _ in self.fired("LossNotDecreasing", "flat")], [10])
        q = Quadratic(lr=0.0)
        for step in range(5):  # nothing moves
            q.step = step
            self.ok(self.daemon.push_json("still", q.snapshot()))
        unchanged = self.alerts("rule=UnchangedTensor&run=still")
        self.assertEqual(sorted(a["tensor"] for a in unchanged), ["first", "second"])
        self.assertEqual({a["firing_step"] for a in unchanged}, {3})
        self.ok(self.daemon.push_json("tiny", Quadratic(start=1e-9).snapshot()))
        self.assertEqual(len(self.alerts("rule=VanishingGradient&run=tiny")), 2)
        self.ok(self.daemon.push_json("zero", Quadratic(start=0).snapshot()))
        self.assertEqual(len(self.alerts("rule=AllZero&run=zero")), 2)


LEVEL = [1 + 0.02 * ((i * 13) % 7) for i in range(400)]


def spike(at, *values, level=LEVEL):
    """A level that moves a little, with these values from step `at` on."""
    return level[:at] + list(values) + level[at + len(values):300]


# Of every rule of the packs that looks at numbers of points: what is pushed, and the step at which it first fires, from
# its published definition. Nothing fires before.
OF_POINTS = {
    "olmo-loss-spike": ("loss", spike(140, 3), 140),  # 128 before, more than 6 sd
    "olmo-grad-spike": ("grad_norm", spike(140, 3), 140),
    "olmo-skip-loss": ("loss", spike(80, 3), 80),  # from 64 on
    "olmo-skip-grad": ("grad_norm", spike(80, 3), 80),
    "foundry-loss-spike": ("loss", spike(110, *[3] * 8), 114),  # five in a row above twice the mean
    "foundry-loss-high": ("loss", LEVEL[:100] + [2.0] * 150, 200),  # half of a window above the first one's largest
    "lightning-loss-spike": ("loss", spike(30, 4), 30),
    "megatron-loss-spike": ("loss", spike(120, 12), 120),
    "megatron-grad-spike": ("grad_norm", spike(120, 12), 120),
    "marin-loss-spike": ("loss", spike(100, *[3] * 9), 104),  # the least of five
    "marin-grad-norm": ("grad_norm", spike(20, *[3] * 9), 24),
    "entrenar-loss-spike": ("loss", spike(30, 5), 30),
    "ExplodingTensor.scaled": ("grad_norm", spike(140, 150), 140),
    "VanishingGradient.scaled": ("grad_norm", spike(140, *[5e-4] * 6), 142),
    "WeightUpdateRatio.scaled": ("update_norm", spike(140, 15), 140),
    "LossNotDecreasing": ("loss", [10.0 - 0.2 * i for i in range(20)] + [6.0] * 12, 30),  # flat since ten steps before
    "LossNotDecreasing.scaled": ("loss", [9 - 0.1 * i for i in range(40)] + [5.1 + 0.2 * i for i in range(20)], None),
    "Overfit": ("probe_loss", [1.0] * 10 + [1.2] * 3, 10),
    "Overtraining": ("probe_loss", [3 - 0.1 * i for i in range(20)] + [1.2] * 20, None),
}


class EveryRule(RulesCase):
    """Each rule of the packs fires on its own kind of trouble, where its definition says, and not before."""

    def setUp(self):
        super().setUp()
        for pack in ("sagemaker", "spikes"):
            self.ok(self.daemon.put("/v1/packs/" + pack, {"enabled": True}))

    def pushed(self, key, values, run):
        documents = []
        for step, value in enumerate(values):
            document = {"step": step, key: value}
            if key == "update_norm":
                document["param_norm"] = 1000.0
            if key == "probe_loss":
                document["loss"] = 1.0
            documents.append(document)
        reply, lines = self.daemon.push_ndjson(run, documents)
        self.assertEqual({line["status"] for line in lines}, {"accepted"}, lines[:2])

    def test_of_points(self):
        for rule, (key, values, step) in OF_POINTS.items():
            run = rule + "." + key
            self.pushed(key, values, run)
            fired = [f for f, _ in self.fired(rule, run) if f is not None]
            self.assertTrue(fired, rule)
            if step is not None:
                self.assertEqual(fired[0], step, rule)

    def test_a_nan_is_no_spike_and_spoils_none(self):
        """The NaN test on every rule about spikes of the loss: it fires where it did, and not on the NaN."""
        for rule, (key, values, step) in OF_POINTS.items():
            if key != "loss" or ("spike" not in rule and "skip" not in rule):
                continue
            values = list(values)
            values[7] = values[step - 6] = "NaN"
            self.pushed(key, values, rule + ".nan")
            self.assertEqual([f for f, _ in self.fired(rule, rule + ".nan") if f is not None][:1], [step], rule)

    def test_of_tensors(self):
        def push(run, step, param, grad, **more):
            shape = [len(param)]
            self.ok(self.daemon.push_json(run, dict(more, step=step, tensors={
                "param/w": {"shape": shape, "data": param}, "grad/w": {"shape": shape, "data": grad},
                "param/v": {"shape": [1], "data": [1.0 + step]}, "grad/v": {"shape": [1], "data": [1.0]}})))
        healthy = ([1.0, 2.0, 3.0, 4.0], [0.1, 0.2, -0.1, 0.3])
        cases = {
            "ExplodingTensor": (healthy, ([1.0, 2.0, 3.0, 4.0], ["NaN", 0.2, 0.1, 0.1]), 1),
            "VanishingGradient": (healthy, ([1.1, 2.1, 3.1, 4.1], [1e-9] * 4), 1),
            "WeightUpdateRatio": (healthy, ([20.0, 40.0, 60.0, 80.0], [0.1, 0.1, 0.1, 0.2]), 1),
            "DeadRelu": (healthy, ([1.1, 2.1, 3.1, 4.1], [0.0, 0.0, 0.0, 0.3]), 1),
            "AllZero": (healthy, ([0.0] * 4, [0.1, 0.2, 0.1, 0.3]), 1),
        }
        for rule, (before, after, step) in cases.items():
            push(rule, 0, *before)
            self.assertEqual(self.alerts("rule=%s&run=%s" % (rule, rule)), [])
            push(rule, 1, *after)
            found = [(a["tensor"], a["firing_step"]) for a in self.alerts("rule=%s&run=%s" % (rule, rule))]
            self.assertEqual(found, [("w", step)], rule)
        for step in range(4):  # three updates of nothing
            push("UnchangedTensor", step, *healthy)
        found = [(a["tensor"], a["firing_step"]) for a in self.alerts("rule=UnchangedTensor&run=UnchangedTensor")]
        self.assertEqual(found, [("w", 3)])

    def test_of_the_second_moment(self):
        """RMS_t above 2.3: a gradient far above the square root of what Adam remembers."""
        self.ok(self.daemon.put("/v1/runs/a", {"optimizer": {"type": "adam", "lr": 0.001}}), 201)
        w = 1.0
        for step in range(60):
            gradient = 1.0 if step < 50 else 30.0
            self.ok(self.daemon.push_json("a", {"step": step, "loss": 1.0, "lr": 0.001, "optimizer_step": step, "tensors": {
                "param/w": {"shape": [1], "data": [w]}, "grad/w": {"shape": [1], "data": [gradient]},
                "exp_avg/w": {"shape": [1], "data": [0.5]}, "exp_avg_sq/w": {"shape": [1], "data": [1.0]}}}))
            w -= 0.001
        self.assertEqual([f for f, _ in self.fired("adam-second-moment", "a")][:1], [50])

    def test_of_silence(self):
        rule = self.ok(self.daemon.get("/v1/rules/StalledTrainingRule"))
        self.ok(self.daemon.put("/v1/rules/StalledTrainingRule", dict(rule, threshold=1)))
        self.ok(self.daemon.push_json("s", {"step": 0, "loss": 1}))
        self.eventually(lambda: self.alerts("rule=StalledTrainingRule&state=firing"))

    def test_all_are_tested(self):
        elsewhere = {"ExplodingTensor", "VanishingGradient", "WeightUpdateRatio", "DeadRelu", "AllZero", "UnchangedTensor",
                     "StalledTrainingRule", "adam-second-moment", "spikes-nonfinite"}
        listed = {r["rule"] for name in ("sagemaker", "spikes")
                  for r in self.ok(self.daemon.get("/v1/packs/" + name))["rules"]}
        self.assertEqual(listed, elsewhere | set(OF_POINTS))


class Restarts(RulesCase):
    """kill -9 between every two points: the same alerts as without."""

    def test_in_every_state(self):
        values = [1, 6, 6, 6, 1, 1, 6, 1, 1, 1, 6, 1, 6, 6, 6]
        self.rule("three", "loss", 5, **{"for": 3, "clear_for": 3})
        self.rule("norm", "grad_norm", 5, tensor="first", **{"for": 3, "clear_for": 3})
        self.rule("window", "loss / lowest(loss, 4)", 5, **{"for": 2, "clear_for": 2})
        rules = ("three", "norm", "window")

        def push(run, step):
            tensor = {"shape": [1], "data": [float(values[step])]}
            document = {"step": step, "loss": values[step], "tensors": {"param/first": tensor, "grad/first": tensor}}
            self.ok(self.daemon.push_json(run, document))

        for step in range(len(values)):
            push("whole", step)
        for step in range(len(values)):
            push("cut", step)
            self.daemon.kill()
            self.daemon.start()
        shown = lambda run: [
            [(a["pending_step"], a["firing_step"], a["resolved_step"], a["value"]) for a in
             self.alerts("rule=%s&run=%s" % (rule, run))] for rule in rules
        ]
        self.assertEqual(shown("cut"), shown("whole"))
        self.assertEqual(self.fired("three", "whole"), [(3, 9), (None, 11), (14, None)])
        self.assertEqual(self.fired("norm", "whole"), [(3, 9), (None, 11), (14, None)])


class Pace(RulesCase):
    def test_cooldown(self):
        self.rule("calm", "loss", 5, cooldown=4)
        self.rule("often", "loss", 5)
        self.losses("c", [6, 1, 6, 1, 1, 6, 1, 1, 1, 6])
        self.assertEqual([f for f, _ in self.fired("often", "c")], [0, 2, 5, 9])
        self.assertEqual([f for f, _ in self.fired("calm", "c")], [0, 5])  # resolved at 1 and 6: not 2, not 9

    def test_cooldown_survives_a_restart(self):
        self.rule("calm", "loss", 5, cooldown_s=3600)
        self.losses("c", [6, 1])
        self.daemon.kill()
        self.daemon.start()
        self.losses("c", [6, 1, 6], first=2)
        self.assertEqual(len(self.fired("calm", "c")), 1)

    def test_rate_limit(self):
        self.rule("loud", "loss", 5, notify_per_hour=2, cause="one")
        self.losses("r", [6, 1, 6, 1, 6, 1, 6])
        held = [(a["held"], a["notified"] is not None) for a in self.alerts("rule=loud")]
        self.assertEqual(held, [(None, True), (None, True), ("rate-limited", False), ("rate-limited", False)])
        self.daemon.kill()
        self.daemon.start()
        self.losses("r", [1, 6], first=7)
        self.assertEqual(self.alerts("rule=loud")[-1]["held"], "rate-limited")

    def test_alerts_of_one_cause_are_told_as_one(self):
        self.rule("low", "loss", 5, cause="c", severity="warning")
        self.rule("lower", "loss", 4, cause="c", severity="warning")
        self.rule("worse", "loss", 8, cause="c", severity="critical")
        self.rule("other", "loss", 5)
        self.losses("g", [6])
        by_rule = {a["rule"]: a for a in self.alerts("run=g")}
        self.assertEqual(by_rule["low"]["held"], None)
        self.assertEqual(by_rule["lower"]["held"], "grouped")
        self.assertEqual(by_rule["low"]["group"], by_rule["lower"]["group"])
        self.assertEqual(by_rule["low"]["notified"], by_rule["lower"]["notified"])
        self.assertNotEqual(by_rule["other"]["group"], by_rule["low"]["group"])
        self.losses("g", [9], first=1)  # more severe: told again
        self.assertEqual({a["rule"]: a for a in self.alerts("run=g")}["worse"]["held"], None)
        groups = {g["cause"]: g for g in self.ok(self.daemon.get("/v1/alert-groups?run=g"))["groups"]}
        self.assertEqual(sorted(groups), ["c", "other"])
        self.assertEqual((groups["c"]["firing"], groups["c"]["severity"]), (3, "critical"))
        self.assertEqual(sorted(groups["c"]["rules"].split(",")), ["low", "lower", "worse"])
        self.assertEqual(groups["c"]["group"], by_rule["low"]["group"])

    def test_many_tensors_are_one_group(self):
        self.rule("all", "grad_norm", 0, tensor="*")
        self.ok(self.daemon.push_json("m", Quadratic().snapshot()))
        self.assertEqual([a["held"] for a in self.alerts("rule=all")], [None, "grouped"])
        group = self.ok(self.daemon.get("/v1/alert-groups"))["groups"][0]
        self.assertEqual((group["firing"], group["tensors"], group["cause"]), (2, 2, "all"))


if __name__ == "__main__":
    unittest.main()
