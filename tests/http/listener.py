"""A real HTTP server that receives notifications, and can be told to misbehave; and tests with it."""
import collections
import http.server
import json
import socket
import ssl
import struct
import threading
import time

from blackbox import DaemonCase

FAST = ("--delivery-retry-s", "1", "--delivery-retry-max-s", "1", "--delivery-timeout-s", "2")
Request = collections.namedtuple("Request", "path headers body time")


class Listener:
    """Answers 200 unless `script` says otherwise: a list of steps, one a request, then 200 again.
    A step is a status, (status, {headers}), "reset", "hang" (until close), "slow" (two seconds),
    "flood" (200 and a body that does not end), or "late" (the answer comes in pieces, too slowly)."""

    def __init__(self, script=(), default=200, certificate=None):
        self.script, self.default = list(script), default
        self.requests, self.lock, self.closing = [], threading.Lock(), threading.Event()
        listener = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                listener.answer(self, Request(self.path, dict(self.headers), body, time.time()))

            def log_message(self, *arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *arguments: None
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        self.url = "%s://127.0.0.1:%d/hook" % ("https" if certificate else "http", self.port)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def answer(self, handler, request):
        with self.lock:
            self.requests.append(request)
            step = self.script.pop(0) if self.script else self.default
        status, headers = step if isinstance(step, tuple) else (step, {})
        if step == "reset":
            handler.connection.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
            handler.close_connection = True
            handler.connection.close()
            return
        if step == "hang":
            self.closing.wait(120)
            handler.close_connection = True
            return
        if step == "slow":
            self.closing.wait(2)
            status = 200
        if step in ("flood", "late"):
            status, headers = 200, {"Content-Length": str(1 << 30)}
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        if "Content-Length" not in headers:
            handler.send_header("Content-Length", "0")
        handler.end_headers()
        while step in ("flood", "late") and not self.closing.is_set():
            handler.wfile.write(b"x" * (65536 if step == "flood" else 1))
            if step == "late":
                time.sleep(0.2)

    def bodies(self):
        with self.lock:
            return [json.loads(r.body) for r in self.requests]

    def told(self):
        """What was told, each thing once: after a kill, or an answer that came too late, it comes again with its key."""
        return list({b["key"]: b["tells"] for b in self.bodies()}.values())

    def close(self):
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()


class DeliveryCase(DaemonCase):
    flags = FAST

    def listener(self, *script, **options):
        listener = Listener(script, **options)
        self.addCleanup(listener.close)
        return listener

    def receiver(self, name, status=201, **fields):
        return self.ok(self.daemon.put("/v1/receivers/" + name, fields), status)

    def hook(self, name, listener, **fields):
        return self.receiver(name, type="webhook", url=listener.url, **fields)

    def rule(self, name="mine", **fields):
        rule = dict({"metric": "loss", "comparison": ">", "threshold": 5, "severity": "warning"}, **fields)
        return self.daemon.put("/v1/rules/" + name, rule)

    def fire(self, run="r", step=0):
        answer = self.ok(self.daemon.push_json(run, {"step": step, "loss": 9}))
        return [a["id"] for a in answer["alerts"] if a["rule"] == "mine"][0]

    def resolve(self, run="r", step=1):
        self.ok(self.daemon.push_json(run, {"step": step, "loss": 1}))

    def deliveries(self, alert=None, query=""):
        path = "/v1/alerts/%d/deliveries" % alert if alert else "/v1/deliveries"
        return self.ok(self.daemon.get(path + query))["deliveries"]

    def settled(self, alert, count=1):
        """The deliveries of an alert, once `count` of them are over."""
        def look():
            rows = self.deliveries(alert)
            return rows if sum(r["state"] in ("delivered", "failed") for r in rows) >= count else None
        return self.eventually(look)
