"""Who may talk to the daemon: tokens, scopes, addresses, Host, TLS."""
import hashlib
import os
import shutil
import ssl
import subprocess
import tempfile
import unittest

from harness import JSON, Case, Server, head, read_reply


def line(scopes, token):
    return f"{scopes} {hashlib.sha256(token.encode()).hexdigest()} {token}\n"


class Refused(unittest.TestCase):
    def refused(self, *arguments):
        server = Server(*arguments)
        server.close()
        return server.first_line

    def test_addresses(self):
        for host in ("0.0.0.0", "192.0.2.1", "::"):
            answer = self.refused("--host", host)
            self.assertIn("invalid-value", answer)
            self.assertIn(host, answer)
            self.assertIn("token file", answer)
        for host in ("example.org", "127.0.0.1:80", ""):
            self.assertIn("not a numeric", self.refused("--host", host))

    def test_port_taken(self):
        server = Server()
        answer = self.refused("--port", str(server.port))
        self.assertIn("storage-error", answer)
        self.assertIn(str(server.port), answer)
        server.close()

    def test_files(self):
        self.assertIn("/nonexistent", self.refused("--tokens", "/nonexistent"))
        self.assertIn("/nonexistent", self.refused("--cert", "/nonexistent", "--key", "/nonexistent"))
        self.assertIn("both", self.refused("--cert", __file__))
        self.assertIn("error", self.refused("--cert", __file__, "--key", __file__))


class Loopback(Case):
    def test_host_must_be_a_loopback_name(self):
        for host, status in (("localhost:1", 200), ("127.0.0.1", 200), ("[::1]:80", 200),
                             ("evil.example", 403), ("localhost.evil.example:80", 403)):
            with self.connect() as connection:
                connection.sendall(f"GET /v1/runs HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                self.assertEqual(read_reply(connection.makefile("rb")).status, status, host)

    def test_reload_without_tokens(self):
        self.assertEqual(self.server.reload(), "ok")

    def test_ipv6(self):
        server = Server("--host", "::1")
        server.close()
        self.assertIsNotNone(server.port)


class Tokens(Case):
    @classmethod
    def setUpClass(cls):
        cls.file = tempfile.NamedTemporaryFile("w", suffix=".tokens")
        cls.write(line("read", "r") + line("push", "p") + line("admin", "a") + line("read,push", "rp"))
        cls.arguments = ("--tokens", cls.file.name, "--host", "0.0.0.0")
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        cls.file.close()

    @classmethod
    def write(cls, content):
        cls.file.seek(0)
        cls.file.truncate()
        cls.file.write(content)
        cls.file.flush()

    def status(self, method, path, token, body=None):
        headers = dict(JSON if body else {})
        if token:
            headers["Authorization"] = f"Bearer {token}"
        reply = self.http(method, path, body, headers)
        if reply.status == 401:
            self.assertEqual(reply.headers["WWW-Authenticate"], "Bearer")
        return reply.status

    def test_scopes(self):
        push = ("POST", "/v1/runs/x/snapshots", '{"step":%d}')
        for step, (token, expected) in enumerate([(None, 401), ("wrong", 401), ("r", 403), ("p", 200), ("a", 200),
                                                  ("rp", 200)]):
            self.assertEqual(self.status(push[0], push[1], token, push[2] % step), expected, token)
        for token, expected in ((None, 401), ("r", 200), ("p", 403), ("a", 200), ("rp", 200)):
            for path in ("/v1/runs", "/readyz", "/metrics", "/v1/config"):
                self.assertEqual(self.status("GET", path, token), expected, (token, path))
        for token, expected in ((None, 401), ("r", 403), ("rp", 403), ("a", 404)):
            self.assertEqual(self.status("DELETE", "/v1/runs/nobody", token), expected)
        for path in ("/healthz", "/", "/v1/openapi.json"):
            self.assertEqual(self.status("GET", path, None), 200)

    def test_refused_before_the_body(self):
        with self.connect() as connection:
            connection.sendall(head("POST", "/v1/runs/x/snapshots", Content_Length=10, Content_Type="application/json",
                                    Expect="100-continue"))
            self.assertEqual(read_reply(connection.makefile("rb")).status, 401)

    def test_reload(self):
        self.write(line("read", "fresh"))
        self.assertEqual(self.server.reload(), "ok")
        self.assertEqual(self.status("GET", "/v1/runs", "fresh"), 200)
        self.assertEqual(self.status("GET", "/v1/runs", "r"), 401)
        self.write("nonsense\n")
        self.assertEqual(self.server.reload(), "invalid-value")
        self.assertEqual(self.status("GET", "/v1/runs", "fresh"), 200)
        self.setUpTokens()

    def setUpTokens(self):
        self.write(line("read", "r") + line("push", "p") + line("admin", "a") + line("read,push", "rp"))
        self.assertEqual(self.server.reload(), "ok")


@unittest.skipUnless(shutil.which("openssl"), "openssl makes the certificate")
class Tls(unittest.TestCase):
    def test_requests(self):
        with tempfile.TemporaryDirectory() as folder:
            cert, key = os.path.join(folder, "cert.pem"), os.path.join(folder, "key.pem")
            subprocess.run(
                ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                 "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", cert],
                check=True, capture_output=True,
            )
            server = Server("--cert", cert, "--key", key)
            context = ssl.create_default_context(cafile=cert)
            body = b'{"step":1,"loss":0.5}'
            case = Case()
            case.server = server
            with context.wrap_socket(case.connect(), server_hostname="localhost") as connection:
                stream = connection.makefile("rb")
                connection.sendall(head("POST", "/v1/runs/t/snapshots", Content_Length=len(body),
                                        Content_Type="application/json") + body)
                self.assertEqual(read_reply(stream).json()["status"], "accepted")
                connection.sendall(head("GET", "/v1/runs/t/events?limit=1000"))
                self.assertEqual(len(read_reply(stream).json()["events"]), 600)
            server.close()


if __name__ == "__main__":
    unittest.main()
