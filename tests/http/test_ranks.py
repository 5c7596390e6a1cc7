"""Several ranks: shards add in any order of arrival, coverage is checked, late parts are refused."""
import itertools
import json
import unittest

from blackbox import DaemonCase, Quadratic
from test_push import unseeded, values


def shard_of(q, rank, world, **more):
    """Rank's part of the push: `first` in flat ranges of the ranks, `second` whole on rank 0."""
    w, g = q.w, q.grad
    size = 4 // world
    part = slice(rank * size, (rank + 1) * size)
    tensors = {
        "param/first": ([size], w[:4][part]),
        "grad/first": ([size], g[:4][part]),
    }
    shard = {"first": {"shape": [2, 2], "offset": rank * size}}
    if rank == 0:
        tensors["param/second"] = ([2], w[4:])
        tensors["grad/second"] = ([2], g[4:])
    metadata = q.metadata(rank=rank, world=world, shard=json.dumps(shard), **more)
    if rank:
        metadata["loss"] = "77"  # the scalars are rank 0's
    return tensors, metadata


DECLARED = {
    "tensors": [{"name": "first", "shape": [2, 2]}, {"name": "second", "shape": [2]}]
}


class RanksCase(DaemonCase):
    def push(self, run, q, rank, world=2, **more):
        return self.daemon.push_tensors(run, *shard_of(q, rank, world, **more))


class Ranks(RanksCase):
    def test_every_order_of_arrival_gives_the_point_of_one_rank(self):
        single = Quadratic()
        expected = []
        for _ in range(3):
            expected.append(unseeded(self.ok(self.daemon.push_json("single", single.snapshot()))))
            single.advance()
        for i, order in enumerate(itertools.permutations(range(4))):
            q, run = Quadratic(), "run-%d" % i
            self.ok(self.daemon.put("/v1/runs/" + run, DECLARED), 201)
            for step in range(3):
                for rank in order[:-1]:
                    answer = self.ok(self.push(run, q, rank, 4), 202)
                    self.assertEqual(answer["status"], "waiting")
                answer = self.ok(self.push(run, q, order[-1], 4))
                self.assertEqual(answer["status"], "accepted")
                got = unseeded(answer)
                for name, value in expected[step].items():
                    if name.startswith("spectral_"):
                        continue  # iterated at once where one rank keeps all: tests/http/test_spectral.py
                    if value is None:
                        self.assertIsNone(got[name], (name, order))
                    elif name == "block_share":  # a block that shards cut counts as its pieces
                        self.assertLessEqual(got[name], value + 1e-12, order)
                    else:
                        self.close_to(got[name], value, 1e-12)
                q.advance()
        self.assertIsNotNone(expected[2]["update_norm"])

    def test_sums_do_not_depend_on_the_order_bit_for_bit(self):
        answers = []
        for i, order in enumerate(((0, 1, 2, 3), (3, 1, 0, 2))):
            q, run = Quadratic(start=1 / 3), "bits-%d" % i
            self.daemon.put("/v1/runs/" + run, DECLARED)
            for step in range(2):
                for rank in order:
                    reply = self.push(run, q, rank, 4)
                q.advance()
            answers.append(unseeded(self.ok(reply)))
        self.assertEqual(answers[0], answers[1])

    def test_a_shard_too_many_or_too_few_is_422_and_may_be_corrected(self):
        q = Quadratic()
        self.ok(self.daemon.put("/v1/runs/c", DECLARED), 201)
        self.ok(self.push("c", q, 0), 202)
        tensors, metadata = shard_of(q, 1, 2)
        wrong = dict(tensors, **{"param/first": ([1], tensors["param/first"][1][:1])})
        detail = self.refused(self.daemon.push_tensors("c", wrong, metadata), 422, "shard-coverage")
        self.assertIn("first", detail)
        answer = self.ok(self.push("c", q, 1))
        self.assertEqual(answer["status"], "accepted")
        self.close_to(values(answer)["loss"], q.loss)

    def test_a_rank_that_waits_may_push_again(self):
        q = Quadratic()
        self.daemon.put("/v1/runs/r", DECLARED)
        self.ok(self.push("r", q, 0), 202)
        self.ok(self.push("r", q, 0), 202)
        self.assertEqual(self.ok(self.push("r", q, 1))["status"], "accepted")
        self.assertEqual(self.ok(self.push("r", q, 0))["status"], "duplicate")
        self.assertEqual(self.ok(self.push("r", q, 1))["status"], "duplicate")

    def test_a_later_step_that_is_complete_closes_the_earlier(self):
        q = Quadratic()
        self.daemon.put("/v1/runs/l", DECLARED)
        for rank in (0, 1):
            self.push("l", q, rank)
        q.advance()
        self.ok(self.push("l", q, 0), 202)
        early = Quadratic().advance()
        q.advance()
        self.ok(self.push("l", q, 0), 202)
        self.assertEqual(self.ok(self.push("l", q, 1))["status"], "accepted")
        self.refused(self.push("l", early, 1), 409, "step-closed")
        profile = self.ok(self.daemon.get("/v1/runs/l/profile?metric=loss&metric=param_norm"))
        self.assertEqual(profile["step"], [0, 1, 2])
        self.assertIsNone(profile["series"]["param_norm"][1])
        self.assertIsNotNone(profile["series"]["loss"][1])

    def test_ranks_cannot_disagree_about_the_world(self):
        q = Quadratic()
        self.daemon.put("/v1/runs/w", DECLARED)
        self.ok(self.push("w", q, 0), 202)
        tensors, metadata = shard_of(q, 1, 4)
        self.assertEqual(self.daemon.push_tensors("w", tensors, metadata).status, 400)

    def test_running_far_ahead_is_held_back(self):
        q = Quadratic()
        self.daemon.put("/v1/runs/a", DECLARED)
        statuses = []
        for _ in range(6):
            statuses.append(self.push("a", q, 0).status)
            q.advance()
        self.assertEqual(statuses[:4], [202] * 4)
        self.assertIn(503, statuses[4:])

    def test_a_tensor_of_another_rank_must_be_declared(self):
        q = Quadratic()
        self.push("u", q, 1)
        detail = self.refused(self.push("u", q, 0), 409, "tensor-set-changed")
        self.assertIn("PUT", detail)


class Deadline(RanksCase):
    flags = ("--rank_deadline_s=1",)

    def test_the_deadline_closes_the_step_with_its_scalars(self):
        q = Quadratic()
        self.daemon.put("/v1/runs/d", DECLARED)
        self.ok(self.push("d", q, 1), 202)
        latest = self.eventually(
            lambda: (lambda r: r.status == 200 and r.json)(self.daemon.get("/v1/runs/d/profile/latest"))
        )
        self.assertEqual(latest["metrics"]["param_norm"]["reason"], "rank-missing")
        self.assertEqual(latest["metrics"]["loss"]["value"], 77)
        detail = self.refused(self.push("d", q, 0), 409, "step-closed")
        self.assertIn("rank 0", detail)
        self.assertEqual(self.ok(self.push("d", q, 1))["status"], "duplicate")
        events = self.ok(self.daemon.get("/v1/runs/d/events"))["events"]
        missing = [e for e in events if e["kind"] == "rank-missing"]
        self.assertEqual(missing[0]["detail"], {"world": 2, "missing": [0]})
        self.daemon.kill()
        self.daemon.start()
        self.refused(self.push("d", q, 0), 409, "step-closed")


if __name__ == "__main__":
    unittest.main()
