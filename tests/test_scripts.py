"""The scripts' own logic: counting test cases, refusing bad arguments."""
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
JUNIT = """<?xml version="1.0"?><testsuite>
<testcase name="a" status="run"><system-out>100%: Checks: 7, Failures: 0, Errors: 0
</system-out></testcase>
<testcase name="b" status="fail"><failure message=""/><system-out>50%: Checks: 4, Failures: 1, Errors: 1
</system-out></testcase>
<testcase name="c" status="run"><system-out>....
Ran 5 tests in 0.1s

OK (skipped=2)
</system-out></testcase>
<testcase name="d" status="fail"><failure message=""/><system-out>Ran 3 tests in 0.1s

FAILED (failures=1, errors=1)
</system-out></testcase>
<testcase name="e" status="run"><system-out>anything</system-out></testcase>
<testcase name="f" status="fail"><failure message=""/><system-out>100%: Checks: 2, Failures: 0, Errors: 0
LeakSanitizer</system-out></testcase>
<testcase name="g" status="notrun"><skipped message="SKIP_RETURN_CODE=77"/></testcase>
<testcase name="h" status="notrun"><skipped message="Unable to find executable"/></testcase>
</testsuite>"""


def run(script, *arguments):
    return subprocess.run(
        [str(ROOT / "scripts" / script), *arguments], capture_output=True, text=True, check=False
    )


class CountTests(unittest.TestCase):
    def count(self, text):
        with tempfile.NamedTemporaryFile("w", suffix=".xml") as file:
            file.write(text)
            file.flush()
            return run("count-tests", file.name)

    def test_sums_cases(self):
        result = self.count(JUNIT)
        # a 7, b 2 + 2 failed, c 3 + 2 skipped, d 1 + 2 failed, e 1, f 1 + 1 failed, g skipped, h failed
        self.assertEqual(result.stdout.splitlines()[-1], "15 passed, 6 failed, 3 skipped")
        self.assertEqual(result.returncode, 1)

    def test_all_passed(self):
        result = self.count('<testsuite><testcase name="a" status="run"/></testsuite>')
        self.assertEqual(result.stdout, "1 passed, 0 failed\n")
        self.assertEqual(result.returncode, 0)

    def test_nothing_is_no_success(self):
        self.assertEqual(self.count("<testsuite/>").returncode, 1)


class Arguments(unittest.TestCase):
    def test_refused(self):
        for script, arguments in {
            "install-deps": ["everything"],
            "quickstart": ["--port", "99999"],
        }.items():
            result = run(script, *arguments)
            self.assertEqual(result.returncode, 1)
            self.assertIn(arguments[-1], result.stderr)

    def test_help(self):
        result = run("quickstart", "--help")
        self.assertEqual(result.returncode, 0)
        self.assertIn("--once", result.stdout)


if __name__ == "__main__":
    unittest.main()
