"""A daemon that remembers what it was sent and answers as it is told."""

import http.server
import json
import os
import socket
import struct
import sys
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "clients", "python"))

ITEM = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}


def parse(body):
    """(metadata, {name: (dtype, shape, bytes)}, names in body order); strict as the format is."""
    size = struct.unpack("<Q", body[:8])[0]
    pairs = json.loads(body[8:8 + size].decode("utf-8"), object_pairs_hook=list)
    names = [name for name, _ in pairs]
    assert len(set(names)) == len(names), "duplicate keys"
    metadata, tensors, end = {}, {}, 0
    for name, fields in pairs:
        if name == "__metadata__":
            metadata = dict(fields)
            assert all(isinstance(value, str) for value in metadata.values())
            continue
        fields = dict(fields)
        begin, finish = fields["data_offsets"]
        count = 1
        for extent in fields["shape"]:
            count *= extent
        assert begin == end and finish - begin == count * ITEM[fields["dtype"]], name
        end = finish
        tensors[name] = (fields["dtype"], fields["shape"], body[8 + size + begin:8 + size + finish])
    assert len(body) == 8 + size + end, "holes or rest"
    return metadata, tensors, [name for name in names if name != "__metadata__"]


class Request:
    def __init__(self, method, path, headers, body):
        self.method = method
        self.path, _, query = path.partition("?")
        self.query = dict(pair.split("=", 1) for pair in query.split("&") if pair)
        self.headers = headers
        self.body = body

    @property
    def is_push(self):
        return self.method == "POST" and self.path.endswith("/snapshots")

    def json(self):
        return json.loads(self.body.decode("utf-8"))

    def parse(self):
        return parse(self.body)

    @property
    def step(self):
        if self.headers.get("Content-Type") == "application/json":
            return self.json()["step"]
        return int(self.parse()[0]["step"])


class Daemon:
    """`answer(request)` may return (status, document[, headers]), "hang" or "cut"; None: as the
    real one would."""

    def __init__(self, port=0):
        self.requests = []
        self.answer = lambda request: None
        self.attempts = {}
        self.seen = {}
        self.delay = 0.0
        daemon = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def do(self):
                length = int(self.headers.get("Content-Length") or 0)
                request = Request(self.command, self.path, self.headers, self.rfile.read(length))
                daemon.requests.append(request)
                reply = daemon.answer(request)
                if reply in ("hang", "cut"):
                    if reply == "hang":
                        time.sleep(3)
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                time.sleep(daemon.delay)
                status, document, *more = reply or daemon.usual(request)
                body = json.dumps(document).encode("utf-8")
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                for name, value in (more[0] if more else {}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)
            do_GET = do_PUT = do_POST = do_DELETE = do

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, client_address):
                pass
        self.server = Server(("127.0.0.1", port), Handler)
        self.port = self.server.server_address[1]
        self.url = "http://127.0.0.1:%d" % self.port
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def usual(self, request):
        if request.method == "PUT":
            fields = request.json()
            if "attempt" in fields:
                key = fields.get("attempt_key")
                self.attempts.setdefault(key, len(self.attempts) + 1)
            return 200, {"run": "r", "attempt": self.attempts.get(fields.get("attempt_key"), 1)}
        if request.is_push:
            key = (request.query.get("attempt"), request.step)
            status = "duplicate" if key in self.seen else "accepted"
            self.seen[key] = True
            return 200, {"status": status, "run": "r", "attempt": 1, "step": request.step,
                         "metrics": {"instability_score": {"value": 0.25, "trust": "E"},
                                     "loss": {"value": "NaN", "trust": "I"},
                                     "sharpness": {"value": None, "reason": "no-probe"}},
                         "state": "healthy", "verdict": "inconclusive",
                         "action": {"kind": "continue"}, "want": [], "alerts": []}
        return 404, {"type": "about:blank", "title": "Not Found", "status": 404}

    @property
    def pushes(self):
        return [request for request in self.requests if request.is_push]

    @property
    def puts(self):
        return [request for request in self.requests if request.method == "PUT"]

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.close()


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def eventually(condition, timeout=10.0):
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return False
