"""Requests that get in each other's way: deletion, replacement and other world sizes in mid-upload."""
import json
import threading
import time
import unittest

from blackbox import DaemonCase, Quadratic
from test_ranks import DECLARED, shard_of


RANK_DEADLINE_S = 4  # that a slow machine is within, too


class Races(DaemonCase):
    flags = ("--rank_deadline_s=%d" % RANK_DEADLINE_S,)

    def head(self, run, content_type, length):
        return (
            "POST /v1/runs/%s/snapshots HTTP/1.1\r\nHost: localhost\r\nContent-Type: %s\r\n"
            "Content-Length: %d\r\nConnection: close\r\n\r\n" % (run, content_type, length)
        ).encode()

    def test_a_run_is_deleted_under_its_pushes(self):
        """A push and the deletion meet in one commit."""
        end, unexpected = time.monotonic() + 3, []

        def loop(action, allowed):
            while time.monotonic() < end and not unexpected:
                try:
                    reply = action()
                except OSError as error:
                    unexpected.append(error)
                    return
                if reply.status not in allowed:
                    unexpected.append(reply)

        def pusher():
            q = Quadratic()

            def push():
                reply = self.daemon.push_tensors("victim", q.tensors(), q.metadata())
                q.advance()
                if reply.status == 409:
                    q.step = 0
                return reply

            return push

        delete = lambda: self.daemon.request("DELETE", "/v1/runs/victim")
        put = lambda: self.daemon.put("/v1/runs/victim", {"labels": {"a": "b"}})
        work = [(pusher(), (200, 404, 409, 503)) for _ in range(6)]
        work += [(delete, (204, 404)), (delete, (204, 404)), (put, (200, 201, 404))]
        threads = [threading.Thread(target=loop, args=w) for w in work]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(unexpected, [])
        delete()
        self.ok(self.daemon.push_tensors("victim", Quadratic().tensors(), Quadratic().metadata()))

    def test_one_rank_alone_does_not_strand_the_steps_of_several(self):
        q = Quadratic()
        self.ok(self.daemon.put("/v1/runs/w", DECLARED), 201)
        q.advance(5)
        waiting = self.ok(self.daemon.push_tensors("w", *shard_of(q, 0, 2)), 202)
        self.assertEqual((waiting["attempt"], waiting["step"]), (1, 5))
        detail = self.refused(
            self.daemon.push_tensors("w", q.tensors(), q.metadata()), 400, "contradiction"
        )
        self.assertIn("world", detail)
        q.advance()
        self.ok(self.daemon.push_tensors("w", q.tensors(), q.metadata()))
        time.sleep(RANK_DEADLINE_S + 1)  # past the deadline of step 5
        self.assertNotIn("commit-failed", self.daemon.log())
        q.advance()
        self.ok(self.daemon.push_tensors("w", q.tensors(), q.metadata()))
        steps = self.daemon.get("/v1/runs/w/profile?metric=loss").json["step"]
        self.assertEqual(steps, [5, 6, 7])

    def test_an_attempt_opened_right_behind_a_push_starts_without_predecessor(self):
        """The push and the new attempt meet in one commit: the engine is busy with other lines."""
        lines = [{"step": k, "loss": 1.0} for k in range(4000)]
        for i in range(6):
            q, run, answers = Quadratic(), "meet%d" % i, []
            push = lambda document: answers.append(self.daemon.push_json(run, document))
            self.ok(self.daemon.push_json(run, q.snapshot()))
            work = [
                (0.0, self.daemon.push_ndjson, "busy%d" % i, lines),
                (0.05 * (i + 1), push, q.advance().snapshot()),
                (0.01, self.daemon.put, "/v1/runs/" + run, {"attempt": "new", "attempt_key": "k"}),
            ]
            threads = []
            for delay, action, *arguments in work:
                time.sleep(delay)
                threads.append(threading.Thread(target=action, args=arguments))
                threads[-1].start()
            for thread in threads:
                thread.join()
            if answers[0].status != 200 or answers[0].json["attempt"] != 1:
                continue  # the attempt was opened before the push was admitted, or during it
            first = self.ok(self.daemon.push_json(run, q.advance(3).snapshot()))
            self.assertEqual(first["attempt"], 2)
            self.assertEqual(first["metrics"]["update_norm"]["reason"], "no-previous-snapshot")

    def test_a_step_closed_in_an_attempt_says_nothing_of_the_next(self):
        q = Quadratic()
        self.ok(self.daemon.put("/v1/runs/c", DECLARED), 201)
        self.ok(self.daemon.push_tensors("c", *shard_of(q, 0, 2)), 202)
        self.eventually(lambda: self.daemon.get("/v1/runs/c").json["last_step"] == 0)
        self.refused(self.daemon.push_tensors("c", *shard_of(q, 1, 2)), 409, "step-closed")
        self.ok(self.daemon.put("/v1/runs/c", {"attempt": "new", "attempt_key": "k"}))
        self.ok(self.daemon.push_tensors("c", *shard_of(q, 0, 2)), 202)
        self.ok(self.daemon.push_tensors("c", *shard_of(q, 1, 2)))
        again = self.ok(self.daemon.push_tensors("c", *shard_of(q, 1, 2)))
        self.assertEqual(again["status"], "duplicate")

    def test_a_replaced_line_and_those_behind_it_are_refused(self):
        q = Quadratic()
        first, second = (json.dumps(x).encode() + b"\n" for x in (q.snapshot(), q.advance().snapshot()))
        q = Quadratic()
        with self.daemon.socket() as slow:
            slow.sendall(self.head("r", "application/x-ndjson", len(first + second)) + first)
            self.eventually(lambda: b"lyapd_queue_depth 1" in self.daemon.get("/metrics").body)
            self.ok(self.daemon.push_json("r", q.snapshot()))
            slow.sendall(second)
            answer = b""
            while chunk := slow.recv(65536):
                answer += chunk
        lines = [json.loads(line) for line in answer.split(b"\r\n\r\n", 1)[1].splitlines() if line[:1] == b"{"]
        self.assertEqual([line["status"] for line in lines], [409, 409], answer)
        self.assertTrue(lines[0]["type"].endswith("upload-replaced"), lines)
        self.ok(self.daemon.push_json("r", q.advance().snapshot()))

    def test_a_push_that_loses_its_connection_may_come_again_at_once(self):
        """Cut anywhere, the slot of the rank is free again and no trace is left."""
        q = Quadratic()
        self.ok(self.daemon.push_json("r", q.snapshot()))
        q.advance()
        body = json.dumps(q.snapshot()).encode()
        for cut in (1, len(body) // 2, len(body) - 1, len(body)):
            with self.daemon.socket() as broken:
                broken.sendall(self.head("r", "application/json", len(body)) + body[:cut])
            reply = self.eventually(
                lambda: (r := self.daemon.push_json("r", q.snapshot())).status != 503 and r
            )
            self.ok(reply)
            q.advance()
            body = json.dumps(q.snapshot()).encode()
        steps = self.daemon.get("/v1/runs/r/profile?metric=loss").json["step"]
        self.assertEqual(steps, [0, 1, 2, 3, 4])


if __name__ == "__main__":
    unittest.main()
