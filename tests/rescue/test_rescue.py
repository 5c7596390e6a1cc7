"""bench/rescue: followed runs are the ignored ones until something is advised; judgements and tables."""
import math
import os
import sys
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "bench/rescue"), str(ROOT / "bench/detection")]
try:
    import numpy  # noqa: F401
    import sklearn  # noqa: F401
    import torch  # noqa: F401
except ImportError:
    print("needs numpy, torch and scikit-learn")
    sys.exit(77)
import follow
import judge
import kinds
import rescue
import tables
from lyapd.guard import _copied as copied
from truth import label

PATH = [2.0] * 5 + [1.0] * 20 + [0.4] * 20  # ref 2, least 0.4: E = 0.8 until the loss triples


class Judge(unittest.TestCase):
    def test_the_line_of_recovery(self):
        probe = PATH + [9.0] * 5 + [0.41] * 20
        truth = label(probe)
        self.assertEqual(truth["events"][0], [45, 44, 50])
        self.assertAlmostEqual(judge.line(probe, 0.0, 45), 0.4 + 0.5 * 0.03 * 2)  # more than ten-fold
        slow = PATH + [1.9] * 30
        self.assertEqual(label(slow)["events"][0][0], 45)
        self.assertAlmostEqual(judge.line(slow, 0.0, 45), 0.4 + 0.5 * 0.2)  # more than three-fold

    def test_ends_well(self):
        line = 1.0
        for tail, is_well in (([0.5] * 20, True), ([0.95] * 20, True), ([9.0] * 20, False), ([math.nan] * 5, False),
                              ([9.0] * 3 + [0.41] * 20, True), ([9.0] * 3 + [0.41] * 20 + [math.inf] * 3, False)):
            probe = PATH + tail
            self.assertEqual(judge.ends_well(probe, 0.0, label(probe), line), is_well, tail)
        probe = PATH + [0.5] * 20
        self.assertFalse(judge.ends_well(probe, 0.0, label(probe), 0.45))

    def test_an_event_at_the_very_end_has_no_time_to_recover(self):
        """As long as the ignored run's own events took, the longest of them; with none that recovered nothing is said."""
        def cut_short(ignored, followed):
            return judge.is_cut_short(label(ignored), label(followed), len(followed))

        spike = [9.0] * 8  # recovers after 8 steps, 4 more to see it
        ignored = PATH + spike + [0.41] * 80
        self.assertTrue(cut_short(ignored, PATH + [0.4] * 60 + [9.0] * 12))
        self.assertFalse(cut_short(ignored, PATH + [0.4] * 60 + [9.0] * 13))
        self.assertFalse(cut_short(ignored, PATH + spike + [0.41] * 60))
        self.assertFalse(cut_short(ignored, PATH + [0.4] * 60))
        self.assertFalse(cut_short(PATH + [9.0] * 60, PATH + [0.4] * 60 + [9.0] * 3))

    def test_harm_is_a_share_of_the_progress(self):
        self.assertAlmostEqual(judge.harm(PATH, PATH[:-5] + [0.56] * 5, 0.0), 0.1)
        self.assertAlmostEqual(judge.harm(PATH, PATH, 0.0), 0.0)
        self.assertLess(judge.harm(PATH, PATH[:-5] + [0.3] * 5, 0.0), 0)
        self.assertEqual(judge.harm(PATH, PATH[:-5] + [math.nan] * 5, 0.0), math.inf)
        self.assertEqual(judge.above(PATH + [9.0, math.nan, 0.4], 0.0, 1.0, 45), 2)

    def test_every_failing_family_has_a_kind(self):
        self.assertEqual([f for f in rescue.chosen(None) if f.startswith("u") and kinds.kind_of(f) == "other"], [])
        self.assertFalse(set(rescue.chosen(None)) & set(rescue.UNSEEN))


class Adapters(unittest.TestCase):
    def test_a_rollback_restores_all_of_the_state(self):
        """Parameters, buffers and optimizer state: the same batches after it give the same losses as before."""
        run = follow.training.Run("s37_batchnorm", 501)
        state = {}
        optimizer, adapter = follow.Optimizer(1, state), follow.Model(run.spec.model)
        batches = [run.spec.batch(t) for t in range(6)]

        def train():
            losses = []
            for t, batch in enumerate(batches):
                loss, grads = run._backward(t, batch, None)
                run._update(t, grads, state, [0.05])
                losses.append(loss)
            return losses

        train()
        kept = copied({"model": adapter.state_dict(), "optimizer": optimizer.state_dict()})
        first = train()
        adapter.load_state_dict(kept["model"])
        optimizer.load_state_dict(kept["optimizer"])
        probe = len(run.probe)
        self.assertEqual(train(), first)
        self.assertEqual(run.probe[probe:], run.probe[probe - 6 : probe])

    def test_declarations_are_those_of_the_wire(self):
        for family in ("u14_router", "s13_prox", "u11_prox", "s32_freeze"):
            for seed in (500, 501):
                found = follow.declared(follow.training.Run(family, seed).header()["opt"])
                self.assertFalse({"box", "l1"} & set(found))
                for group in found.get("groups", []):
                    self.assertIn("tensors", group)


class Program(unittest.TestCase):
    def test_rows_and_tables(self):
        with rescue.Daemon() as daemon:
            rows = [rescue.measure((daemon.url, family, seed))
                    for family, seed in (("s13_prox", 500), ("s08_accum", 501), ("u01_gd_lr", 500))]
        for row in rows[:2]:
            for way in row["ways"].values():
                self.assertEqual((way["errors"], way["acts"]), ([], []))
                self.assertTrue(way["is_same"])
                self.assertEqual(way["steps"], row["steps"])
        self.assertFalse(rows[2]["well"])
        for name, late in rescue.WAYS.items():
            way = rows[2]["ways"][name]
            self.assertTrue(way["well"], way)
            self.assertGreaterEqual(way["cuts"], 1)
            self.assertEqual(set(way["lateness"]), {late})
        found = {name: table(rows) for name, table in tables.TABLES.items()}
        self.assertIn("| **all** | 1 | 0 | 1 |", found["saved"])
        self.assertTrue(found["saved"].splitlines()[-1].endswith("| 0 | 0 | 0 |"))
        spoilt = dict(rows[2], well=True, ways={
            name: dict(way, well=name != "late", is_cut_short=name == "late") for name, way in rows[2]["ways"].items()})
        self.assertTrue(tables.saved([spoilt, rows[2]]).splitlines()[-1].endswith("| 0 | 1 | 1 |"))
        self.assertIn("`u01_gd_lr`", found["families"])
        self.assertIn("| in time | 2 | 2 | 0 | 0 | 0 | 0 (0.00 %) |", found["costs"])
        document = (ROOT / "docs/rescue.md").read_text()
        for name in tables.TABLES:
            self.assertIn("<!-- %s -->" % name, document)
            self.assertIn("<!-- end %s -->" % name, document)


if __name__ == "__main__":
    unittest.main()
