"""The examples of the Python client, as a reader runs them."""

import os
import subprocess
import sys
import unittest

from service import ROOT, Service
import lyapd

SECONDS_MAX = 60
EXAMPLES = os.path.join(ROOT, "clients", "python", "examples")


class Examples(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.daemon = Service()
        cls.addClassCleanup(cls.daemon.close)

    def example(self, name):
        result = subprocess.run([sys.executable, os.path.join(EXAMPLES, name), self.daemon.url],
                                capture_output=True, text=True, timeout=SECONDS_MAX)
        self.assertEqual((result.returncode, result.stderr), (0, ""), result.stdout)
        return result.stdout

    def test_mlp_is_told_before_it_is_lost(self):
        output = self.example("mlp.py")
        self.assertRegex(output, r"step 20\d: (limit-crossed|instability) ")
        self.assertRegex(output, r"step 20\d: reduce_lr: ")
        end = float(output.split("loss ")[-1].split(" at the end")[0])
        self.assertLess(end, 10.0, "the advice did not save the run")
        with lyapd.Run(self.daemon.url, "example-mlp") as run:
            self.assertEqual(run.info()["state"], "ended")

    def test_numpy(self):
        self.assertIn("state healthy", self.example("numpy_sgd.py"))

    def test_plain_lists(self):
        output = self.example("plain_lists.py")
        # the loss rises from the first update on, and by the end all of the progress is lost
        self.assertIn("'kind': 'rollback'", output)


if __name__ == "__main__":
    unittest.main()
