"""Requests and bodies that lie, flood or make no sense: an answer that says why, and a daemon that goes on."""
import json
import os
import random
import socket
import struct
import unittest

from blackbox import DaemonCase, Quadratic

HEADER_BYTES_MAX = 16 << 20
TAIL = b"Host: localhost\r\nConnection: close\r\n"


def body(header, data=b"", length=None):
    if not isinstance(header, bytes):
        header = json.dumps(header).encode()
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def entry(shape, begin, end, dtype="F64"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def reject_constant(word):
    raise AssertionError("bare %s in JSON" % word)


class Http(DaemonCase):
    def raw(self, request, shut=False):
        """Everything that comes back until the daemon closes."""
        with self.daemon.socket() as s:
            answer = b""
            try:
                s.sendall(request)
                if shut:
                    s.shutdown(socket.SHUT_WR)
                while chunk := s.recv(65536):
                    answer += chunk
            except (ConnectionResetError, BrokenPipeError):
                pass
            return answer

    def status(self, request, **how):
        answer = self.raw(request, **how)
        return int(answer[9:12]) if answer else None

    def get(self, target, headers=b""):
        return self.status(b"GET %s HTTP/1.1\r\n%s%s\r\n" % (target, headers, TAIL))

    def push(self, head, text):
        return self.raw(
            b"POST /v1/runs/r/snapshots HTTP/1.1\r\nContent-Type: application/json\r\n%s%s\r\n%s"
            % (head, TAIL, text)
        )

    def tearDown(self):
        self.ok(self.daemon.get("/healthz"))

    def test_requests_that_make_no_sense(self):
        for request, expected in (
            (b"GET /v1/runs/%zz HTTP/1.1\r\n" + TAIL + b"\r\n", 400),
            (b"GET /v1/runs/a%00b HTTP/1.1\r\n" + TAIL + b"\r\n", 400),
            (b"GET /v1/runs/a% HTTP/1.1\r\n" + TAIL + b"\r\n", 400),
            (b"GET /v1/runs/%2e%2e%2fetc HTTP/1.1\r\n" + TAIL + b"\r\n", 400),
            (b"GET /v1/runs/../../etc/passwd HTTP/1.1\r\n" + TAIL + b"\r\n", 404),
            (b"GET /v1/runs/%ff%fe HTTP/1.1\r\n" + TAIL + b"\r\n", 400),
            (b"GET /" + b"a" * 300000 + b" HTTP/1.1\r\n" + TAIL + b"\r\n", 414),
            (b"GET /v1/runs/" + b"a" * 100000 + b" HTTP/1.1\r\n" + TAIL + b"\r\n", 400),
            (b"GET /healthz HTTP/1.1\r\nX: " + b"a" * 300000 + b"\r\n" + TAIL + b"\r\n", 431),
            (b"GET /v1/runs?" + b"label=a:b&" * 200 + b" HTTP/1.1\r\n" + TAIL + b"\r\n", 413),
            (b"FROB /v1/runs HTTP/1.1\r\n" + TAIL + b"\r\n", 405),
            (b"HEAD /v1/runs/none HTTP/1.1\r\n" + TAIL + b"\r\n", 404),
            (b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n", 400),
            (b"GET /healthz HTTP/1.1\r\nHost: rebound.example\r\nConnection: close\r\n\r\n", 403),
            (b"GET /healthz HTTP/3.0\r\n\r\n", 505),
            (b"GET /v1/runs HTTP/1.1\r\nContent-Length: 5\r\n" + TAIL + b"\r\nhello", 413),
        ):
            self.assertEqual(self.status(request), expected, request[:80])
        for garbage in (os.urandom(2000) + b"\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", b"\r\n" * 500):
            self.raw(garbage, shut=True)

    def test_a_query_that_does_not_fit_leaves_nothing_behind(self):
        """Under AddressSanitizer a leak is reported at exit."""
        for _ in range(20):
            self.get(b"/v1/runs?" + b"a=b&" * 50000)

    def test_names_that_clients_cannot_address(self):
        for name in (b".", b".."):
            put = b"PUT /v1/runs/%s HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 2\r\n%s\r\n{}"
            self.assertEqual(self.status(put % (name, TAIL)), 400, name)
        self.ok(self.daemon.put("/v1/runs/...", {}), 201)

    def test_lengths_that_lie(self):
        good = b'{"step":1,"loss":1}'
        for head in (b"-5", b"5x", b"18446744073709551616", b"9223372036854775808"):
            answer = self.push(b"Content-Length: %s\r\n" % head, good)
            self.assertIn(answer[9:12], (b"400", b"413"), head)
        self.assertEqual(
            self.status(
                b"POST /v1/runs/r/snapshots HTTP/1.1\r\nContent-Type: application/json\r\n"
                b"Content-Length: 190\r\n" + TAIL + b"\r\n" + good,
                shut=True,
            ),
            None,
        )
        for sizes in (b"ffffffffffffffffff", b"zz", b"-1"):
            answer = self.push(b"Transfer-Encoding: chunked\r\n", sizes + b"\r\n{}\r\n0\r\n\r\n")
            self.assertIn(answer[9:12], (b"400", b"413", b""), sizes)
        self.refused(self.daemon.get("/v1/runs/r/profile?metric=loss"), 404, "not-found")
        one_by_one = b"".join(b"1;x=y\r\n%c\r\n" % c for c in good) + b"0\r\nTrailer: x\r\n\r\n"
        self.assertEqual(self.push(b"Transfer-Encoding: chunked\r\n", one_by_one)[9:12], b"200")

    def test_many_connections_and_resets_at_every_offset(self):
        q = Quadratic()
        text = json.dumps(q.snapshot()).encode()
        head = (
            b"POST /v1/runs/r/snapshots HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(text)
        )
        request = head + text
        for cut in list(range(1, len(request), 29)) + [len(request)]:
            with self.daemon.socket() as s:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                s.sendall(request[:cut])
        sockets = [self.daemon.socket() for _ in range(200)]
        for i, s in enumerate(sockets):
            s.sendall(request.replace(b"/runs/r/", b"/runs/p%d/" % i)[:-40])
        self.ok(self.daemon.get("/healthz"))
        for s in sockets:
            s.sendall(request[-40:])
        for s in sockets:
            self.assertEqual(s.recv(65536)[9:12], b"200")
            s.close()
        reply = self.eventually(
            lambda: (r := self.daemon.push_json("r", q.snapshot())).status != 503 and r
        )
        self.ok(reply)


class Bodies(DaemonCase):
    META = {"step": "1", "loss": "1"}

    def post(self, content, run="r", kind="application/vnd.safetensors"):
        return self.daemon.request(
            "POST", "/v1/runs/%s/snapshots" % run, content, {"Content-Type": kind}
        )

    def test_bombs_are_refused_at_once(self):
        deep = b'{"a":' * (HEADER_BYTES_MAX // 5)
        for content, status in (
            (struct.pack("<Q", HEADER_BYTES_MAX) + os.urandom(HEADER_BYTES_MAX), 400),
            (struct.pack("<Q", HEADER_BYTES_MAX) + b'{"a":' + b"[" * (HEADER_BYTES_MAX - 5), 400),
            (body(deep), 400),
            (struct.pack("<Q", HEADER_BYTES_MAX + 1) + b"{}", 413),
            (b"\xff" * 8 + b"{}", 413),
            (body({"__metadata__": {"x-%d" % i: "a" for i in range(100000)}}), 413),
            (body({"param/%d" % i: entry([0], 0, 0) for i in range(100001)}), 413),
        ):
            self.assertEqual(self.post(content).status, status, content[:40])
        for content, status in (
            (b"[" * HEADER_BYTES_MAX, 400),
            (deep, 400),
            (b'{"step":1,"loss":' + b"1" * HEADER_BYTES_MAX, 413),
        ):
            self.assertEqual(self.post(content, kind="application/json").status, status, content[:40])
        self.assertEqual(self.daemon.get("/v1/runs/r").status, 404)

    def test_the_largest_set_of_tensors_is_taken(self):
        count = 100000
        header = {"param/%d" % i: entry([1], 8 * i, 8 * i + 8) for i in range(count)}
        for step in range(2):
            header["__metadata__"] = {"step": str(step), "loss": "1"}
            self.ok(self.post(body(header, b"\0" * (8 * count))))
        page = self.ok(self.daemon.get("/v1/runs/r/tensors?limit=1000"))
        self.assertEqual(len(page["tensors"]), 1000)

    def test_numbers_at_the_edges_never_break_a_run(self):
        """Every role and scalar from NaN to the largest; every answer stays JSON with reasons."""
        rng = random.Random(7)
        edges = [
            float("nan"), float("inf"), float("-inf"), 0.0, -0.0, 5e-324, -5e-324, 1e-300, 1e300,
            -1e300, 1.7976931348623157e308, -1.0, 1.0, 1e154, 2.0**480,
        ]
        optimizers = (
            {"type": "sgd", "lr": 0.1, "momentum": 0.9},
            {"type": "adam", "lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 0},
            {"type": "lion", "lr": 0.1},
            {"type": "proxgd", "lr": 0.1, "prox": {"kind": "l1", "lambda": 0.05}},
        )
        roles = ("delta", "exp_avg", "exp_avg_sq", "probe_grad", "same_batch_grad", "act", "act_perturbed", "gate")
        layers = [
            {"name": "w", "kind": "linear", "tensor": "w"},
            {"name": "norm", "kind": "rmsnorm"},
            {"name": "block", "kind": "residual", "structure": "symmetric", "tensor": "w", "activation": "relu"},
        ]
        for i, optimizer in enumerate(optimizers):
            run = "edge-%d" % i
            declared = {"optimizer": optimizer, "data": "full-batch", "layers": layers}
            self.ok(self.daemon.put("/v1/runs/" + run, declared), 201)
            for step in range(24):
                loss, lr = (rng.choice(edges), rng.choice((0.0, 5e-324, 1e300, 0.1))) if step % 2 else (1.0, 0.1)
                tensors = {}
                for role in ("param", "grad") + tuple(r for r in roles if rng.random() < 0.4):
                    wild = rng.random() < 0.5
                    values = [rng.choice(edges) if wild else rng.gauss(0, 1) for _ in range(70)]
                    tensors[role + "/w"] = ([7, 10], values)
                metadata = {"step": step, "loss": repr(loss), "lr": repr(lr), "probe_loss": repr(rng.choice(edges))}
                reply = self.daemon.push_tensors(run, tensors, metadata)
                self.assertEqual(reply.status, 200, (optimizer, metadata, reply))
                answer = json.loads(reply.body, parse_constant=reject_constant)
                for name, value in answer["metrics"].items():
                    self.assertTrue(value["value"] is not None or value["reason"], name)
            for path in ("", "/profile?metric=loss&metric=sharpness", "/profile/latest", "/tensors", "/layers", "/events"):
                reply = self.daemon.get("/v1/runs/" + run + path)
                self.assertEqual(reply.status, 200, reply)
                json.loads(reply.body, parse_constant=reject_constant)


if __name__ == "__main__":
    unittest.main()
