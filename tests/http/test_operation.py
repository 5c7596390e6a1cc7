"""What whoever runs the daemon relies on: start, settings, health, limits, disk, databases, slow peers."""
import contextlib
import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

import blackbox
from blackbox import BINARY, Daemon, DaemonCase, Quadratic, ROOT, safetensors
from test_push import values

PROMTOOL = shutil.which("promtool") or "/usr/bin/promtool"


def run(*flags, env=None):
    return subprocess.run(
        [BINARY, *flags],
        capture_output=True,
        text=True,
        timeout=60,
        env=dict(os.environ, **(env or {})),
    )


class CommandLine(unittest.TestCase):
    def test_help_lists_every_setting(self):
        text = run("--help")
        self.assertEqual(text.returncode, 0)
        for name in json.loads(json.dumps(self.names())):
            self.assertIn("--" + name, text.stdout)

    def names(self):
        return [l.split(" = ")[0] for l in run("--print-config").stdout.splitlines()]

    def test_version(self):
        self.assertRegex(run("--version").stdout, r"^lyapd \d+\.\d+\.\d+\n$")

    def test_a_mistake_stops_the_start_and_names_itself(self):
        for flags, word in (
            (("--queue_length=0",), "queue_length"),
            (("--colour=red",), "colour"),
            (("stray",), "stray"),
            (("--config", "/nonexistent/file"), "/nonexistent/file"),
            (("--listen", "192.0.2.1:0", "--db", "/dev/null/x.db"), "/dev/null"),
        ):
            done = run(*flags)
            self.assertEqual(done.returncode, 1, flags)
            self.assertIn(word, done.stderr)
            self.assertEqual(done.stdout, "")

    def test_the_documented_tables_are_those_of_the_program(self):
        for table in ("configuration", "rules"):
            written = (ROOT / "docs" / (table + ".md")).read_text()
            self.assertEqual(run("--docs", table).stdout, written, "lyapd --docs %s" % table)

    def test_a_default_database_lies_in_the_state_directory(self):
        with tempfile.TemporaryDirectory() as folder:
            for env, expected in (
                ({"STATE_DIRECTORY": folder + "/s"}, folder + "/s/lyapd.db"),
                ({"XDG_STATE_HOME": folder + "/x", "STATE_DIRECTORY": ""}, folder + "/x/lyapd/lyapd.db"),
            ):
                self.assertIn("db = %s #" % expected, run("--print-config", env=env).stdout)


class Service(DaemonCase):
    def test_health_readiness_config_and_openapi(self):
        self.ok(self.daemon.get("/healthz"))
        self.ok(self.daemon.get("/readyz"))
        config = self.ok(self.daemon.get("/v1/config"))["settings"]
        self.assertEqual(config["queue_length"]["value"], 1024)
        self.assertEqual(config["db"]["value"], self.daemon.db)
        self.assertEqual((config["db"]["origin"], config["batch_ms"]["origin"]), ("flag", "default"))
        document = self.ok(self.daemon.get("/v1/openapi.json"))
        self.assertIn("/v1/runs/{run}/snapshots", document["paths"])

    def test_every_read_route_answers(self):
        q = Quadratic()
        for _ in range(3):
            self.ok(self.daemon.push_json("r", q.advance().snapshot()))
        for path in (
            "/v1/runs",
            "/v1/runs/r",
            "/v1/runs/r/profile?metric=loss&metric=grad_norm",
            "/v1/runs/r/profile?metric=param_norm&tensor=first",
            "/v1/runs/r/profile/latest",
            "/v1/runs/r/tensors",
            "/v1/runs/r/attempts",
            "/v1/runs/r/events",
            "/v1/rules",
            "/v1/rules/edge",
            "/v1/alerts",
        ):
            self.ok(self.daemon.get(path))
            if path.startswith("/v1/runs/"):
                gone = path.replace("/runs/r", "/runs/none")
                self.refused(self.daemon.get(gone), 404, "not-found")

    def test_deleting_a_run_forgets_it(self):
        q = Quadratic()
        self.ok(self.daemon.push_json("r", q.advance(5).snapshot()))
        self.assertIn(self.daemon.request("DELETE", "/v1/runs/r").status, (200, 204))
        self.refused(self.daemon.get("/v1/runs/r"), 404, "not-found")
        self.refused(self.daemon.request("DELETE", "/v1/runs/r"), 404, "not-found")
        answer = self.ok(self.daemon.push_json("r", Quadratic().snapshot()))  # begins anew
        self.assertEqual((answer["attempt"], answer["step"]), (1, 0))

    def test_rows_of_a_deleted_run_leave_the_file(self):
        run = Quadratic()
        for _ in range(40):
            self.ok(self.daemon.push_json("r", run.snapshot()))
            run.advance()
        self.assertIn(self.daemon.request("DELETE", "/v1/runs/r").status, (200, 204))

        def rows():
            with contextlib.closing(sqlite3.connect("file:%s?mode=ro" % self.daemon.db, uri=True)) as db:
                return [
                    db.execute("SELECT count(*) FROM " + table).fetchone()[0]
                    for table in ("points", "tensor_points", "attempts", "runs")
                ]

        self.eventually(lambda: rows() == [0, 0, 0, 0])

    def test_metrics_are_prometheus_text(self):
        q = Quadratic()
        for _ in range(3):
            self.ok(self.daemon.push_json("m", q.advance().snapshot()))
        self.daemon.push_json("m", dict(q.snapshot(), step=3))
        self.daemon.push_json("m", dict(q.snapshot(), attempt=9))
        self.ok(self.daemon.push_json("m", {"step": 9, "loss": "NaN"}))
        text = self.daemon.get("/metrics").body.decode()
        for line in (
            "lyapd_pushes_accepted_total 4",
            "lyapd_pushes_duplicate_total 1",
            'lyapd_pushes_refused_total{reason="stale-attempt"} 1',
            'lyapd_run_step{run="m"} 9',
            'lyapd_run_metric{run="m",metric="loss"} NaN',
            'lyapd_run_alerts_firing{run="m"} 1',
            "lyapd_alerts_firing 1",
            "lyapd_queue_depth 0",
        ):
            self.assertIn(line + "\n", text)
        if not os.path.exists(PROMTOOL):
            self.skipTest("promtool is not installed")
        done = subprocess.run([PROMTOOL, "check", "metrics"], input=text, capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_a_person_can_read_the_database(self):
        q = Quadratic()
        for _ in range(4):
            self.ok(self.daemon.push_json("sql", q.advance().snapshot()))
        self.ok(self.daemon.push_json("sql", {"step": 9, "loss": "NaN", "lr": 0.1}))
        with sqlite3.connect("file:%s?mode=ro" % self.daemon.db, uri=True) as db:
            rows = db.execute(
                "SELECT step, loss, update_norm FROM points JOIN runs ON runs.id = run_id"
                " WHERE name = 'sql' ORDER BY step"
            ).fetchall()
        self.assertEqual([r[0] for r in rows], [1, 2, 3, 4, 9])
        self.assertIsNotNone(rows[3][2])
        self.assertIsNone(rows[4][1])

    def test_slow_clients_do_not_hold_up_the_others(self):
        q = Quadratic()
        body = safetensors(q.tensors(), q.metadata())
        slow = []
        for i in range(40):
            sock = self.daemon.socket()
            self.addCleanup(sock.close)
            sock.sendall(
                b"POST /v1/runs/slow-%d/snapshots HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                b"Content-Type: application/vnd.safetensors\r\nContent-Length: %d\r\n\r\n" % (i, len(body))
                + body[:20]
            )
            slow.append(sock)
        start = time.monotonic()
        for _ in range(20):
            self.ok(self.daemon.push_json("fast", q.advance().snapshot()))
        self.assertLess(time.monotonic() - start, 60)  # when the first of the slow would be cut off
        for sock in slow:
            sock.sendall(body[20:])
        for sock in slow:
            answer = b"".join(iter(lambda: sock.recv(65536), b""))
            self.assertIn(b" 200 ", answer.split(b"\r\n")[0])


class Settings(unittest.TestCase):
    def test_reload_takes_the_file_again(self):
        with tempfile.NamedTemporaryFile("w", suffix=".conf") as config:
            config.write("batch_ms = 5\nqueue_length = 7\n")
            config.flush()
            daemon = Daemon("--config", config.name)
            self.addCleanup(daemon.close)
            get = lambda name: daemon.get("/v1/config").json["settings"][name]
            self.assertEqual((get("batch_ms")["value"], get("batch_ms")["origin"]), (5, "file"))
            config.seek(0)
            config.write("batch_ms = 6\nqueue_length = 8\n")
            config.flush()
            daemon.process.send_signal(signal.SIGHUP)
            end = time.monotonic() + 20
            while get("batch_ms")["value"] != 6 and time.monotonic() < end:
                time.sleep(0.05)
            self.assertEqual(get("batch_ms")["value"], 6)
            self.assertEqual(get("queue_length")["value"], 7)  # needs a restart
            config.seek(0)
            config.truncate()
            config.write("batch_ms = none\n")
            config.flush()
            daemon.process.send_signal(signal.SIGHUP)
            end = time.monotonic() + 20
            while "reload-failed" not in daemon.log() and time.monotonic() < end:
                time.sleep(0.05)
            self.assertIn("setting-needs-restart setting=queue_length", daemon.log())
            self.assertIn("reload-failed", daemon.log())
            self.assertEqual(get("batch_ms")["value"], 6)

    def test_a_full_queue_is_503_with_retry_after(self):
        daemon = Daemon("--queue_length=2")
        self.addCleanup(daemon.close)
        q = Quadratic()
        body = safetensors(q.tensors(), q.metadata())
        for i in range(2):
            sock = daemon.socket()
            self.addCleanup(sock.close)
            sock.sendall(
                b"POST /v1/runs/q-%d/snapshots HTTP/1.1\r\nHost: localhost\r\n"
                b"Content-Type: application/vnd.safetensors\r\nContent-Length: %d\r\n\r\n" % (i, len(body))
                + body[:-8]
            )
        end = time.monotonic() + 20
        while b"lyapd_queue_depth 2" not in daemon.get("/metrics").body and time.monotonic() < end:
            time.sleep(0.05)
        reply = daemon.push_json("another", q.snapshot())
        self.assertEqual((reply.status, reply.slug), (503, "queue-full"))
        self.assertIn("retry-after", reply.headers)

    def test_an_idle_run_leaves_the_memory_and_comes_back(self):
        daemon = Daemon("--idle_evict_s=2")
        self.addCleanup(daemon.close)
        daemon.put("/v1/rules/silent-run", {"metric": "silent_seconds", "comparison": ">", "threshold": 1})
        q = Quadratic()
        for _ in range(3):
            self.assertEqual(daemon.push_json("idle", q.advance().snapshot()).status, 200)
        end = time.monotonic() + 40
        while b"\nlyapd_runs 0\n" not in daemon.get("/metrics").body and time.monotonic() < end:
            time.sleep(0.2)
        self.assertIn(b"\nlyapd_runs 0\n", daemon.get("/metrics").body)
        latest = daemon.get("/v1/runs/idle/profile/latest").json
        self.assertEqual(latest["step"], 3)
        reply = daemon.push_json("idle", q.advance().snapshot()).json
        self.assertEqual(reply["status"], "accepted")
        self.assertEqual(reply["metrics"]["update_norm"]["trust"], "E")  # from the saved sketches
        self.assertEqual(reply["alerts"], [])

    def test_windows_of_many_runs_are_saved_a_part_at_a_time(self):
        runs = 300  # 20 MB of windows
        daemon = Daemon("--window_save_s=10")
        self.addCleanup(daemon.close)
        snapshot = Quadratic().snapshot()
        for i in range(runs):
            self.assertEqual(daemon.push_json("r%d" % i, snapshot).status, 200)
        seen, end = [], time.monotonic() + 60
        with contextlib.closing(sqlite3.connect("file:%s?mode=ro" % daemon.db, uri=True)) as db:
            while not seen or (seen[-1][1] < runs and time.monotonic() < end):
                saved = db.execute("select count(*) from profiles").fetchone()[0]
                seen.append((time.monotonic(), saved))
                time.sleep(0.02)
        self.assertEqual(seen[-1][1], runs)  # nobody is forgotten
        for (before, few), (after, more) in zip(seen, seen[1:]):  # 120 of them make the 8 MB of a second
            self.assertLess(more - few, runs / 2 + 150 * (after - before))

    def test_the_budget_of_exact_retention_is_kept(self):
        daemon = Daemon("--retention_memory=600")
        self.addCleanup(daemon.close)
        kinds = []
        for i in range(6):
            daemon.push_json("r-%d" % i, Quadratic().snapshot())
            kinds.append(daemon.get("/v1/runs/r-%d" % i).json["retention"])
            self.assertIn(
                kinds[-1],
                [
                    e["detail"]["retention"]
                    for e in daemon.get("/v1/runs/r-%d/events" % i).json["events"]
                    if e["kind"] == "retention"
                ],
            )
        self.assertEqual(kinds[-1], "sketch")
        q = Quadratic()
        answers = [daemon.push_json("r-5", q.advance().snapshot()).json for _ in range(3)]
        norm = answers[-1]["metrics"]["update_norm"]
        self.assertEqual(norm["trust"], "E")
        self.assertGreater(norm["error"], 0)


class Disk(unittest.TestCase):
    def test_a_full_disk_is_507_reads_go_on_and_it_recovers(self):
        """A file size limit stands for the full disk: the write that would exceed it fails."""
        limit = 1200 * 1024

        def limited():
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

        daemon = Daemon("--disk_reserve=0", preexec=limited)
        self.addCleanup(daemon.close)
        q, stored, refused = Quadratic(), {}, None
        for _ in range(4000):
            reply = daemon.push_json("full", q.snapshot())
            if reply.status != 200:
                refused = reply
                break
            stored[q.step] = reply.json["metrics"]["loss"]
            q.advance()
        self.assertIsNotNone(refused, "the limit was never reached")
        self.assertEqual((refused.status, refused.slug), (507, "disk-full"))
        self.assertEqual(daemon.get("/readyz").status, 503)
        self.assertEqual(daemon.get("/healthz").status, 200)
        self.assertEqual(daemon.get("/v1/runs/full").json["last_step"], q.step - 1)
        resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        for _ in range(5):  # the same step, then on, without a restart
            reply = daemon.push_json("full", q.snapshot())
            self.assertEqual(reply.status, 200, reply)
            self.assertIsNotNone(reply.json["metrics"]["update_norm"]["value"])
            stored[q.step] = reply.json["metrics"]["loss"]
            q.advance()
        self.assertEqual(daemon.get("/readyz").status, 200)
        daemon.kill()
        daemon.preexec = None
        daemon.start()
        steps = []
        cursor = ""
        while True:
            page = daemon.get("/v1/runs/full/profile?metric=loss&limit=1000" + cursor).json
            if not page["step"]:
                break
            steps += page["step"]
            cursor = "&cursor=" + page["cursor"]
        self.assertEqual(steps, sorted(stored))

    def test_the_reserve_refuses_before_the_disk_is_full(self):
        daemon = Daemon("--disk_reserve=1152921504606846976")
        self.addCleanup(daemon.close)
        reply = daemon.push_json("r", Quadratic().snapshot())
        self.assertEqual((reply.status, reply.slug), (507, "disk-full"))
        self.assertEqual(daemon.get("/readyz").status, 503)
        self.assertEqual(daemon.get("/v1/runs").status, 200)


class Databases(unittest.TestCase):
    def test_two_daemons_on_one_database(self):
        daemon = Daemon()
        self.addCleanup(daemon.close)
        second = run("--listen=127.0.0.1:0", "--db", daemon.db)
        self.assertEqual(second.returncode, 1)
        self.assertIn(daemon.db, second.stderr)
        self.assertEqual(daemon.push_json("r", Quadratic().snapshot()).status, 200)

    def test_a_newer_database_is_refused_untouched(self):
        daemon = Daemon()
        daemon.push_json("r", Quadratic().snapshot())
        self.assertEqual(daemon.stop(), 0)
        with sqlite3.connect(daemon.db) as db:
            db.execute("PRAGMA user_version = 9999")
        before = Path(daemon.db).read_bytes()
        done = run("--listen=127.0.0.1:0", "--db", daemon.db)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, "9999|newer")
        self.assertEqual(Path(daemon.db).read_bytes(), before)
        shutil.rmtree(daemon.folder)

    def test_something_that_is_no_database(self):
        with tempfile.NamedTemporaryFile(suffix=".db") as file:
            file.write(b"no database at all, only text\n" * 100)
            file.flush()
            self.assertEqual(run("--listen=127.0.0.1:0", "--db", file.name).returncode, 1)

    def test_pruning_by_size_keeps_the_newest(self):
        daemon = Daemon("--prune_bytes=2000000", "--disk_reserve=0")
        self.addCleanup(daemon.close)
        lines = [{"step": i, "loss": 1 / (i + 1), "lr": 0.1} for i in range(12000)]
        for start in range(0, len(lines), 3000):
            reply, _ = daemon.push_ndjson("p", lines[start : start + 3000])
            self.assertEqual(reply.status, 200)
        end = time.monotonic() + 90
        first = 0
        while first == 0 and time.monotonic() < end:
            with sqlite3.connect("file:%s?mode=ro" % daemon.db, uri=True) as db:
                first = db.execute("SELECT min(step) FROM points").fetchone()[0]
            time.sleep(0.2)
        self.assertGreater(first, 0)
        self.assertEqual(daemon.get("/v1/runs/p/profile/latest").json["step"], 11999)


class Tokens(unittest.TestCase):
    def test_without_tokens_only_loopback_is_bound(self):
        done = run("--listen=0.0.0.0:0", "--db", "/tmp/lyapd-never-made-%d.db" % os.getpid())
        for suffix in ("", "-wal", "-shm", ".lock"):
            try:
                os.unlink("/tmp/lyapd-never-made-%d.db%s" % (os.getpid(), suffix))
            except OSError:
                pass
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, "loopback|token")


if __name__ == "__main__":
    unittest.main()
