"""The C client's trainer against the real daemon: both grades, calm, fault and rescue, kill -9."""
import json
import math
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = Path(os.environ["LYAP_BUILD_DIR"])
IS_SANITIZED = bool(os.environ.get("LYAP_SANITIZE"))
START_SECONDS = 20
TRAIN_SECONDS = 300
SETTLED = 8  # steps until every window of 5 has only points scaled by the reference loss
SCORE_WINDOW = 50  # points that the score looks back on; their scale is that of their own time


class Daemon:
    """A lyapd on loopback with its database in `folder`."""

    def __init__(self, folder):
        self.folder = folder
        self.port = 0
        self.start()

    def start(self):
        with open(self.folder / "lyapd.log", "a", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [BUILD / "bin" / "lyapd", "--listen", f"127.0.0.1:{self.port}",
                 "--db", self.folder / "lyapd.db"],
                stdout=subprocess.PIPE, stderr=log, text=True)
        line = self.process.stdout.readline()
        match = re.search(r"listening on (http://127\.0\.0\.1:(\d+))", line)
        if not match:
            raise AssertionError(f"{line!r}: " + (self.folder / "lyapd.log").read_text())
        self.url, self.port = match.group(1), int(match.group(2))

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(START_SECONDS)
        self.process.stdout.close()
        return status

    def get(self, path):
        with urllib.request.urlopen(self.url + path, timeout=START_SECONDS) as answer:
            return json.load(answer)


class Between:
    """A daemon in front of the real one: it refuses the first push of the steps `refused`, and puts
    `answers` {step: {"metrics": ..., "action": ...}} into the first attempt's answers."""

    def __init__(self, daemon, refused=(), answers=None):
        self.daemon, self.refused, self.answers = daemon, set(refused), answers or {}
        self.pushes = []  # metadata, in order of arrival
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        self.url = "http://127.0.0.1:%d" % self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def handler(between):
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments):
                pass

            def do_GET(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, answer = between.answer(self.command, self.path, dict(self.headers), body)
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_PUT = do_POST = do_GET

        return Handler

    def answer(self, method, path, headers, body):
        metadata = {}
        if method == "POST":
            size = int.from_bytes(body[:8], "little")
            metadata = json.loads(body[8:8 + size])["__metadata__"]
            self.pushes.append(metadata)
            if int(metadata["step"]) in self.refused:
                self.refused.discard(int(metadata["step"]))
                return 400, b'{"title":"refused","status":400}'
        kept = {k: v for k, v in headers.items() if k.lower() in ("content-type", "prefer", "authorization")}
        request = urllib.request.Request(self.daemon.url + path, body or None, kept, method=method)
        try:
            with urllib.request.urlopen(request, timeout=START_SECONDS) as answer:
                status, text = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read()
        more = self.answers.get(int(metadata["step"])) if metadata.get("attempt") == "1" else None
        if more:
            document = json.loads(text)
            document["metrics"].update(more.get("metrics", {}))
            document["action"] = more.get("action", document["action"])
            text = json.dumps(document).encode()
        return status, text


def trainer(daemon, *arguments, **more):
    environment = dict(os.environ, OPENBLAS_NUM_THREADS="1")
    return subprocess.Popen(
        [BUILD / "bin" / "lyap-trainer", "--url", daemon.url, *arguments],
        cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **more)


def number(value):
    return float({"Infinity": "inf", "-Infinity": "-inf"}.get(value, value))


class Trainer(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp())
        self.daemon = Daemon(self.folder)

    def tearDown(self):
        if self.daemon.process.poll() is None:
            self.assertEqual(self.daemon.stop(), 0, (self.folder / "lyapd.log").read_text())
        shutil.rmtree(self.folder)

    def train(self, *arguments):
        process = trainer(self.daemon, *arguments)
        output, _ = process.communicate(timeout=TRAIN_SECONDS)
        self.assertEqual(process.returncode, 0, output)
        return output

    def series(self, run, attempt):
        latest = self.daemon.get(f"/v1/runs/{run}/profile/latest")
        names = sorted(latest["metrics"])
        query = "&".join(f"metric={name}" for name in names[:60])
        rest = "&".join(f"metric={name}" for name in names[60:])
        path = f"/v1/runs/{run}/profile?attempt={attempt}&from=0&"
        first = self.daemon.get(path + query)
        series = dict(first["series"])
        if rest:
            series.update(self.daemon.get(path + rest)["series"])
        return first["step"], series

    def test_both_grades_give_the_same_point(self):
        """One run, two attempts with the same model and data; the reference loss carries over, so that
        what is scaled by it agrees once the first attempt has one, too."""
        steps = 70
        self.train("--run", "grades", "--steps", str(steps), "--expect", "calm")
        self.train("--run", "grades", "--steps", str(steps), "--expect", "calm", "--partial")
        full_steps, full = self.series("grades", 1)
        partial_steps, partial = self.series("grades", 2)
        self.assertEqual(full_steps, list(range(steps)))
        self.assertEqual(partial_steps, full_steps)
        present, faults = set(), []

        for name in full:
            settled = SETTLED + SCORE_WINDOW if name.startswith("instability_score") else SETTLED
            for step in full_steps[settled:]:
                a, b = full[name][step], partial[name][step]
                if (a is None) != (b is None):
                    faults.append(f"{name} at {step}: {a} full, {b} partial")
                elif a is not None:
                    present.add(name)
                    if not math.isclose(number(a), number(b), rel_tol=1e-9, abs_tol=1e-12):
                        faults.append(f"{name} at {step}: {a} full, {b} partial")
        self.assertEqual(faults, [])
        for name in ("param_norm", "spectral_norm", "spectral_residual", "spectral_norm_upper", "grad_cosine",
                     "update_cosine", "curvature_along_step", "sharpness",
                     "stability_ratio", "update_identity", "delta_precision", "net_work"):
            self.assertIn(name, present)

    def test_a_healthy_run_alarms_nobody(self):
        output = self.train("--run", "calm", "--steps", "150", "--expect", "calm")
        self.assertIn("no alert", output)
        self.assertEqual(self.daemon.get("/v1/runs/calm")["state"], "ended")

    def test_fault_is_alerted_before_the_loss_triples(self):
        output = self.train("--run", "fault", "--steps", "200", "--raise-at", "152", "--raise-lr", "1.5",
                            "--expect", "alert")
        self.assertRegex(output, r"\d+ steps of lead")

    def test_obeying_rescues_the_run(self):
        output = self.train("--run", "rescue", "--steps", "260", "--raise-at", "152", "--raise-lr", "1.5",
                            "--obey", "--expect", "rescue")
        self.assertIn("the trainer follows", output)

    def test_a_poisoned_batch_is_left_out(self):
        for grade in ([], ["--partial"]):
            with self.subTest(grade=grade):
                run = "poison" + "".join(grade)
                output = self.train("--run", run, "--steps", "120", "--poison-at", "70", "--obey",
                                    "--expect", "rescue", *grade)
                self.assertIn("leaves out the update of step 70", output)
                self.assertEqual(output.count("<<<"), 1, output)
                steps, series = self.series(run, 1)
                self.assertEqual(steps, list(range(120)))
                self.assertLess(series["update_identity"][73], 0.05)
                self.assertEqual(self.daemon.get(f"/v1/runs/{run}")["attempt"], 1)

    def test_a_corrupt_weight_is_gone_back_from(self):
        output = self.train("--run", "corrupt", "--steps", "160", "--corrupt-at", "105", "--obey",
                            "--expect", "rescue", "--momentum", "0.5", "--lr", "0.1")
        self.assertRegex(output, r"advises rollback to step 105; the trainer goes on from step 100, "
                                 r"with 0\.05\n")
        self.assertEqual(output.count("<<<"), 1, output)
        run = self.daemon.get("/v1/runs/corrupt")
        self.assertEqual((run["attempt"], run["state"], run["last_step"]), (2, "ended", 159))
        first, series = self.series("corrupt", 1)
        self.assertEqual(first, list(range(107)))
        second, again = self.series("corrupt", 2)
        self.assertEqual(second, list(range(100, 160)))
        # The same parameters, another batch.
        self.assertEqual(again["param_norm"][0], series["param_norm"][100])
        self.assertNotEqual(again["loss"][0], series["loss"][100])

    def between(self, **options):
        between = Between(self.daemon, **options)
        self.addCleanup(between.close)
        return between

    def obey(self, between, run, *arguments):
        process = trainer(between, "--run", run, "--obey", *arguments)
        output, _ = process.communicate(timeout=TRAIN_SECONDS)
        self.assertEqual(process.returncode, 0, output)
        return output

    def test_an_update_left_out_before_a_push_that_failed_is_not_forgotten(self):
        between = self.between(refused=(71,))
        output = self.obey(between, "forgotten", "--steps", "80", "--poison-at", "70")
        self.assertIn("step 71 is not monitored", output)
        self.assertEqual(output.count("<<<"), 1, output)
        # 70 was left out, 71 was made: one update between the points 70 and 72.
        told = {metadata["step"]: metadata["updates"] for metadata in between.pushes
                if "updates" in metadata}
        self.assertEqual(told, {"71": "0", "72": "1"})

    def test_no_state_is_kept_while_the_loss_rises(self):
        """A rise of 100 steps that no rule recognises would push out all four checkpoints."""
        risen = {"metrics": {"loss_excess": {"value": 0.5, "trust": "I"},
                             "loss_spread": {"value": 0.3, "trust": "I"}}}
        usual = {"metrics": {"loss_excess": {"value": 0.5, "trust": "I"},
                             "loss_spread": {"value": 0.45, "trust": "I"}}}
        answers = dict.fromkeys(range(42, 142), risen)
        answers[40] = usual
        answers[142] = dict(risen, action={"kind": "rollback", "step": 41, "lr": 0.01})
        output = self.obey(self.between(answers=answers), "rises", "--steps", "150", "--momentum", "0.5",
                           "--lr", "0.05")
        self.assertRegex(output, r"advises rollback to step 41; the trainer goes on from step 40, "
                                 r"with 0\.01\n")

    def test_without_a_state_that_old_the_rate_is_lowered(self):
        back = {"action": {"kind": "rollback", "step": 3, "lr": 0.01}}
        answers = {step: back for step in (95, 96, 97)}
        answers[98] = {"action": {"kind": "continue"}}
        answers[99] = {"action": {"kind": "rollback", "step": 3, "lr": 0.004}}
        between = self.between(answers=answers)
        self.obey(between, "too-old", "--steps", "103", "--momentum", "0.5", "--lr", "0.05")
        rates = [float(metadata["lr"]) for metadata in between.pushes]
        self.assertEqual(rates[95:103], [0.05, 0.01, 0.01, 0.01, 0.01, 0.004, 0.004, 0.004])

    def test_ignored_the_same_faults_end_the_training(self):
        for fault in ("--poison-at", "--corrupt-at"):
            output = self.train("--run", "ignored" + fault, "--steps", "90", fault, "70")
            self.assertRegex(output, r"end: loss inf")

    def test_daemon_killed_and_restarted_loses_no_point(self):
        steps = 600
        process = trainer(self.daemon, "--run", "kill", "--steps", str(steps), "--probe-every", "0")
        for _ in range(200):
            time.sleep(0.05)
            try:
                if self.daemon.get("/v1/runs/kill/profile/latest")["step"] >= 50:
                    break
            except OSError:
                continue
        self.daemon.kill()
        time.sleep(0.5)
        self.daemon.start()
        output, _ = process.communicate(timeout=TRAIN_SECONDS)
        self.assertEqual(process.returncode, 0, output)
        self.assertNotIn("not monitored", output)
        query = "/v1/runs/kill/profile?metric=loss&from=0&points=10000"
        self.assertEqual(self.daemon.get(query)["step"], list(range(steps)))


if __name__ == "__main__":
    unittest.main()
