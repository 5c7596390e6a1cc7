"""Jobs that push the loss and nothing else: what alarms, how soon, and what does not."""
import math
import random
import unittest

from blackbox import DaemonCase

SEEDS = range(4)
NOISES = (0.0, 0.01, 0.05, 0.15)  # of the logarithm of a loss
START = 60
FALLS = {
    "exponential": lambda step: 0.3 + 2.3 * math.exp(-step / 100),
    "power": lambda step: 2.5 * (1 + step) ** -0.3,
}


class Losses(DaemonCase):
    def cases(self):
        """A name of a run, its healthy losses without end, and its noise as a function without arguments."""
        for fall, loss_at in FALLS.items():
            for noise in NOISES:
                for seed in SEEDS if noise else (0,):
                    draw = random.Random("%s-%g-%d" % (fall, noise, seed))
                    factor = lambda draw=draw, noise=noise: math.exp(noise * draw.gauss(0, 1))
                    losses = lambda count, at=loss_at, factor=factor: [at(n) * factor() for n in range(count)]
                    yield "%s-%g-%d" % (fall, noise, seed), losses, factor

    def answers(self, run, losses):
        """[(whether `instability` fires, the action)] of each point."""
        reply, lines = self.daemon.push_ndjson(run, [{"step": n, "loss": x} for n, x in enumerate(losses)])
        self.assertEqual((reply.status, len(lines)), (200, len(losses)), reply)
        return [
            (any((a["rule"], a["state"]) == ("instability", "firing") for a in line["alerts"]), line["action"])
            for line in lines
        ]

    def first(self, answers):
        """Index of the first alarm, none of which was in the healthy start."""
        fired = [n for n, (is_fired, _) in enumerate(answers) if is_fired]
        self.assertTrue(fired)
        self.assertGreaterEqual(fired[0], START)
        return fired[0]

    def test_a_loss_that_falls_with_noise_raises_no_alarm(self):
        for run, losses, _ in self.cases():
            with self.subTest(run=run):
                self.assertFalse(any(is_fired for is_fired, _ in self.answers(run, losses(300))))
        self.assertEqual(self.ok(self.daemon.get("/v1/alerts?rule=instability"))["alerts"], [])

    def test_a_loss_that_is_noise_alone_raises_no_alarm(self):
        """As when a converged model goes on: flat from the first point, so that the least of it is all that is at stake."""
        for seed in range(8):
            for noise in NOISES:
                run = "flat-%g-%d" % (noise, seed)
                draw = random.Random(run)
                with self.subTest(run=run):
                    answers = self.answers(run, [0.7 * math.exp(noise * draw.gauss(0, 1)) for _ in range(300)])
                    self.assertFalse(any(is_fired for is_fired, _ in answers))
        self.assertEqual(self.ok(self.daemon.get("/v1/alerts?rule=instability"))["alerts"], [])

    def test_growth_of_5_percent_a_point_alarms_before_it_is_tenfold(self):
        for run, losses, factor in self.cases():
            with self.subTest(run=run):
                healthy = losses(START)
                count = math.floor(math.log(10) / math.log(1.05))
                answers = self.answers(run, healthy + [healthy[-1] * 1.05**n * factor() for n in range(1, count + 1)])
                action = answers[self.first(answers)][1]
                self.assertIn(action["kind"], ("reduce_lr", "rollback"))
                self.assertNotIn("lr", action)  # nobody said what it is

    def test_a_tenfold_jump_that_lasts_alarms_by_its_third_point(self):
        for run, losses, factor in self.cases():
            with self.subTest(run=run):
                healthy = losses(START)
                answers = self.answers(run, healthy + [10 * healthy[-1] * factor() for _ in range(10)])
                self.assertLess(self.first(answers), START + 3)


if __name__ == "__main__":
    unittest.main()
