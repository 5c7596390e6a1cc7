"""What clients may use up: memory by uploads, alerts by rules, retention by asking for it."""
import json
import os
import struct
import time
import unittest

from blackbox import Daemon, DaemonCase, Quadratic

MIB = 1 << 20


def memory_mib(daemon):
    with open("/proc/%d/status" % daemon.process.pid) as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024


def push_pattern(daemon, run, step, mib):
    """Streams `mib` MiB of F32 parameters and gradients made on the fly; the peak of resident MiB."""
    count = mib * MIB // 4 // 8
    header, end = {"__metadata__": {"step": str(step), "loss": "1", "lr": "0.1"}}, 0
    for i in range(4):
        for role in ("param", "grad"):
            header["%s/t%d" % (role, i)] = {
                "dtype": "F32",
                "shape": [count],
                "data_offsets": [end, end + 4 * count],
            }
            end += 4 * count
    text = json.dumps(header).encode()
    prefix = struct.pack("<Q", len(text)) + text
    chunk = struct.pack("<1024f", *((37 * i % 101 - 50) / 50 for i in range(1024))) * 256
    peak, answer = 0, b""
    with daemon.socket() as s:
        s.sendall(
            b"POST /v1/runs/%s/snapshots HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            b"Content-Type: application/vnd.safetensors\r\nContent-Length: %d\r\n\r\n%s"
            % (run.encode(), len(prefix) + end, prefix)
        )
        for sent in range(0, end, len(chunk)):
            s.sendall(chunk[: end - sent])
            if sent % (16 * MIB) == 0:
                peak = max(peak, memory_mib(daemon))
        while part := s.recv(65536):
            answer += part
    assert answer[9:12] == b"200", answer[:600]
    return max(peak, memory_mib(daemon))


class Memory(DaemonCase):
    flags = ("--retention_memory=16MiB",)

    @unittest.skipIf(os.environ.get("LYAP_SANITIZE"), "sanitizers keep freed memory")
    def test_sketch_retention_does_not_grow_with_the_upload(self):
        self.ok(self.daemon.put("/v1/runs/s", {"retention": "sketch"}), 201)
        self.ok(self.daemon.put("/v1/runs/l", {"retention": "sketch"}), 201)
        small = max(push_pattern(self.daemon, "s", step, 16) for step in range(2))
        large = max(push_pattern(self.daemon, "l", step, 384) for step in range(2))
        self.assertLess(large - small, 64)

    def test_headers_in_the_making_share_a_budget(self):
        """Many half headers of the largest size: some are refused, the daemon stays small and answers."""
        size, sockets = 16 * MIB, []
        head = b"POST /v1/runs/h%d/snapshots HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: "
        head += b"application/vnd.safetensors\r\nContent-Length: %d\r\n\r\n" % (size + 8)
        for i in range(50):
            s = self.daemon.socket()
            self.addCleanup(s.close)
            s.sendall(head % i + struct.pack("<Q", size) + b"{")
            for _ in range(15):
                s.sendall(b" " * MIB)
            sockets.append(s)
        self.ok(self.daemon.get("/healthz"))
        if not os.environ.get("LYAP_SANITIZE"):
            self.assertLess(memory_mib(self.daemon), 640)
        sockets[-1].sendall(b" " * (MIB - 1))
        self.assertEqual(sockets[-1].recv(65536)[9:12], b"503")
        for s in sockets:
            s.close()
        self.eventually(lambda: self.daemon.push_json("r", Quadratic().snapshot()).status == 200)

    def test_asking_for_exact_retention_does_not_lift_the_budget(self):
        self.ok(self.daemon.put("/v1/runs/greedy", {"retention": "exact"}), 201)
        push_pattern(self.daemon, "greedy", 0, 32)
        self.assertEqual(self.daemon.get("/v1/runs/greedy").json["retention"], "sketch")
        events = self.daemon.get("/v1/runs/greedy/events").json["events"]
        self.assertIn({"retention": "sketch", "bytes": 0}, [e["detail"] for e in events])
        self.ok(self.daemon.put("/v1/runs/modest", {"retention": "exact"}), 201)
        self.daemon.push_json("modest", Quadratic().snapshot())
        self.assertEqual(self.daemon.get("/v1/runs/modest").json["retention"], "exact")

    def test_many_runs_stay_small(self):
        connection_count, before = 400, memory_mib(self.daemon)
        for i in range(connection_count):
            self.ok(self.daemon.push_json("run-%d" % i, Quadratic().snapshot()))
        each_kib = (memory_mib(self.daemon) - before) * 1024 / connection_count
        if not os.environ.get("LYAP_SANITIZE"):
            self.assertLess(each_kib, 256)


class Idle(DaemonCase):
    flags = ("--idle_evict_s=10",)

    def metric(self, name):
        lines = self.daemon.get("/metrics").body.decode().splitlines()
        return float(next(line for line in lines if line.startswith(name + " ")).split()[1])

    def test_runs_that_no_silence_rule_watches_cost_nothing_and_leave(self):
        rule = {"metric": "silent_seconds", "comparison": ">", "threshold": 1, "runs": {"team": "x"}}
        self.ok(self.daemon.put("/v1/rules/silent-run", rule))
        for i in range(5):
            self.ok(self.daemon.push_json("r%d" % i, {"step": 1, "loss": 1}))
        before = self.metric("lyapd_commits_total")
        self.eventually(lambda: self.metric("lyapd_runs") == 0, 60)
        # Each leaves once; what is looked at every second would have cost ten by then.
        self.assertLessEqual(self.metric("lyapd_commits_total") - before, 5)


class Crowds(DaemonCase):
    flags = ("--connection_max=16",)

    def ask(self, path):
        """A connection that is kept, and the head and body of its first answer."""
        connection = self.daemon.socket()
        self.addCleanup(connection.close)
        connection.settimeout(20)  # less than an idle connection may stay
        connection.sendall(b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % path)
        return connection, connection.recv(65536)

    def test_connections_that_are_kept_do_not_lock_others_out(self):
        answers = [self.ask(b"/healthz")[1] for _ in range(48)]
        self.assertEqual({answer[9:12] for answer in answers}, {b"200"})
        self.assertNotIn(b"Connection: close", answers[0])
        self.assertIn(b"Connection: close", answers[-1])
        self.ok(self.daemon.push_json("r", {"step": 0, "loss": 1.0}))

    def test_streams_leave_half_of_the_connections(self):
        answers = [self.ask(b"/v1/events")[1] for _ in range(48)]
        self.assertEqual([answer[9:12] for answer in answers], 8 * [b"200"] + 40 * [b"503"])
        self.assertIn(b"8 streams of events are open", answers[-1])
        self.ok(self.daemon.push_json("r", {"step": 0, "loss": 1.0}))


class Floods(DaemonCase):
    def test_a_rule_on_every_tensor_opens_a_bounded_number_of_alerts(self):
        self.ok(
            self.daemon.put(
                "/v1/rules/all",
                {"metric": "grad_norm", "tensor": "*", "comparison": ">", "threshold": -1e308},
            ),
            201,
        )
        count, header = 5000, {"__metadata__": {"step": "0", "loss": "1"}}
        for i in range(count):
            for r, role in enumerate(("param", "grad")):
                begin = 16 * i + 8 * r
                header["%s/t%d" % (role, i)] = {
                    "dtype": "F64", "shape": [1], "data_offsets": [begin, begin + 8],
                }
        for step in range(3):
            header["__metadata__"]["step"] = str(step)
            text = json.dumps(header).encode()
            started = time.monotonic()
            reply = self.daemon.request(
                "POST",
                "/v1/runs/r/snapshots",
                struct.pack("<Q", len(text)) + text + struct.pack("<d", 1.0) * (2 * count),
                {"Content-Type": "application/vnd.safetensors"},
            )
            self.assertLess(time.monotonic() - started, 20)
            self.assertEqual(len(self.ok(reply)["alerts"]), 256)
        dropped = [
            line for line in self.daemon.get("/metrics").body.decode().splitlines()
            if line.startswith("lyapd_alerts_dropped_total")
        ]
        self.assertGreater(int(dropped[0].split()[1]), 0)
        self.assertEqual(self.daemon.request("DELETE", "/v1/rules/all").status, 204)
        self.assertEqual(self.ok(self.daemon.get("/v1/alerts?run=r&state=firing"))["alerts"], [])

    def test_absurd_rules_are_refused_or_harmless(self):
        base = {"metric": "loss", "comparison": ">", "threshold": 1}
        for change, status in (
            ({"threshold": "NaN"}, 400),
            ({"threshold": "Infinity"}, 400),
            ({"for": 0}, 400),
            ({"for": 2**40}, 400),
            ({"tensor": "*" * 5000}, 413),
            ({"metric": "x" * 10000}, 413),
            ({"runs": {"a": {"b": 1}}}, 400),
            ({"threshold": -1.7976931348623157e308}, 201),
            ({"threshold": 5e-324}, 200),
        ):
            reply = self.daemon.put("/v1/rules/odd", dict(base, **change))
            self.assertEqual(reply.status, status, (change, reply))
        for step, loss in enumerate(("NaN", "Infinity", "-Infinity", -0.0, 1.7e308, -1.7e308)):
            self.ok(self.daemon.push_json("r", {"step": step, "loss": loss}))


if __name__ == "__main__":
    unittest.main()
