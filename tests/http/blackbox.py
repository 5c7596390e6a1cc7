"""Runs the real lyapd on a free loopback port and speaks HTTP with it. Standard library only."""
import http.client
import json
import math
import os
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = Path(os.environ.get("LYAP_BUILD_DIR", ROOT / "build"))
BINARY = os.environ.get("LYAPD", str(BUILD / "bin" / "lyapd"))
START_SECONDS = float(os.environ.get("LYAPD_START_SECONDS", "60"))


class Reply:
    """Status, headers (lower case) and body of one answer."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def slug(self):
        return self.json["type"].rsplit("/", 1)[-1].rsplit(":", 1)[-1].rsplit("#", 1)[-1]

    def __repr__(self):
        return "Reply(%d, %r)" % (self.status, self.body[:600])


class Daemon:
    """One lyapd process on its own folder, which survives a restart of the process."""

    def __init__(self, *flags, folder=None, preexec=None, env=None, wait=True):
        self.folder = folder or tempfile.mkdtemp(prefix="lyapd-test-")
        self.db = os.path.join(self.folder, "lyapd.db")
        self.flags, self.preexec, self.env = list(flags), preexec, dict(os.environ, **(env or {}))
        self.log_path = os.path.join(self.folder, "log")
        self.port, self.process = None, None
        if wait:
            self.start()

    def command(self):
        given = " ".join(self.flags)
        flags = ["--listen", "127.0.0.1:0"] if "--listen" not in given else []
        flags += ["--db", self.db] if "--db" not in given else []
        return [BINARY] + flags + self.flags

    def start(self):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                self.command(), stdout=subprocess.PIPE, stderr=log, preexec_fn=self.preexec, env=self.env
            )
        ready, _, _ = select.select([self.process.stdout], [], [], START_SECONDS)
        line = self.process.stdout.readline().decode() if ready else ""
        found = re.match(r"lyapd: listening on https?://\S+:(\d+)\n", line)
        if not found:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()
            raise AssertionError("lyapd did not start: %r\n%s" % (line, self.log()))
        self.port = int(found.group(1))
        return self

    def log(self):
        with open(self.log_path, "r", errors="replace") as log:
            return log.read()

    def kill(self):
        """kill -9: nothing is drained."""
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def stop(self, timeout=30):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout)
        self.process.stdout.close()
        return code

    def close(self):
        if self.process and self.process.poll() is None:
            code = self.stop()
            assert code == 0, "exit %d\n%s" % (code, self.log())
        log = self.log()
        shutil.rmtree(self.folder, ignore_errors=True)
        for mark in ("ThreadSanitizer", "AddressSanitizer", "runtime error:", "Assertion"):
            assert mark not in log, log

    def request(self, method, path, body=None, headers=None, timeout=60):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return Reply(
                answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
            )
        finally:
            connection.close()

    def get(self, path, **headers):
        return self.request("GET", path, headers=headers)

    def put(self, path, document):
        return self.request("PUT", path, json.dumps(document), {"Content-Type": "application/json"})

    def push_json(self, run, document, **headers):
        return self.request(
            "POST",
            "/v1/runs/%s/snapshots" % run,
            json.dumps(document),
            dict({"Content-Type": "application/json"}, **headers),
        )

    def push_ndjson(self, run, documents):
        reply = self.request(
            "POST",
            "/v1/runs/%s/snapshots" % run,
            "".join(json.dumps(d) + "\n" for d in documents),
            {"Content-Type": "application/x-ndjson"},
        )
        return reply, [json.loads(line) for line in reply.body.decode().splitlines() if line]

    def push_tensors(self, run, tensors, metadata, query="", timeout=60):
        return self.request(
            "POST",
            "/v1/runs/%s/snapshots%s" % (run, query),
            safetensors(tensors, metadata),
            {"Content-Type": "application/vnd.safetensors"},
            timeout,
        )

    def socket(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)


def safetensors(tensors, metadata):
    """Body of {name: (shape, values)} as F64, or (shape, values, dtype) with F32, F64 or raw bytes."""
    header, data = {"__metadata__": {k: str(v) for k, v in metadata.items()}}, b""
    for name, tensor in tensors.items():
        shape, values = tensor[0], tensor[1]
        dtype = tensor[2] if len(tensor) > 2 else "F64"
        if isinstance(values, bytes):
            block = values
        else:
            block = struct.pack("<%d%s" % (len(values), {"F64": "d", "F32": "f"}[dtype]), *values)
        header[name] = {
            "dtype": dtype,
            "shape": list(shape),
            "data_offsets": [len(data), len(data) + len(block)],
        }
        data += block
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


class Quadratic:
    """Gradient descent on 0.5 sum a_i w_i^2, in two tensors: a training whose every number is known."""

    def __init__(self, lr=0.1, curvatures=(1.0, 3.0, 0.5, 2.0, 4.0, 0.25), start=1.0):
        self.lr, self.a = lr, list(curvatures)
        self.w = [start * (1 + 0.1 * i) for i in range(len(self.a))]
        self.step = 0

    @property
    def loss(self):
        return 0.5 * sum(a * w * w for a, w in zip(self.a, self.w))

    @property
    def grad(self):
        return [a * w for a, w in zip(self.a, self.w)]

    def snapshot(self):
        """JSON form of the push at the present step."""
        w, g = self.w, self.grad
        return {
            "step": self.step,
            "loss": self.loss,
            "lr": self.lr,
            "tensors": {
                "param/first": {"shape": [2, 2], "data": w[:4]},
                "grad/first": {"shape": [2, 2], "data": g[:4]},
                "param/second": {"shape": [2], "data": w[4:]},
                "grad/second": {"shape": [2], "data": g[4:]},
            },
        }

    def tensors(self):
        return {
            name: (t["shape"], t["data"]) for name, t in self.snapshot()["tensors"].items()
        }

    def metadata(self, **more):
        return dict({"step": self.step, "loss": repr(self.loss), "lr": repr(self.lr)}, **more)

    def advance(self, steps=1):
        for _ in range(steps):
            self.w = [w - self.lr * g for w, g in zip(self.w, self.grad)]
            self.step += 1
        return self


class DaemonCase(unittest.TestCase):
    """A test with one daemon of its own."""

    flags = ()

    def setUp(self):
        self.daemon = Daemon(*self.flags)
        self.addCleanup(self.daemon.close)

    def ok(self, reply, status=200):
        self.assertEqual(reply.status, status, reply)
        return reply.json

    def refused(self, reply, status, slug):
        self.assertEqual((reply.status, reply.slug), (status, slug), reply)
        self.assertTrue(reply.headers["content-type"].startswith("application/problem+json"))
        for field in ("type", "title", "status", "detail", "instance"):
            self.assertIn(field, reply.json)
        return reply.json["detail"]

    def eventually(self, condition, seconds=20):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            answer = condition()
            if answer:
                return answer
            time.sleep(0.05)
        self.fail("did not come true within %g s" % seconds)

    def close_to(self, value, expected, tolerance=1e-12):
        self.assertTrue(
            math.isclose(value, expected, rel_tol=tolerance, abs_tol=tolerance), (value, expected)
        )
