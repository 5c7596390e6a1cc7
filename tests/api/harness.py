"""The fake daemon as a process, and HTTP spoken by hand: standard library only."""
import http.client
import json
import os
import socket
import struct
import subprocess
import tempfile
import unittest

BUILD = os.environ.get("LYAP_BUILD_DIR", "build/dev")
PROGRAM = os.path.join(BUILD, "bin", "api_fake_server")
TIMEOUT_S = 30
JSON = {"Content-Type": "application/json"}
NDJSON = {"Content-Type": "application/x-ndjson"}
TENSORS = {"Content-Type": "application/vnd.safetensors"}


class Server:
    """Runs until close(); `arguments` are those of server.c."""

    def __init__(self, *arguments):
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [PROGRAM, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self.errors, text=True,
        )
        self.first_line = self.process.stdout.readline().strip()
        words = self.first_line.split()
        self.port = int(words[1]) if words and words[0] == "port" else None

    def reload(self):
        self.process.stdin.write("reload\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def stop(self):
        """Asks it to stop, without waiting."""
        self.process.stdin.write("stop\n")
        self.process.stdin.flush()

    def close(self):
        """The rest of its output; raises when it did not end cleanly (a sanitizer's complaint)."""
        try:
            output, _ = self.process.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        expected = 0 if self.port else 2
        with self.errors:
            self.errors.seek(0)
            errors = self.errors.read()
        if self.process.returncode != expected or errors:
            raise AssertionError(f"server ended with {self.process.returncode}: {errors[-4000:]}")
        return output


class Reply:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)

    def lines(self):
        return [json.loads(line) for line in self.body.decode().splitlines()]


class Case(unittest.TestCase):
    """One server for the tests of a class."""

    arguments = ()

    @classmethod
    def setUpClass(cls):
        cls.server = Server(*cls.arguments)

    @classmethod
    def tearDownClass(cls):
        cls.server.close()

    def http(self, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=TIMEOUT_S)
        try:
            connection.request(method, path, body, headers or {})
            reply = connection.getresponse()
            return Reply(reply.status, reply.headers, reply.read())
        finally:
            connection.close()

    def get(self, path, **headers):
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.http("GET", path, headers=fields)

    def push(self, run, **fields):
        return self.http("POST", f"/v1/runs/{run}/snapshots", json.dumps(fields), JSON)

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.server.port), timeout=TIMEOUT_S)

    def problem(self, reply, status, slug, *words):
        """A problem document whose detail holds the words."""
        self.assertEqual(reply.status, status, reply.body)
        self.assertEqual(reply.headers["Content-Type"], "application/problem+json")
        document = reply.json()
        self.assertEqual(document["type"], f"urn:lyapd:problem:{slug}")
        self.assertEqual(document["status"], status)
        self.assertTrue(document["title"])
        for word in words:
            self.assertIn(word, document["detail"])
        return document

    def counters(self):
        return {k: int(v) for k, v in
                (line.split() for line in self.get("/metrics").body.decode().splitlines())}


def read_reply(stream, is_head=False):
    """One reply from a binary file over a socket; None at its end."""
    line = stream.readline()
    if not line:
        return None
    status = int(line.split()[1])
    headers = http.client.parse_headers(stream)
    if status == 100:
        return Reply(status, headers, b"")
    body = b""
    if is_head or status in (204, 304):
        pass
    elif headers.get("Transfer-Encoding") == "chunked":
        while size := int(stream.readline(), 16):
            body += stream.read(size)
            stream.readline()
        stream.readline()
    else:
        body = stream.read(int(headers["Content-Length"]))
    return Reply(status, headers, body)


def head(method, path, **headers):
    """Request line and headers as bytes."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines + ["", ""]).encode()


def safetensors(metadata, **tensors):
    """A file of F32 vectors; underscores of the names become slashes."""
    header, data = {"__metadata__": metadata}, b""
    for name, values in tensors.items():
        content = struct.pack(f"<{len(values)}f", *values)
        header[name.replace("_", "/", 1)] = {
            "dtype": "F32", "shape": [len(values)], "data_offsets": [len(data), len(data) + len(content)],
        }
        data += content
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def reset(connection):
    """Closes with a reset instead of an end, as a process that died does."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
