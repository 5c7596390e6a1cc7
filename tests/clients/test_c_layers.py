"""The C client's twins and activations against the real daemon."""
import math
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from test_c_trainer import BUILD, Daemon

SECONDS = 60


def fill(count, seed):
    return [(i * 37 + seed * 101) % 97 / 97 - 0.5 for i in range(count)]


def distance(a, b):
    return math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b)))


class Client(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp())
        self.daemon = Daemon(self.folder)

    def tearDown(self):
        self.assertEqual(self.daemon.stop(), 0, (self.folder / "lyapd.log").read_text())
        shutil.rmtree(self.folder)

    def run_program(self, name, *arguments):
        done = subprocess.run([BUILD / "bin" / name, self.daemon.url, *arguments], text=True,
                              capture_output=True, timeout=SECONDS, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)
        return done.stdout

    def test_the_rate_of_a_twin_is_that_of_its_mode(self):
        """log|1 - 30 lr| above the limit, log|1 - lr| of the flattest mode below it."""
        for run, lr, rate in (("above", 0.07, math.log(1.1)), ("below", 0.05, math.log(0.95))):
            output = self.run_program("lyap-twin", run, str(lr), "330")
            said = re.findall(r"step (\d+): twin random grows by (\S+) a step", output)
            self.assertEqual([int(step) for step, _ in said], list(range(64, 330)))
            self.assertAlmostEqual(float(said[-1][1]), rate, delta=1e-8)
            self.assertIn("step 63: no rate yet, warming-up", output)
            latest = self.daemon.get(f"/v1/runs/{run}/profile/latest")
            self.assertEqual(latest["twins"], ["random", None, None, None])
            self.assertEqual(latest["verdict_detail"]["twin"], "exponential" if rate > 0 else "decay")

    def test_activations_in_both_grades(self):
        rows = {}
        for grade in ("full", "partial"):
            self.run_program("layers_job", grade, grade)
            latest = self.daemon.get(f"/v1/runs/{grade}/profile/latest")["metrics"]
            layers = {r["layer"]: r for r in self.daemon.get(f"/v1/runs/{grade}/layers")["layers"]}
            rows[grade] = layers
            exact = distance(fill(12, 32), fill(12, 35)) / distance(fill(6, 22), fill(6, 23))
            self.assertAlmostEqual(latest["empirical_gain"]["value"], exact, delta=1e-12)
            norm = math.sqrt(sum(v * v for v in fill(12, 32)))
            self.assertAlmostEqual(layers["fc"]["act_norm"]["value"], norm, delta=1e-12)
            self.assertAlmostEqual(layers["fc"]["empirical_gain"]["value"], exact, delta=1e-12)
        gains = [max(distance(fill(12, t + 30), fill(12, t + 33)) / distance(fill(6, t + 20), fill(6, t + 21))
                     for t in range(3))] * 2
        for (grade, layers), gain in zip(rows.items(), gains):
            self.assertAlmostEqual(layers["fc"]["empirical_gain_max"]["value"], gain, delta=1e-12)
            # A layer without a tensor has no row; gates are of the full grade alone.
            self.assertEqual(layers["end"]["empirical_gain"]["reason"], "needs-activations", grade)


if __name__ == "__main__":
    unittest.main()
