"""Pushes over a real socket: formats, chunks, broken uploads, errors, waiting, stopping."""
import json
import math
import socket
import threading
import time
import unittest

from harness import JSON, NDJSON, TENSORS, Case, Server, head, read_reply, reset, safetensors

MINIMAL = {"Prefer": "return=minimal"}
# Status of each slug that a push can be refused with, and whether Retry-After goes with it.
REFUSALS = {
    "invalid-value": 400, "malformed-body": 400, "contradiction": 400, "limit-exceeded": 413,
    "conflict": 409, "stale-attempt": 409, "step-not-above-last": 409, "step-closed": 409,
    "tensor-set-changed": 409, "upload-replaced": 409, "shard-coverage": 422,
    "upload-in-progress": 503, "queue-full": 503, "stopping": 503, "busy": 503, "out-of-memory": 503,
    "storage-error": 500, "internal-error": 500, "disk-full": 507,
}


class Push(Case):
    def post(self, run, body, headers, query=""):
        return self.http("POST", f"/v1/runs/{run}/snapshots{query}", body, headers)

    def settled(self):
        """Counters once every request is over."""
        for _ in range(200):
            counters = self.counters()
            if counters["admitted"] == counters["submitted"] + counters["aborted"]:
                return counters
            time.sleep(0.02)
        self.fail(f"an admission was neither submitted nor aborted: {counters}")

    def upload(self, run, body, cuts, is_chunked=False):
        """Sends a body cut at the given places, each piece in a packet of its own."""
        with self.connect() as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            framing = {"Transfer_Encoding": "chunked"} if is_chunked else {"Content_Length": len(body)}
            path = f"/v1/runs/{run}/snapshots"
            connection.sendall(head("POST", path, Content_Type=TENSORS["Content-Type"], **framing))
            for start, end in zip([0] + cuts, cuts + [len(body)]):
                piece = body[start:end]
                if is_chunked and piece:
                    piece = b"%x\r\n%s\r\n" % (len(piece), piece)
                connection.sendall(piece)
            if is_chunked:
                connection.sendall(b"0\r\n\r\n")
            return read_reply(connection.makefile("rb"))


class Formats(Push):
    def test_json(self):
        reply = self.push("json", step=7, loss=0.31, lr=0.1, tensors={"param/w": {"shape": [2, 2], "data": [1, 2, 3, 4]}})
        self.assertEqual(reply.status, 200)
        body = reply.json()
        self.assertEqual((body["status"], body["run"], body["attempt"], body["step"]), ("accepted", "json", 1, 7))
        self.assertEqual(body["metrics"]["loss"], {"value": 0.31, "trust": "I"})
        self.assertAlmostEqual(body["metrics"]["param_norm"]["value"], math.sqrt(30), 12)
        self.assertEqual(body["metrics"]["grad_cosine"]["value"], None)
        self.assertEqual((body["want"], body["state"], body["action"]), ([], "healthy", {"kind": "continue"}))
        self.assertEqual(body["alerts"], [{"id": 17, "rule": "instability", "tensor": None, "state": "firing",
                                           "severity": "critical", "since_step": 7, "summary": 'it "diverges"'}])

    def test_minimal(self):
        reply = self.post("minimal", '{"step":3}', JSON | MINIMAL)
        self.assertEqual(reply.headers["Preference-Applied"], "return=minimal")
        self.assertNotIn("metrics", reply.json())
        self.assertEqual(reply.json()["want"], ["exp_avg", "exp_avg_sq"])

    def test_query_alone(self):
        reply = self.post("query", None, {}, "?step=1&loss=0.5&x-note=a+b")
        self.assertEqual((reply.status, reply.json()["metrics"]["loss"]["value"]), (200, 0.5))
        self.problem(self.post("query", None, {}, "?loss=1"), 400, "missing-field", "step")
        self.problem(self.post("query", None, {}, "?step=2&colour=1"), 400, "unknown-field", "colour")
        self.problem(self.post("query", None, {}, "?step=2&step=3"), 400, "contradiction", "step")
        self.problem(self.post("query", '{"step":2}', JSON, "?step=3"), 400, "contradiction", "step")

    def test_non_finite(self):
        reply = self.push("nan", step=1, loss="NaN")
        self.assertEqual(reply.status, 200, reply.body)
        self.assertEqual(self.push("nan", step=2, loss="-Infinity").status, 200)
        self.assertEqual(self.push("nan", step=3).status, 200)
        self.assertEqual(reply.json()["metrics"]["loss"], {"value": "NaN", "trust": "I"})
        series = self.get("/v1/runs/nan/profile?metric=loss&metric=lr").json()["series"]
        self.assertEqual(series, {"loss": ["NaN", "-Infinity", None], "lr": [None] * 3})

    def test_types(self):
        for kind in ("text/plain", "application/x-www-form-urlencoded", "application/jsonx"):
            reply = self.post("types", "{}", {"Content-Type": kind})
            self.problem(reply, 415, "unsupported-media-type", "safetensors", "ndjson", kind)
        self.assertEqual(self.post("types", '{"step":1}', {"Content-Type": "Application/JSON; charset=utf-8"}).status, 200)
        self.problem(self.post("types", '{"step":2}', JSON | {"Accept": "text/html"}), 406, "not-acceptable")
        self.problem(self.post("a%20b", "{}", JSON), 400, "invalid-value", "a b")

    def test_waiting_inline_replaced(self):
        reply = self.push("waiting", step=4)
        self.assertEqual((reply.status, reply.json()["status"], reply.json()["step"]), (202, "waiting", 4))
        self.assertEqual(self.push("inline", step=4).json()["status"], "accepted")
        body = safetensors({"step": "1"}, param_w=[1.0] * 8)
        reply = self.upload("replaced", body, [len(body) - 8])
        self.problem(reply, 409, "upload-replaced")
        self.settled()

    def test_refusals(self):
        for slug, status in REFUSALS.items():
            for prefix in ("admit-", "answer-"):
                reply = self.push(prefix + slug, step=1)
                self.problem(reply, status, slug, "steered")
                self.assertEqual("Retry-After" in reply.headers, status in (503, 507))

    def test_order_and_duplicates(self):
        body = safetensors({"step": "5", "loss": "0.25"}, param_w=[3.0, 4.0])
        self.assertEqual(self.post("order", body, TENSORS).json()["status"], "accepted")
        repeated = self.post("order", body, TENSORS).json()
        self.assertEqual((repeated["status"], repeated["metrics"]["loss"]["value"]), ("duplicate", 0.25))
        self.assertEqual(repeated["metrics"]["param_norm"]["value"], 5)
        self.problem(self.push("order", step=4), 409, "step-not-above-last", "5")

    def test_duplicate_of_a_large_body(self):
        body = safetensors({"step": "5"}, param_w=[1.0] * 200000)
        for status in ("accepted", "duplicate"):
            self.assertEqual(self.post("large", body, TENSORS).json()["status"], status)


class Chunks(Push):
    BODY = safetensors({"step": "1", "loss": "0.5"}, param_w=[1.0, 2.0, 4.0, 8.0], param_v=[0.5])

    def test_any_cut_gives_the_same(self):
        expected = math.sqrt(1 + 4 + 16 + 64 + 0.25)
        n = len(self.BODY)
        for i, cuts in enumerate([[], list(range(1, n)), [3], [7, 8, 9], [n - 1], [n - 3, n - 2], list(range(0, n, 5))]):
            for is_chunked in (False, True):
                reply = self.upload(f"cut-{i}-{is_chunked}", self.BODY, cuts, is_chunked)
                self.assertEqual(reply.status, 200, reply.body)
                self.assertEqual(reply.json()["metrics"]["param_norm"]["value"], expected)

    def test_broken_at_every_byte_leaves_no_trace(self):
        before = self.settled()
        for n in range(len(self.BODY)):
            connection = self.connect()
            connection.sendall(head("POST", "/v1/runs/broken/snapshots", Content_Length=len(self.BODY),
                                    Content_Type=TENSORS["Content-Type"]) + self.BODY[:n])
            if n % 2:
                reset(connection)
            connection.close()
        after = self.settled()
        self.assertEqual(after["submitted"], before["submitted"])
        self.assertGreater(after["aborted"], before["aborted"])
        reply = self.get("/v1/runs/broken")
        self.assertTrue(reply.status == 404 or reply.json()["last_step"] is None)

    def test_truncated_at_every_byte(self):
        for n in range(0, len(self.BODY), 3):
            reply = self.post("short", self.BODY[:n], TENSORS)
            self.problem(reply, 400, "malformed-body")
        self.problem(self.post("short", self.BODY + b"x", TENSORS), 400, "malformed-body")
        self.settled()

    def test_broken_json(self):
        for body in (b"", b"{", b"[]", b'{"step":1}x', b'{"step":1,"step":1}', b"\xff", b'{"step":"a"}'):
            self.assertEqual(self.post("badjson", body, JSON).status, 400, body)
        self.settled()


class Lines(Push):
    def lines(self, run, body, **headers):
        reply = self.post(run, body, NDJSON | headers)
        self.assertEqual((reply.status, reply.headers["Content-Type"]), (200, "application/x-ndjson"), reply.body)
        return reply.lines()

    def test_one_commit_one_reply_each(self):
        body = "".join(json.dumps({"step": i, "loss": i}) + "\n" for i in range(5))
        replies = self.lines("n1", body)
        self.assertEqual([r["step"] for r in replies], list(range(5)))
        self.assertEqual({r["status"] for r in replies}, {"accepted"})

    def test_a_bad_line_fails_alone(self):
        self.push("n2", step=0)
        body = '\r\n{"step":1}\r\n\n{"step":2,\n{"step":0}\n  {"step":1}\nnull\n{"step":3,"colour":1}\n{"step":4}'
        replies = self.lines("n2", body)
        statuses = [r["status"] for r in replies]
        self.assertEqual(statuses, ["accepted", 400, "duplicate", 409, 400, 400, "accepted"])
        self.assertEqual([r["line"] for r in replies if "line" in r], [1, 3, 4, 5])
        self.assertEqual(replies[3]["type"], "urn:lyapd:problem:step-not-above-last")
        self.assertEqual(self.get("/v1/runs/n2/profile?metric=loss").json()["step"], [0, 1, 4])

    def test_minimal_and_tensors(self):
        line = {"step": 1, "tensors": {"param/w": {"shape": [2], "data": [3, 4]}}}
        replies = self.lines("n3", json.dumps(line) + "\n", Prefer="return=minimal")
        self.assertNotIn("metrics", replies[0])
        series = self.get("/v1/runs/n3/profile?metric=param_norm").json()["series"]
        self.assertEqual(series["param_norm"], [5])

    def test_too_many_lines(self):
        body = "".join(f'{{"step":{i}}}\n' for i in range(10001))
        self.problem(self.post("n4", body, NDJSON), 413, "limit-exceeded", "10000")
        self.assertIsNone(self.get("/v1/runs/n4").json()["last_step"])
        self.settled()

    def test_many_lines_byte_by_byte_and_whole(self):
        body = "".join(f'{{"step":{i},"loss":{i}}}\n' for i in range(40)).encode()
        with self.connect() as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(head("POST", "/v1/runs/n5/snapshots", Content_Length=len(body),
                                    Content_Type="application/x-ndjson"))
            for i in range(len(body)):
                connection.sendall(body[i : i + 1])
            reply = read_reply(connection.makefile("rb"))
        self.assertEqual([r["step"] for r in reply.lines()], list(range(40)))

    def test_empty(self):
        self.problem(self.post("n6", "", NDJSON), 400, "malformed-body")
        self.problem(self.post("n6", "\n \n", NDJSON), 400, "malformed-body")

    def test_broken_off(self):
        for tail in (b'{"step":2', b""):
            connection = self.connect()
            connection.sendall(head("POST", "/v1/runs/n7/snapshots", Content_Length=1000,
                                    Content_Type="application/x-ndjson") + b'{"step":1}\n' + tail)
            connection.close()
        self.settled()
        reply = self.get("/v1/runs/n7")
        self.assertTrue(reply.status == 404 or reply.json()["last_step"] is None)


class Limits(Push):
    arguments = ("--body", "100000")

    def test_announced(self):
        self.problem(self.post("big", b"x" * 100001, TENSORS), 413, "limit-exceeded", "100000", "body_bytes_max")
        with self.connect() as connection:
            connection.sendall(head("POST", "/v1/runs/big/snapshots", Content_Length=1 << 40,
                                    Content_Type=TENSORS["Content-Type"]))
            stream = connection.makefile("rb")
            self.problem_of(read_reply(stream), 413)
            self.assertEqual(stream.read(), b"")

    def problem_of(self, reply, status):
        self.assertEqual((reply.status, reply.json()["status"]), (status, status))

    def test_not_announced(self):
        body = safetensors({"step": "1"}, param_w=[1.0] * 50000)
        reply = self.upload("big", body, list(range(10000, len(body), 10000)), is_chunked=True)
        self.problem_of(reply, 413)
        self.settled()

    def test_continue(self):
        cases = [("/v1/runs/c/snapshots", "text/plain", 10, 415), ("/v1/nothing", "application/json", 10, 404),
                 ("/v1/runs/c/snapshots", "application/json", 100001, 413), ("/v1/runs", "application/json", 10, 405)]
        for path, kind, length, status in cases:
            with self.connect() as connection:
                connection.sendall(head("POST", path, Content_Length=length, Content_Type=kind, Expect="100-continue"))
                self.problem_of(read_reply(connection.makefile("rb")), status)
        with self.connect() as connection:
            stream = connection.makefile("rb")
            connection.sendall(head("POST", "/v1/runs/c/snapshots", Content_Length=10,
                                    Content_Type="application/json", Expect="100-continue"))
            self.assertEqual(read_reply(stream).status, 100)
            connection.sendall(b'{"step":1}')
            self.assertEqual(read_reply(stream).status, 200)

    def test_pipelined(self):
        post = head("POST", "/v1/runs/pipe/snapshots", Content_Length=10, Content_Type="application/json")
        with self.connect() as connection:
            stream = connection.makefile("rb")
            requests = b"".join(post + b'{"step":%d}' % i + head("GET", "/v1/runs/pipe") for i in range(5))
            connection.sendall(requests)
            for i in range(5):
                self.assertEqual(read_reply(stream).json()["step"], i)
                self.assertEqual(read_reply(stream).json()["last_step"], i)

    def test_error_keeps_the_connection(self):
        bad = head("POST", "/v1/runs/keep/snapshots", Content_Length=3, Content_Type="application/json") + b"{{{"
        wrong = head("POST", "/v1/runs/keep", Content_Length=3) + b"abc"
        with self.connect() as connection:
            stream = connection.makefile("rb")
            connection.sendall(bad + wrong + head("GET", "/healthz"))
            self.assertEqual([read_reply(stream).status for _ in range(3)], [400, 405, 200])

    def test_nonsense(self):
        for text in (b"GET\r\n\r\n", b"\x00\x01\x02\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"POST / HTTP/1.1\r\n"
                     b"Host: localhost\r\nContent-Length: x\r\n\r\n", b"A" * 200000):
            with self.connect() as connection:
                try:
                    connection.sendall(text)
                    connection.shutdown(socket.SHUT_WR)
                    connection.makefile("rb").read()
                except OSError:
                    pass
        self.assertEqual(self.get("/healthz").status, 200)

    def test_parallel(self):
        faults = []

        def client(name):
            try:
                for step in range(15):
                    reply = self.push(f"par-{name}", step=step, loss=step)
                    if reply.status != 200 or reply.json()["step"] != step:
                        faults.append(reply.body)
                    self.get(f"/v1/runs/par-{name}/profile?metric=loss")
            except Exception as error:
                faults.append(error)

        threads = [threading.Thread(target=client, args=(i,)) for i in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(faults, [])


class Slow(unittest.TestCase):
    def test_senders_are_bounded(self):
        server = Server("--timeout", "1", "--seconds", "2")
        starts = [b"GET /heal", head("POST", "/v1/runs/a/snapshots", Content_Length=50,
                                     Content_Type="application/json") + b"{"]
        for start in starts:
            with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
                connection.sendall(start)
                self.assertEqual(connection.recv(1), b"")
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
            connection.sendall(starts[1])
            begun = time.monotonic()
            with self.assertRaises(OSError):
                while time.monotonic() - begun < 10:
                    connection.sendall(b" ")
                    time.sleep(0.2)
            self.assertLess(time.monotonic() - begun, 6)
        server.close()


class Stop(unittest.TestCase):
    """Pushes that wait while the server stops are answered, whoever stops first."""

    def waiting(self, server, run, count):
        connections = []
        for i in range(count):
            connection = socket.create_connection(("127.0.0.1", server.port), timeout=20)
            body = b'{"step":%d}' % i
            connection.sendall(head("POST", f"/v1/runs/{run}/snapshots", Content_Length=len(body),
                                    Content_Type="application/json") + body)
            connections.append(connection)
        time.sleep(0.3)
        return connections

    def test_engine_first(self):
        server = Server()
        connections = self.waiting(server, "never", 5)
        server.stop()
        for i, connection in enumerate(connections):
            reply = read_reply(connection.makefile("rb"))
            self.assertEqual((reply.status, reply.json()["step"]), (200, i))
            self.assertEqual(reply.headers["Connection"].lower(), "close")
            connection.close()
        server.close()

    def test_engine_last(self):
        server = Server("--engine", "last")
        connections = self.waiting(server, "never", 5)
        server.stop()
        for connection in connections:
            reply = read_reply(connection.makefile("rb"))
            self.assertEqual((reply.status, reply.headers["Retry-After"]), (503, "1"))
            self.assertEqual(reply.json()["type"], "urn:lyapd:problem:stopping")
            connection.close()
        server.close()

    def test_peers_that_left(self):
        server = Server()
        for connection in self.waiting(server, "never", 5):
            reset(connection)
        for connection in self.waiting(server, "slow", 3):
            connection.close()
        server.close()

    def test_idle_and_half_sent_connections(self):
        server = Server()
        idle = socket.create_connection(("127.0.0.1", server.port))
        half = socket.create_connection(("127.0.0.1", server.port))
        half.sendall(head("POST", "/v1/runs/a/snapshots", Content_Length=50, Content_Type="application/json") + b"{")
        time.sleep(0.2)
        begun = time.monotonic()
        server.close()
        self.assertLess(time.monotonic() - begun, 9)
        idle.close()
        half.close()

    def test_no_new_requests(self):
        server = Server("--engine", "last")
        waiting = self.waiting(server, "never", 1)[0]
        idle = socket.create_connection(("127.0.0.1", server.port), timeout=20)
        idle.sendall(head("GET", "/healthz"))
        stream = idle.makefile("rb")
        self.assertEqual(read_reply(stream).status, 200)
        server.stop()
        time.sleep(0.3)
        idle.sendall(head("GET", "/healthz"))
        self.assertEqual(read_reply(stream).status, 503)
        with self.assertRaises(OSError):
            late = socket.create_connection(("127.0.0.1", server.port), timeout=1)
            late.sendall(head("GET", "/healthz"))
            if not late.recv(1):
                raise OSError
        self.assertEqual(read_reply(waiting.makefile("rb")).status, 503)
        server.close()
        idle.close()
        waiting.close()


if __name__ == "__main__":
    unittest.main()
