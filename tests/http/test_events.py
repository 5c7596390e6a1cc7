"""GET /v1/events, read by the real curl."""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import unittest

from blackbox import Daemon, DaemonCase, Quadratic

CURL = shutil.which("curl")
EVENT = re.compile(r"(?:retry: \d+\n)?id: ([0-9a-f]+)-(\d+)\nevent: (\w+)\ndata: (.*)\n\n")
PLACE = re.compile(r":\nid: ([0-9a-f]+)-(\d+)\n\n")  # dispatches nothing; a browser notes the id


class Stream:
    """A curl that reads along; `events` are (sequence, type, data), in order."""

    def __init__(self, daemon, query="", *flags):
        self.process = subprocess.Popen(
            [CURL, "-sS", "-N", "--max-time", "120", *flags,
             "http://127.0.0.1:%d/v1/events%s" % (daemon.port, query)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.lines, self.lock = [], threading.Lock()
        self.thread = threading.Thread(target=self.read)
        self.thread.start()

    def read(self):
        for line in self.process.stdout:
            with self.lock:
                self.lines.append(line)

    @property
    def text(self):
        with self.lock:
            return "".join(self.lines)

    @property
    def events(self):
        return [(int(sequence), kind, json.loads(data))
                for _, sequence, kind, data in EVENT.findall(self.text)]

    @property
    def strange(self):
        """What is neither an event nor a place."""
        return PLACE.sub("", EVENT.sub("", self.text))

    @property
    def last_id(self):
        return re.findall(r"id: (\S+)\n", self.text)[-1]

    def of(self, kind):
        return [data for _, found, data in self.events if found == kind]

    def close(self):
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait()
        self.thread.join()
        self.process.stdout.close()


@unittest.skipUnless(CURL, "needs curl")
class Events(DaemonCase):
    def stream(self, query="", *flags):
        stream = Stream(self.daemon, query, *flags)
        self.addCleanup(stream.close)
        self.eventually(lambda: "event: hello" in stream.text)
        return stream

    def push(self, run, *steps, loss=1.0):
        for step in steps:
            self.ok(self.daemon.push_json(run, {"step": step, "loss": loss}))

    def gauge(self, name="lyapd_event_streams"):
        return int(re.search(r"^%s (\d+)$" % name, self.daemon.get("/metrics").body.decode(), re.M).group(1))

    def test_points_alerts_and_marks_come_as_they_are_committed(self):
        stream = self.stream()
        self.ok(self.daemon.put("/v1/rules/high", {"metric": "loss", "threshold": 5, "for": 2, "run": "r"}), 201)
        job = Quadratic()
        self.ok(self.daemon.push_json("q", job.snapshot()))
        for step, loss in enumerate((6, 7, 1)):
            self.push("r", step, loss=loss)
        self.eventually(lambda: len(stream.of("point")) == 4 and len(stream.of("alert")) == 3)
        points = stream.of("point")
        self.assertEqual([(p["run"], p["attempt"], p["step"], p["loss"]) for p in points],
                         [("q", 1, 0, job.loss), ("r", 1, 0, 6), ("r", 1, 1, 7), ("r", 1, 2, 1)])
        latest = self.ok(self.daemon.get("/v1/runs/q/profile/latest"))
        for name in ("lr", "grad_norm", "instability_score", "loss"):
            self.assertEqual(points[0][name], latest["metrics"][name]["value"])
        for name in ("time", "state", "verdict"):
            self.assertEqual(points[0][name], latest[name])
        self.assertEqual(points[0]["action"], latest["action"]["kind"])
        alerts = stream.of("alert")
        self.assertEqual([a["state"] for a in alerts], ["pending", "firing", "resolved"])
        self.assertEqual(alerts[2], self.ok(self.daemon.get("/v1/alerts/%d" % alerts[2]["id"])))
        marks = self.ok(self.daemon.get("/v1/runs/q/events"))["events"]
        mine = [m for m in stream.of("mark") if m["run"] == "q"]
        self.assertEqual([(m["kind"], m["time"]) for m in mine], [(m["kind"], m["time"]) for m in marks])
        sequences = [sequence for sequence, _, _ in stream.events]
        self.assertEqual(sequences, list(range(sequences[0], sequences[0] + len(sequences))))

    def test_acknowledgements_and_silences_are_told(self):
        self.ok(self.daemon.put("/v1/rules/high", {"metric": "loss", "threshold": 5}), 201)
        stream = self.stream("?types=alert")
        self.push("r", 0, loss=6)
        self.eventually(lambda: stream.of("alert"))
        alert = stream.of("alert")[-1]["id"]
        self.ok(self.daemon.request("POST", "/v1/alerts/%d/ack" % alert))
        self.eventually(lambda: stream.of("alert")[-1]["acked"])
        self.assertEqual({kind for _, kind, _ in stream.events}, {"hello", "alert"})

    def test_it_can_be_narrowed_to_runs_and_types(self):
        stream = self.stream("?run=gpt-*&types=point,mark")
        self.push("bert", 0, 1)
        self.push("gpt-1", 0, 1)
        self.eventually(lambda: len(stream.of("point")) == 2)
        self.assertEqual({p["run"] for p in stream.of("point") + stream.of("mark")}, {"gpt-1"})
        for query in ("?types=", "?types=points", "?types=point,", "?run=", "?run=" + "a" * 300, "?limit=1"):
            self.assertEqual(self.daemon.get("/v1/events" + query).status, 400, query)

    def test_a_reconnection_misses_nothing(self):
        stream = self.stream("?types=point")
        self.push("r", 0, 1, 2)
        self.eventually(lambda: len(stream.of("point")) == 3)
        last = stream.last_id
        stream.close()
        self.push("r", 3, 4)
        for again in (self.stream("?types=point", "-H", "Last-Event-ID: " + last),
                      self.stream("?types=point&last_id=" + last)):
            self.push("r", self.ok(self.daemon.get("/v1/runs/r"))["last_step"] + 1)
            self.eventually(lambda: len(again.of("point")) >= 3)
            self.assertEqual([p["step"] for p in again.of("point")][:3], [3, 4, 5])
            self.assertEqual(again.of("reset"), [])

    def test_what_a_filter_left_out_is_not_lost(self):
        stream = self.stream("?types=alert")
        greeted = stream.last_id
        for first in range(0, 30000, 10000):  # more than the ring holds
            self.daemon.push_ndjson("r", [{"step": first + i, "loss": 1.0} for i in range(10000)])
        self.eventually(lambda: int(stream.last_id.split("-")[1]) > 25000)
        last = stream.last_id
        stream.close()
        self.assertNotEqual(self.stream("?types=alert&last_id=" + greeted).of("reset"), [])
        again = self.stream("?types=alert&last_id=" + last)
        self.ok(self.daemon.put("/v1/rules/high", {"metric": "loss", "threshold": 5}), 201)
        self.push("r", 30000, loss=9)
        self.eventually(lambda: again.of("alert"))
        self.assertEqual({kind for _, kind, _ in again.events}, {"hello", "alert"})
        self.assertEqual(again.strange, "")

    def test_after_a_restart_it_says_that_something_may_be_missing(self):
        stream = self.stream()
        self.push("r", 0)
        self.eventually(lambda: stream.of("point"))
        last = stream.last_id
        self.daemon.kill()
        self.daemon.start()
        stream = self.stream("", "-H", "Last-Event-ID: " + last)
        self.eventually(lambda: stream.of("reset"))
        self.assertEqual(stream.of("reset"), [{"lost": None}])
        self.push("r", 1)
        self.eventually(lambda: stream.of("point"))

    def test_streams_are_bounded_and_leave_room_for_others(self):
        streams = [Stream(self.daemon, "?types=alert") for _ in range(64)]
        for stream in streams:
            self.addCleanup(stream.close)
        self.eventually(lambda: self.gauge() == 64, 60)
        reply = self.daemon.get("/v1/events")
        self.refused(reply, 503, "busy")
        self.assertGreater(int(reply.headers["retry-after"]), 0)
        self.push("r", 0)
        for stream in streams:
            stream.close()
        self.push("r", *range(1, 5))  # a write finds each closed connection
        self.ok(self.daemon.put("/v1/rules/high", {"metric": "loss", "threshold": 5}), 201)
        self.push("r", 5, loss=9)
        self.push("r", 6, loss=1)
        self.eventually(lambda: self.gauge() == 0, 60)

    def test_a_stream_ends_with_the_daemon(self):
        stream = self.stream()
        self.assertEqual(self.daemon.stop(), 0)
        stream.thread.join(30)
        self.assertEqual(stream.process.wait(30), 0)  # the last chunk came: no broken transfer
        self.daemon.start()

    def test_old_and_odd_clients(self):
        old = self.stream("", "--http1.0")
        self.push("r", 0)
        self.eventually(lambda: old.of("point"))
        head = subprocess.run([CURL, "-sSI", "--max-time", "20", "http://127.0.0.1:%d/v1/events" % self.daemon.port],
                              capture_output=True, text=True)
        self.assertIn("200", head.stdout.split("\n")[0])
        self.assertIn("Content-Type: text/event-stream", head.stdout)
        self.refused(self.daemon.get("/v1/events", Accept="application/json"), 406, "not-acceptable")


@unittest.skipUnless(CURL, "needs curl")
class Slow(DaemonCase):
    flags = ("--connection-timeout-s", "5")

    def test_a_client_that_never_reads_is_dropped_and_holds_up_nobody(self):
        slow = socket.socket()
        self.addCleanup(slow.close)
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(("127.0.0.1", self.daemon.port))
        slow.sendall(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        good = Stream(self.daemon, "?types=point")
        self.addCleanup(good.close)
        streams = lambda: int(re.search(r"^lyapd_event_streams (\d+)$",
                                        self.daemon.get("/metrics").body.decode(), re.M).group(1))
        self.eventually(lambda: streams() == 2)
        for first in range(0, 30000, 10000):
            reply, lines = self.daemon.push_ndjson(
                "r", [{"step": first + i, "loss": 1.0} for i in range(10000)])
            self.assertEqual(len(lines), 10000)
        self.eventually(lambda: '"step":29999,' in good.text, 120)
        steps = [p["step"] for p in good.of("point")]
        self.assertEqual(steps, sorted(set(steps)))
        # One that reads as fast as this machine lets it may lose some, and is told how many.
        self.assertEqual(len(steps) + sum(r["lost"] for r in good.of("reset")), 30000)
        self.eventually(lambda: streams() == 1, 60)


@unittest.skipUnless(CURL, "needs curl")
class Tokens(unittest.TestCase):
    def test_a_stream_needs_the_scope_and_ends_when_tokens_change(self):
        import hashlib

        folder = tempfile.mkdtemp(prefix="lyapd-test-")
        path = os.path.join(folder, "tokens")
        with open(path, "w") as file:
            file.write("read %s a\npush %s b\n" % (hashlib.sha256(b"reader").hexdigest(),
                                                   hashlib.sha256(b"pusher").hexdigest()))
        os.chmod(path, 0o600)
        daemon = Daemon("--token-file", path, folder=folder)
        self.addCleanup(daemon.close)
        self.assertEqual(daemon.get("/v1/events").status, 401)
        self.assertEqual(daemon.get("/v1/events", Authorization="Bearer pusher").status, 403)
        stream = Stream(daemon, "", "-H", "Authorization: Bearer reader")
        self.addCleanup(stream.close)
        case = DaemonCase()
        case.eventually(lambda: "event: hello" in stream.text)
        daemon.process.send_signal(signal.SIGHUP)
        stream.thread.join(30)
        self.assertEqual(stream.process.wait(30), 0)


if __name__ == "__main__":
    unittest.main()
