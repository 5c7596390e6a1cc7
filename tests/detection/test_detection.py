"""bench/detection: runs repeat bit by bit, labels follow the rules, alarms are counted as the protocol says."""
import io
import json
import math
import os
import struct
import sys
import tempfile
import unittest
import unittest.mock
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("LYAP_BUILD_DIR", ROOT / "build"))
sys.path.insert(0, str(ROOT / "bench/detection"))
try:
    import numpy as np
    import sklearn  # noqa: F401
    import torch
except ImportError:
    print("needs numpy, torch and scikit-learn")
    sys.exit(77)
import cache
import corpus
import fit
import optim
import protocol
import report
import spikes
from families import (
    FAMILIES, FORMER, LATER, ORIGINAL, SECOND_TESTS, TEST_SEED, THIRD_TESTS, UNSEEN, group_of, plan, test_runs,
)
from signals import COLUMNS, Signals
from training import Run
from truth import label


def exported(family, seed):
    out = io.BytesIO()
    run = Run(family, seed)
    corpus.write_stream(run, out)
    return out.getvalue(), run


def parsed(data):
    """(header, [(t, flags, updates, loss, rates, arrays by role)])"""
    size = struct.unpack_from("<I", data, 4)[0]
    header, at, steps = json.loads(data[8 : 8 + size]), 8 + size, []
    counts = [int(np.prod(shape)) for _, shape in header["tensors"]]
    rates = 1 + len(header["opt"]["groups"])
    while at < len(data):
        t, flags, updates, _ = struct.unpack_from("<IIII", data, at)
        values = struct.unpack_from("<%dd" % (2 + rates), data, at + 16)
        at += 16 + 8 * (2 + rates)
        arrays = {}
        for role in header["roles"]:
            arrays[role] = [np.frombuffer(data, "<f4", n, at + 4 * sum(counts[:i])) for i, n in enumerate(counts)]
            at += 4 * sum(counts)
        steps.append((t, flags, updates, values[0], values[2:], arrays))
    return header, steps


class Trainings(unittest.TestCase):
    def test_repeat_bit_by_bit(self):
        for family in ("u01_gd_lr", "u13_stale_state"):
            first, second = exported(family, 0), exported(family, 0)
            self.assertEqual(first[0], second[0])
            self.assertEqual(first[1].truth, second[1].truth)
            self.assertNotEqual(first[0], exported(family, 1)[0])

    def test_labels(self):
        known = (("u01_gd_lr", 0, "diverged"), ("s01_gd", 0, "stable"), ("u22_decay_sign", 1, "diverged"))
        for family, seed, expected in known:
            found = corpus.truth(family, seed)
            self.assertEqual(found["label"], expected, family)
            self.assertEqual(bool(found["events"]), expected != "stable")
            if found["inject"] >= 0 and found["events"]:
                self.assertGreaterEqual(found["events"][-1][0], found["inject"])

    def test_stream_is_the_declared_optimizer(self):
        """The next parameters follow from gradient, state and rates: heavy ball and Adam with groups."""
        for family, seed in (("s32_freeze", 0), ("s32_freeze", 1), ("s48_bold_decay", 2)):
            header, steps = parsed(exported(family, seed)[0])
            names = [n for n, _ in header["tensors"]]
            state = {}
            for now, then in zip(steps[:40], steps[1:41]):
                params = {n: torch.tensor(a) for n, a in zip(names, now[5]["param"])}
                grads = {n: torch.tensor(a) for n, a in zip(names, now[5]["grad"])}
                if "exp_avg" in header["roles"] and now[2]:
                    state = {"t": now[2]}
                    for key, role in (("m", "exp_avg"), ("v", "exp_avg_sq")):
                        state[key] = {n: torch.tensor(a) for n, a in zip(names, now[5][role])}
                grads = dict(zip(names, optim.clipped(list(grads.values()), header["clip"])))
                optim.update(params, grads, state, header["opt"], now[4])
                for n, a in zip(names, then[5]["param"]):
                    np.testing.assert_allclose(params[n].numpy(), a, rtol=1e-5, atol=1e-7, err_msg=family + n)

    def test_hidden_things_stay_hidden(self):
        header, steps = parsed(exported("u22_decay_sign", 0)[0])
        self.assertEqual(set(header), {"family", "seed", "opt", "clip", "accum", "data", "roles", "tensors"})
        self.assertGreaterEqual(header["opt"]["weight_decay"], 0)
        self.assertEqual([s[0] for s in steps], list(range(len(steps))))

    def test_families(self):
        self.assertEqual(len(ORIGINAL), 34)
        for name, function in FAMILIES.items():
            self.assertRegex(name, r"^[us]\d\d_[a-z_]+$")
            self.assertTrue(function.__doc__, name)
        self.assertEqual(len(FAMILIES), len({n[:3] for n in FAMILIES}))

    def test_plans_keep_design_and_test_apart(self):
        design, test = plan("design"), plan("test")
        self.assertEqual(len(set(design)), len(design))
        self.assertTrue(all(seed < TEST_SEED and group_of(f) != "unseen" for f, seed in design))
        self.assertTrue(all(seed >= TEST_SEED for _, seed in test))
        self.assertEqual({f for f, _ in test}, set(FAMILIES))
        self.assertTrue(UNSEEN)
        self.assertLess(set(plan("probes")), set(design))
        self.assertEqual(min(s for _, s in test), TEST_SEED)
        most = max(test_runs(f) for f in FAMILIES)
        self.assertLess(SECOND_TESTS + most - 1, THIRD_TESTS)
        self.assertLess(THIRD_TESTS + most - 1, TEST_SEED)

    def test_former_tests_are_design(self):
        """What tested the third version, with the kinds that were unseen then; kinds known before came in earlier blocks, too."""
        third = [(f, s) for f, s in plan("design") if s >= THIRD_TESTS]
        self.assertEqual(len(third), 1892)
        self.assertEqual({f for f, _ in third}, set(FAMILIES) - set(UNSEEN) - set(LATER))
        self.assertEqual({s for f, s in plan("design") if f in FORMER}, set(range(THIRD_TESTS, THIRD_TESTS + 30)))
        self.assertEqual({group_of(f) for f in FORMER}, {"added"})
        self.assertEqual({q for q in plan("probes") if q[1] >= THIRD_TESTS}, {q for q in third if q[1] % 3 == 0})

    def test_unseen_kinds_take_no_part_in_fits(self):
        """Runs of theirs below TEST_SEED may lie in the folder: a look at one is made with any seed."""
        unseen = UNSEEN[0]
        with tempfile.TemporaryDirectory() as folder:
            for family in (unseen, "s01_gd"):
                for seed in (0, TEST_SEED):
                    path = Path(folder) / family / str(seed)
                    path.mkdir(parents=True)
                    truth = dict(label="stable", events=[], inject=-1, steps=1, stakes=1.0)
                    (path / "truth.json").write_text(json.dumps(truth))
                    np.savez(path / (fit.MAIN + ".npz"), columns=np.array(["step"]), rows=np.zeros((1, 1)))
            columns = ["step", "event"] + ["seen " + n for n in fit.NAMES]
            with unittest.mock.patch.object(cache, "observed", lambda *_: (columns, np.zeros((1, len(columns))))):
                found = {(r.family, r.seed) for r in fit.load(folder, [fit.MAIN], "", 1)}
            self.assertEqual(found, {("s01_gd", 0)})
            inputs = report.Inputs(folder, TEST_SEED, "")
            self.assertEqual({q[:2] for q in inputs.design.runs}, {("s01_gd", 0)})
            self.assertEqual({q[:2] for q in inputs.test.runs}, {("s01_gd", TEST_SEED), (unseen, TEST_SEED)})

    def test_variants_of_a_share_of_the_runs(self):
        self.assertEqual(cache.share("2/3"), (2, 3))
        for wrong in ("0/3", "4/3", "3", "a/b"):
            self.assertRaises(ValueError, cache.share, wrong)
        asked = []
        with unittest.mock.patch.object(cache, "_work", lambda *a: asked.append(a)), unittest.mock.patch.object(
            cache, "ProcessPoolExecutor", lambda *_, **__: ThreadPoolExecutor(1)
        ):
            cache.fill("", [("s01_gd", s) for s in range(6)], "", ["main", "more"], 1, io.StringIO(), others=(2, 3))
        self.assertEqual([(a[2], a[4]) for a in asked], [(s, ["main", "more"] if s % 3 < 2 else ["main"]) for s in range(6)])

    def test_points_are_held_until_the_next_push(self):
        got = cache.held(np.array([2, 7, 8]), np.array([5.0, np.nan, 1.0]), 10)
        np.testing.assert_array_equal(got, [np.nan, np.nan, 5, 5, 5, 5, 5, np.nan, 1, 1])

    def test_replay_of_the_optimised_build(self):
        """Columns and one row a push, every fifth update, where bench_replay is there."""
        replay = BUILD / "bin/bench_replay"
        if not replay.exists():
            self.skipTest("no bench_replay in this build")
        with tempfile.TemporaryDirectory() as folder:
            runs = [("u01_gd_lr", 1)]
            self.assertEqual(cache.fill(folder, runs, str(replay), ["k5-exact-state"], 1, io.StringIO()), 0)
            with np.load(Path(folder) / "u01_gd_lr/1/k5-exact-state.npz") as z:
                self.assertEqual(list(z["rows"][:, 0]), list(range(0, 300, 5)))
                self.assertIn("loss", list(z["columns"]))

    def test_cache_resumes(self):
        with tempfile.TemporaryDirectory() as folder:
            log = io.StringIO()
            runs = [("s22_linreg", 1), ("u01_gd_lr", 0)]
            self.assertEqual(cache.fill(folder, runs, "", [], 1, log), 0)
            self.assertEqual(len(log.getvalue().splitlines()), 2)
            self.assertEqual(cache.fill(folder, runs, "", [], 1, log), 0)
            self.assertEqual(len(log.getvalue().splitlines()), 2)
            found = cache.load(folder, FAMILIES, [0, 1])
            self.assertEqual([q[:2] for q in found], [("u01_gd_lr", 0), ("s22_linreg", 1)])
            self.assertEqual(len(cache.signals_of(found[0][3])["loss"]), found[0][2]["steps"])


class Truth(unittest.TestCase):
    def test_divergence(self):
        loss = [1.0] * 3 + list(np.linspace(1, 0.2, 50)) + [0.2, 0.5, 0.9, 2.0, 5.0, 20.0]
        found = label(loss)
        self.assertEqual(found["label"], "diverged")
        # E = half of 0.8: the first loss above 0.2 + 0.4
        self.assertEqual(found["events"], [[55, 53, -1]])

    def test_spike_recovers(self):
        loss = [1.0] * 30 + [0.2] * 60 + [0.9] * 4 + [0.22] * 20
        found = label(loss)
        self.assertEqual((found["label"], found["events"]), ("spiked", [[90, 89, 94]]))

    def test_near_events_are_one_and_far_ones_two(self):
        def two(gap):
            return label([1.0] * 30 + [0.2] * 60 + [0.9] * 4 + [0.2] * gap + [0.9] * 4 + [0.2] * 20)["events"]

        self.assertEqual(len(two(49)), 1)
        self.assertEqual(len(two(51)), 2)

    def test_small_excursions(self):
        base = [1.0] * 30 + [0.2] * 60
        self.assertEqual(label(base + [0.35] + [0.2] * 9)["label"], "stable")
        self.assertEqual(label(base + [0.45] + [0.2] * 9)["label"], "borderline")
        self.assertEqual(label([math.nan] * 5)["label"], "diverged")


def judged(steps, events=(), inject=-1, name="stable"):
    return protocol.Judged("s00", 0, dict(label=name, events=list(events), inject=inject, steps=steps))


def alarm(steps, *at):
    out = np.zeros(steps, bool)
    out[list(at)] = True
    return out


class Protocol(unittest.TestCase):
    def test_window(self):
        q = judged(300, [[200, 190, -1]], name="diverged")
        for at, found in ((149, 0), (150, 1), (200, 1), (201, 1), (202, 0)):
            self.assertEqual(q.judge(alarm(300, at))["found"], found, at)
        self.assertEqual(q.judge(alarm(300, 180))["leads"], [20])
        self.assertEqual(q.judge(alarm(300, 201))["leads"], [-1])
        self.assertEqual(q.judge(alarm(300, 200))["foreseen"], 0)
        self.assertEqual(q.judge(alarm(300, 199))["foreseen"], 1)

    def test_not_before_the_fault(self):
        q = judged(300, [[200, 190, -1]], inject=195, name="diverged")
        self.assertEqual(q.judge(alarm(300, 194))["found"], 0)
        self.assertEqual(q.judge(alarm(300, 195))["found"], 1)
        self.assertEqual(int(q.healthy.sum()), 100)
        at_once = judged(300, [[200, 190, -1]], inject=200, name="diverged")
        self.assertEqual(at_once.judge(alarm(300))["foreseeable"], 0)

    def test_second_event_begins_after_the_first(self):
        q = judged(400, [[100, 95, 120], [180, 170, -1]], name="diverged")
        self.assertEqual(q.events, [(50, 100, 102), (171, 180, 182)])
        self.assertEqual(q.judge(alarm(400, 160))["found"], 0)

    def test_cold_events_cannot_be_foreseen(self):
        r = judged(100, [[5, 3, -1]], name="diverged").judge(alarm(100, 2))
        self.assertEqual((r["found"], r["warm"], r["foreseeable"]), (1, 0, 0))

    def test_false_alarms(self):
        q = judged(400)
        self.assertEqual(q.judge(alarm(400, 10, 35, 36))["false"], 2)
        self.assertEqual(q.judge(np.ones(400, bool))["false"], 16)
        r = judged(400, inject=100).judge(alarm(400, 120, 151))
        self.assertEqual((r["false"], r["healthy"], r["runs"]), (1, 349, 0))
        self.assertEqual(judged(400, name="borderline").judge(np.ones(400, bool))["healthy"], 0)
        far = judged(400, [[300, 290, -1]], name="diverged")
        self.assertEqual(far.judge(alarm(400, 199, 200, 249))["false"], 1)

    def test_summary(self):
        hit = judged(300, [[200, 190, -1]], name="diverged")
        records = [hit.judge(alarm(300, 190)), hit.judge(alarm(300)), judged(500).judge(alarm(500, 7))]
        s = protocol.summary(records)
        self.assertEqual((s["recall"][0], s["early"][0], s["lead"][0]), (0.5, 0.5, 10.0))
        self.assertAlmostEqual(s["false"][0], 1e4 / 700)
        self.assertEqual(s["alarmed"][0], 1.0)
        self.assertLessEqual(s["recall"][1], 0.5)
        self.assertGreaterEqual(s["recall"][2], 0.5)
        self.assertTrue(math.isnan(protocol.summary([judged(9).judge(alarm(9))])["recall"][0]))

    def test_interval_is_by_run(self):
        """Twenty events in one run are one cluster: the interval is as wide as two runs make it."""
        many = [[50 + 100 * i, 45 + 100 * i, 60 + 100 * i] for i in range(20)]
        q = judged(2200, many, name="spiked")
        s = protocol.summary([q.judge(np.ones(2200, bool)), q.judge(np.zeros(2200, bool))])
        self.assertEqual(s["recall"], (0.5, 0.0, 1.0))

    def test_nothing_seen_still_has_a_bound(self):
        s = protocol.summary([judged(1000).judge(alarm(1000))])
        self.assertEqual(s["false"][0], 0.0)
        self.assertAlmostEqual(s["false"][2], 36.9, places=1)

    def test_tuned_threshold(self):
        quiet = judged(10000)
        score = np.zeros(10000)
        score[[100, 5000]] = [3.0, 2.0]
        for budget, expected in ((0.5, 3.0), (1.0, 2.0), (2.0, 0.0)):
            self.assertEqual(protocol.tuned([quiet], [score], budget), expected)


class Document(unittest.TestCase):
    def test_table_is_replaced_between_its_marks(self):
        document = "a\n<!-- x -->\nold\n<!-- end x -->\nb\n"
        found = report.replace(document, "x", "| new |")
        self.assertEqual(found, "a\n<!-- x -->\n| new |\n<!-- end x -->\nb\n")
        self.assertEqual(report.replace(found, "x", "| new |"), found)
        self.assertRaises(ValueError, report.replace, document, "y", "")


class Spikes(unittest.TestCase):
    def test_each_finds_a_spike(self):
        r = np.random.RandomState(0)
        loss = 2 + 0.05 * r.randn(400)
        loss[300:306] = 90.0
        for name, function in (
            ("zclip", spikes.zclip), ("olmo", spikes.olmo_stability), ("skip", spikes.olmo_skip),
            ("kill", spikes.kill_loss_spike), ("lightning", spikes.lightning), ("megatron", spikes.megatron),
            ("llmc", spikes.llmc), ("ema", spikes.ratio_to_mean),
        ):
            limit = dict(zclip=4, olmo=6, skip=6, kill=1, lightning=2, megatron=10, llmc=7, ema=3)[name]
            with np.errstate(invalid="ignore"):
                fires = function(loss) > limit
            self.assertTrue(fires[300:306].any(), name)
            self.assertFalse(fires[200:300].any(), name)

    def test_nan_stays_in_the_sums_of_llmc(self):
        loss = 2 + 0.05 * np.random.RandomState(0).randn(600)
        loss[200], loss[500] = np.nan, 90.0
        self.assertFalse((spikes.llmc(loss) > 7).any())

    def test_rms_of_a_sudden_gradient(self):
        """sqrt(g^2 / v^) of one element: 99 ones, then 10."""
        seen = Signals(dict(opt=optim.adamw(), clip=0.0))
        state = {}
        for t in range(100):
            g = 10.0 if t == 99 else 1.0

            class Step:
                loss, rates, updated, skipped = 1.0, [0.1], True, False
                params = {"w": np.zeros(1, np.float32)}
                grads = {"w": np.full(1, g, np.float32)}
                updates = t

            v = np.full(1, state.get("v", 0.0))
            Step.state = [{"w": np.zeros(1)}, {"w": v}]
            seen.step(Step)
            state["v"] = 0.999 * v[0] + 0.001 * g * g
        expected = 10 / math.sqrt((0.999 * (1 - 0.999**99) + 0.001 * 100) / (1 - 0.999**100))
        self.assertAlmostEqual(seen.array()[-1][COLUMNS.index("rms")], expected, places=6)


if __name__ == "__main__":
    unittest.main()
