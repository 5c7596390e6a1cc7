"""Order, retries, attempts: the promises of docs/api.md to a client that is restarted, slow or forgetful."""
import json
import threading
import unittest

from blackbox import DaemonCase, Quadratic, safetensors
from test_push import values


class Order(DaemonCase):
    def test_a_repeated_step_answers_with_the_first_answer(self):
        q = Quadratic()
        answers = [self.ok(self.daemon.push_json("d", q.advance().snapshot())) for _ in range(5)]
        wrong = q.snapshot()
        wrong["loss"] = 123.0
        for step in (5, 2):
            again = self.ok(self.daemon.push_json("d", dict(wrong, step=step)))
            self.assertEqual(again["status"], "duplicate")
            self.assertEqual(again["step"], step)
            self.assertEqual(values(again), values(answers[step - 1]))
        self.assertEqual(self.ok(self.daemon.get("/v1/runs/d"))["last_step"], 5)

    def test_a_step_that_was_never_pushed_says_how_to_open_an_attempt(self):
        q = Quadratic().advance(10)
        self.ok(self.daemon.push_json("d", q.snapshot()))
        detail = self.refused(
            self.daemon.push_json("d", dict(q.snapshot(), step=4)), 409, "step-not-above-last"
        )
        self.assertIn("attempt_key", detail)

    def test_gaps_are_marked(self):
        q = Quadratic()
        self.ok(self.daemon.push_json("g", q.snapshot()))
        q.advance(3)
        answer = self.ok(self.daemon.push_json("g", q.snapshot()))
        self.assertIsNotNone(values(answer)["update_norm"])
        events = self.ok(self.daemon.get("/v1/runs/g/events"))["events"]
        self.assertIn("step-gap", [e["kind"] for e in events])

    def test_tensors_are_fixed_within_an_attempt(self):
        q = Quadratic()
        self.ok(self.daemon.push_json("t", q.snapshot()))
        other = q.advance().snapshot()
        other["tensors"]["param/third"] = other["tensors"].pop("param/second")
        other["tensors"]["grad/third"] = other["tensors"].pop("grad/second")
        detail = self.refused(self.daemon.push_json("t", other), 409, "tensor-set-changed")
        self.assertRegex(detail, "second|third")
        self.ok(self.daemon.put("/v1/runs/t", {"attempt": "new", "attempt_key": "k"}))
        self.ok(self.daemon.push_json("t", other))  # a new attempt may hold other tensors
        tensors = self.ok(self.daemon.get("/v1/runs/t/tensors"))["tensors"]
        self.assertEqual(sorted(t["tensor"] for t in tensors), ["first", "third"])

    def test_a_first_push_that_broke_off_fixes_nothing(self):
        q = Quadratic()
        body = safetensors({"param/wrong": ([2], [1, 2])}, {"step": 0})
        with self.daemon.socket() as sock:
            sock.sendall(
                b"POST /v1/runs/f/snapshots HTTP/1.1\r\nHost: localhost\r\n"
                b"Content-Type: application/vnd.safetensors\r\nContent-Length: %d\r\n\r\n" % len(body)
                + body[:-4]
            )
            self.eventually(lambda: b"lyapd_queue_depth 1" in self.daemon.get("/metrics").body)
        self.eventually(
            lambda: b"lyapd_uploads_aborted_total 1" in self.daemon.get("/metrics").body
        )
        self.ok(self.daemon.push_json("f", q.snapshot()))


class Attempts(DaemonCase):
    def test_an_attempt_starts_anew_and_the_key_repeats_its_answer(self):
        q = Quadratic()
        for _ in range(5):
            self.ok(self.daemon.push_json("a", q.advance().snapshot()))
        opened = self.ok(self.daemon.put("/v1/runs/a", {"attempt": "new", "attempt_key": "node-7"}))
        self.assertEqual(opened["attempt"], 2)
        again = self.ok(self.daemon.put("/v1/runs/a", {"attempt": "new", "attempt_key": "node-7"}))
        self.assertEqual(again["attempt"], 2)
        stale = dict(q.advance().snapshot(), attempt=1)
        self.refused(self.daemon.push_json("a", stale), 409, "stale-attempt")
        future = dict(q.snapshot(), attempt=3)
        self.refused(self.daemon.push_json("a", future), 409, "stale-attempt")
        answer = self.ok(self.daemon.push_json("a", dict(q.snapshot(), step=2)))
        self.assertEqual((answer["attempt"], answer["status"]), (2, "accepted"))
        self.assertEqual(answer["metrics"]["update_norm"]["reason"], "no-previous-snapshot")
        listed = self.ok(self.daemon.get("/v1/runs/a/attempts"))["attempts"]
        self.assertEqual(sorted(a["attempt"] for a in listed), [1, 2])
        first = self.ok(self.daemon.get("/v1/runs/a/profile?metric=loss&attempt=1"))
        self.assertEqual(first["step"], [1, 2, 3, 4, 5])
        self.assertEqual(self.ok(self.daemon.get("/v1/runs/a/profile?metric=loss"))["step"], [2])

    def test_a_new_attempt_takes_the_retention_that_was_declared_since(self):
        q = Quadratic()
        self.ok(self.daemon.put("/v1/runs/a", {"retention": "sketch"}), 201)
        self.ok(self.daemon.push_json("a", q.snapshot()))
        again = {"retention": "exact", "attempt": "new", "attempt_key": "k"}
        self.assertEqual(self.ok(self.daemon.put("/v1/runs/a", again))["retention"], "sketch")
        self.ok(self.daemon.push_json("a", q.snapshot()))
        self.assertEqual(self.ok(self.daemon.get("/v1/runs/a"))["retention"], "exact")

    def test_alerts_end_with_the_attempt(self):
        q = Quadratic()
        self.ok(self.daemon.push_json("a", dict(q.snapshot(), loss="NaN")))
        self.ok(self.daemon.put("/v1/runs/a", {"attempt": "new", "attempt_key": "k"}))
        alerts = self.ok(self.daemon.get("/v1/alerts?run=a"))["alerts"]
        self.assertEqual([a["state"] for a in alerts], ["resolved"])
        self.assertIn("attempt-ended", alerts[0]["summary"])
        answer = self.ok(self.daemon.push_json("a", q.advance().snapshot()))
        self.assertEqual(answer["alerts"], [])

    def test_the_key_survives_a_restart(self):
        self.ok(self.daemon.push_json("a", Quadratic().snapshot()))
        for _ in range(2):
            self.assertEqual(
                self.ok(self.daemon.put("/v1/runs/a", {"attempt": "new", "attempt_key": "k"}))["attempt"], 2
            )
            self.daemon.kill()
            self.daemon.start()

    def test_an_upload_of_the_old_attempt_is_stale(self):
        q = Quadratic()
        self.ok(self.daemon.push_json("a", q.snapshot()))
        body = safetensors(q.advance().tensors(), q.metadata())
        with self.daemon.socket() as sock:
            sock.sendall(
                b"POST /v1/runs/a/snapshots HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                b"Content-Type: application/vnd.safetensors\r\nContent-Length: %d\r\n\r\n" % len(body)
                + body[:-8]
            )
            self.eventually(lambda: b"lyapd_queue_depth 1" in self.daemon.get("/metrics").body)
            self.ok(self.daemon.put("/v1/runs/a", {"attempt": "new", "attempt_key": "k"}))
            sock.sendall(body[-8:])
            answer = b"".join(iter(lambda: sock.recv(65536), b""))
        self.assertIn(b"409", answer.split(b"\r\n")[0])
        self.assertIn(b"stale-attempt", answer)


class Uploads(DaemonCase):
    """One upload per run and rank."""

    def begin(self, body, keep):
        sock = self.daemon.socket()
        self.addCleanup(sock.close)
        sock.sendall(
            b"POST /v1/runs/u/snapshots HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            b"Content-Type: application/vnd.safetensors\r\nContent-Length: %d\r\n\r\n" % len(body)
            + body[:-keep]
        )
        self.eventually(lambda: b"lyapd_queue_depth 1" in self.daemon.get("/metrics").body)
        return sock

    def test_another_step_waits_and_the_same_step_replaces(self):
        q = Quadratic()
        body = safetensors(q.tensors(), q.metadata())
        sock = self.begin(body, 8)
        busy = self.daemon.push_json("u", dict(q.snapshot(), step=1))
        self.refused(busy, 503, "upload-in-progress")
        self.assertIn("retry-after", busy.headers)
        self.ok(self.daemon.push_tensors("u", q.tensors(), q.metadata()))
        sock.sendall(body[-8:])
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
        self.assertIn(b"upload-replaced", answer)
        self.assertEqual(self.ok(self.daemon.get("/v1/runs/u"))["last_step"], 0)
        self.eventually(lambda: b"lyapd_queue_depth 0" in self.daemon.get("/metrics").body)

    def test_many_clients_at_once_lose_nothing(self):
        failures = []

        def push(run):
            q = Quadratic()
            for _ in range(30):
                reply = self.daemon.push_json(run, q.advance().snapshot(), Prefer="return=minimal")
                if reply.status != 200:
                    failures.append(reply)

        threads = [threading.Thread(target=push, args=("run-%d" % i,)) for i in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(failures, [])
        for i in range(8):
            series = self.ok(self.daemon.get("/v1/runs/run-%d/profile?metric=update_norm" % i))
            self.assertEqual(series["step"], list(range(1, 31)))
            self.assertNotIn(None, series["series"]["update_norm"][1:])


if __name__ == "__main__":
    unittest.main()
