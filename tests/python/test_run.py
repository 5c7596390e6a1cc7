"""Run: pushes and reads of any framework, their answers and errors."""

import subprocess
import sys
import unittest

from fake import ROOT, Daemon, free_port
import lyapd

STALE = {"type": "/problems/stale-attempt", "title": "Conflict", "status": 409,
         "detail": "attempt 1 is over", "instance": "/v1/runs/r/snapshots"}


class Runs(unittest.TestCase):
    def setUp(self):
        self.daemon = Daemon()
        self.addCleanup(self.daemon.close)

    def run_of(self, **options):
        run = lyapd.Run(self.daemon.url, "r", **options)
        self.addCleanup(run.close)
        return run

    def test_declares_and_pushes(self):
        run = self.run_of(optimizer={"type": "sgd", "lr": 0.1}, tensors={"w": [2]},
                          labels={"team": "vision"}, data="full-batch")
        self.assertEqual(self.daemon.puts[0].json(), {
            "optimizer": {"type": "sgd", "lr": 0.1}, "tensors": [{"name": "w", "shape": [2]}],
            "labels": {"team": "vision"}, "data": "full-batch"})
        reply = run.push(3, {"w": [1.0, 2.0]}, {"w": [3.0, 4.0]}, loss=0.5, lr=0.1,
                         exp_avg={"w": [0.0, 0.0]}, batch_id="b7", labels={"note": "hi"})
        metadata, tensors, names = self.daemon.pushes[0].parse()
        self.assertEqual(metadata, {"step": "3", "loss": "0.5", "lr": "0.1", "batch_id": "b7",
                                    "x-note": "hi"})
        self.assertEqual(names, ["param/w", "grad/w", "exp_avg/w"])
        self.assertEqual(reply.score, 0.25)
        self.assertEqual(reply.state, "healthy")
        self.assertEqual(reply.action, {"kind": "continue"})
        self.assertNotEqual(reply.value("loss"), reply.value("loss"))  # NaN stays NaN
        self.assertIsNone(reply.value("sharpness"))
        self.assertEqual(reply.reason("sharpness"), "no-probe")

    def test_scalars_go_as_json(self):
        self.run_of().push(4, loss=float("nan"), grad_norm=2.0)
        self.assertEqual(self.daemon.pushes[0].json(), {"step": 4, "loss": "NaN", "grad_norm": 2.0})

    def test_an_attempt_goes_with_every_push(self):
        run = self.run_of(new_attempt=True, attempt_key="life-2")
        self.assertEqual(run.attempt, 1)
        run.push(0, {"w": [1.0]})
        self.assertEqual(self.daemon.pushes[0].query["attempt"], "1")

    def test_a_refusal_carries_the_problem(self):
        self.daemon.answer = lambda request: (409, STALE)
        with self.assertRaises(lyapd.Error) as caught:
            self.run_of().push(1, {"w": [1.0]})
        error = caught.exception
        self.assertEqual((error.status, error.code, error.title), (409, "stale-attempt",
                                                                   "Conflict"))
        self.assertIn("attempt 1 is over", str(error))
        self.assertEqual(len(self.daemon.pushes), 1)

    def test_busy_daemon_is_asked_again(self):
        left = [(503, {"title": "queue full"}, {"Retry-After": "0"}), "cut"]
        self.daemon.answer = lambda request: left.pop() if left else None
        self.assertEqual(self.run_of().push(1, {"w": [1.0]})["status"], "accepted")
        self.assertEqual(len(self.daemon.pushes), 3)

    def test_no_daemon(self):
        run = lyapd.Run("http://127.0.0.1:%d" % free_port(), "r", retries=0)
        with self.assertRaises(lyapd.Unreachable):
            run.push(1, {"w": [1.0]})

    def test_a_silent_daemon_is_given_up(self):
        self.daemon.answer = lambda request: "hang"
        with self.assertRaises(lyapd.Unreachable):
            self.run_of(timeout=0.2, retries=0).push(1, {"w": [1.0]})

    def test_a_connection_that_went_stale_is_renewed(self):
        run = self.run_of(retries=0)
        run.push(1, {"w": [1.0]})
        run._http._connection.sock.close()
        run.push(2, {"w": [1.0]})
        self.assertEqual([request.step for request in self.daemon.pushes], [1, 2])

    def test_series_and_lists(self):
        def answer(request):
            if request.path == "/v1/runs/r/profile":
                self.assertEqual(request.query, {"metric": "loss", "points": "2"})
                return 200, {"step": [1, 2], "series": {"loss": [None, "Infinity"]}}
            if request.path == "/v1/alerts":
                return 200, ({"alerts": [{"id": 2}], "cursor": "b"} if request.query.get("cursor")
                             == "a" else {"alerts": [], "cursor": "b"} if "cursor" in request.query
                             else {"alerts": [{"id": 1}], "cursor": "a"})
            return 200, {"metrics": {"loss": {"value": 1.0}}}
        self.daemon.answer = answer
        run = self.run_of()
        self.assertEqual(run.profile("loss", points=2)["series"]["loss"], [None, float("inf")])
        self.assertEqual([alert["id"] for alert in run.alerts(state="firing")], [1, 2])
        self.assertEqual(run.latest().value("loss"), 1.0)

    def test_token_and_usage_errors(self):
        self.run_of(token="secret").push(0, loss=1.0)
        self.assertEqual(self.daemon.pushes[0].headers["Authorization"], "Bearer secret")
        for options in ({"url": "localhost:9470", "name": "r"}, {"url": self.daemon.url},
                        {"url": self.daemon.url, "name": "r", "timeout": 0}):
            with self.assertRaises(ValueError):
                lyapd.Run(**options)
        with self.assertRaises(TypeError):
            self.run_of().push(0, {"w": [1.0]}, los=1.0)

    def test_needs_the_standard_library_only(self):
        code = ("import sys; sys.path.insert(0, %r); sys.modules['numpy'] = None; "
                "sys.modules['torch'] = None; import lyapd; "
                "print(lyapd.Run(%r, 'r').push(9, {'w': [[1, 2]]}, {'w': [[0, 1]]})['status'])"
                % (ROOT + "/clients/python", self.daemon.url))
        output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                                timeout=60, check=True)
        self.assertEqual(output.stdout.strip(), "accepted")


if __name__ == "__main__":
    unittest.main()
