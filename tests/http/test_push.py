"""Pushes of every form: what is stored, what is answered, what is refused and leaves no trace."""
import json
import math
import socket
import struct
import unittest

from blackbox import DaemonCase, Quadratic, safetensors


def values(reply):
    return {k: v.get("value") for k, v in reply["metrics"].items()}


def unseeded(reply):
    """Without what comes from sketches, whose seed is each run's own."""
    return {k: v for k, v in values(reply).items() if k != "update_cosine"}


class Formats(DaemonCase):
    def test_json_safetensors_and_ndjson_give_the_same_points(self):
        q = [Quadratic() for _ in range(3)]
        for _ in range(6):
            answer = [
                self.ok(self.daemon.push_json("json", q[0].snapshot())),
                self.ok(self.daemon.push_tensors("bin", q[1].tensors(), q[1].metadata())),
                self.daemon.push_ndjson("lines", [q[2].snapshot()])[1][0],
            ]
            self.assertEqual(unseeded(answer[0]), unseeded(answer[1]))
            self.assertEqual(unseeded(answer[0]), unseeded(answer[2]))
            for each in q:
                each.advance()

    def test_known_numbers_of_a_quadratic(self):
        q = Quadratic()
        self.daemon.push_json("q", q.snapshot())
        w, g, loss = list(q.w), q.grad, q.loss
        q.advance()
        got = values(self.ok(self.daemon.push_json("q", q.snapshot())))
        d = [new - old for new, old in zip(q.w, w)]
        norm = lambda x: math.sqrt(sum(v * v for v in x))
        self.close_to(got["loss"], q.loss)
        self.close_to(got["param_norm"], norm(q.w))
        self.close_to(got["grad_norm"], norm(q.grad))
        self.close_to(got["update_norm"], norm(d))
        self.close_to(got["update_ratio"], norm(d) / norm(w))
        dg = [new - old for new, old in zip(q.grad, g)]
        self.close_to(
            got["curvature_along_step"], sum(a * b for a, b in zip(dg, d)) / norm(d) ** 2, 1e-9
        )

    def test_one_ndjson_body_is_one_series(self):
        """Every line is compared with the line before, although nothing was committed between."""
        q, alone = Quadratic(), Quadratic()
        lines = [q.advance().snapshot() for _ in range(40)]
        reply, answers = self.daemon.push_ndjson("many", lines)
        self.assertEqual(reply.status, 200)
        self.assertEqual([a["status"] for a in answers], ["accepted"] * 40)
        for i in range(40):
            single = self.ok(self.daemon.push_json("single", alone.advance().snapshot()))
            self.assertEqual(unseeded(single), unseeded(answers[i]))
        # and the line after the body is compared with its last
        a = self.ok(self.daemon.push_json("many", q.advance().snapshot()))
        b = self.ok(self.daemon.push_json("single", alone.advance().snapshot()))
        self.assertEqual(unseeded(a), unseeded(b))
        self.assertIsNotNone(values(a)["update_norm"])

    def test_scalars_alone_are_worth_a_point(self):
        answer = self.ok(self.daemon.push_json("s", {"step": 1, "loss": 2.5, "lr": 0.1, "grad_norm": 3}))
        self.assertEqual(values(answer)["loss"], 2.5)
        self.assertEqual(values(answer)["grad_norm"], 3)
        self.assertEqual(answer["metrics"]["update_norm"]["reason"], "no-tensors")
        q = Quadratic().advance(2)
        answer = self.ok(self.daemon.push_json("s", q.snapshot()))  # tensors come later
        self.assertIsNotNone(values(answer)["param_norm"])

    def test_minimal_reply_leaves_the_point_out(self):
        answer = self.ok(self.daemon.push_json("m", Quadratic().snapshot(), Prefer="return=minimal"))
        self.assertEqual(answer["status"], "accepted")
        self.assertNotIn("metrics", answer)
        self.assertIn("action", answer)

    def test_labels_are_kept_with_the_point(self):
        q = Quadratic()
        self.ok(self.daemon.push_tensors("l", q.tensors(), q.metadata(**{"x-note": "a \"b\""})))
        latest = self.ok(self.daemon.get("/v1/runs/l/profile/latest"))
        self.assertEqual(latest["labels"], {"x-note": 'a "b"'})

    def test_query_string_may_repeat_but_not_contradict(self):
        q = Quadratic()
        self.ok(self.daemon.push_tensors("c", q.tensors(), q.metadata(), "?step=0"))
        q.advance()
        detail = self.refused(
            self.daemon.push_tensors("c", q.tensors(), q.metadata(), "?step=7"), 400, "contradiction"
        )
        self.assertIn("step", detail)


class NonFinite(DaemonCase):
    def test_nan_and_infinity_are_named_and_never_enter_a_window(self):
        q, clean = Quadratic(), Quadratic()
        for step in range(12):
            if step == 6:
                bad = q.snapshot()
                bad["tensors"]["grad/second"]["data"] = ["NaN", "-Infinity"]
                bad["loss"] = "NaN"
                answer = self.ok(self.daemon.push_json("n", bad))
                self.assertEqual(answer["metrics"]["nonfinite_grad"]["value"], 2)
                self.assertEqual(answer["metrics"]["loss"]["value"], "NaN")
                self.assertEqual((answer["action"]["kind"], answer["action"]["step"]), ("skip", 6))
                self.assertEqual(answer["state"], "unstable")
                alert = [a for a in answer["alerts"] if a["rule"] == "nonfinite"][0]
                self.assertEqual((alert["state"], alert["severity"]), ("firing", "critical"))
            else:
                answer = self.ok(self.daemon.push_json("n", q.snapshot()))
            q.advance()
        for value in values(answer).values():
            self.assertNotEqual(value, "NaN")
        alerts = self.ok(self.daemon.get("/v1/alerts?run=n"))["alerts"]
        self.assertEqual([a["rule"] for a in alerts], ["nonfinite"])
        self.assertEqual(alerts[0]["state"], "resolved")
        self.assertEqual(alerts[0]["firing_step"], 6)
        self.assertIn("second", alerts[0]["summary"])
        self.assertEqual(alerts[0]["evidence"]["tensors"], [{"name": "second", "param": 0, "grad": 2}])
        kinds = [e["kind"] for e in self.ok(self.daemon.get("/v1/runs/n/events"))["events"]]
        self.assertIn("nonfinite", kinds)
        series = self.ok(self.daemon.get("/v1/runs/n/profile?metric=loss"))["series"]["loss"]
        self.assertEqual(series[6], "NaN")

    def test_a_skipped_step_is_no_alarm(self):
        q = Quadratic()
        self.ok(self.daemon.push_json("s", q.snapshot()))
        q.step += 1
        bad = dict(q.snapshot(), skipped=True)
        bad["tensors"]["grad/second"]["data"] = ["Infinity", "Infinity"]
        answer = self.ok(self.daemon.push_json("s", bad))
        self.assertEqual(answer["alerts"], [])
        q.step += 1
        q.w = [w * 0.9 for w in q.w]
        answer = self.ok(self.daemon.push_json("s", q.snapshot()))
        self.assertIsNotNone(answer["metrics"]["update_norm"]["value"])


class NotApplied(DaemonCase):
    """A job that did not apply an update says so with the next push (`updates` 0)."""

    def omegas(self, run, **more):
        """Heavy ball on w^2/2 whose update of step 5 was left out."""
        self.ok(self.daemon.put("/v1/runs/" + run, {"optimizer": {
            "type": "sgd", "lr": 0.1, "momentum": 0.9}}), 201)
        w, velocity, found = [1.0, -2.0], [0.0, 0.0], {}
        for step in range(12):
            body = {"step": step, "loss": 0.5 * sum(x * x for x in w), "lr": 0.1, "tensors": {
                "%s/w" % role: {"shape": [2], "data": list(w)} for role in ("param", "grad")}}
            if step == 6:
                body.update(more)
            found[step] = self.ok(self.daemon.push_json(run, body))["metrics"]["update_identity"]
            if step != 5:
                velocity = [0.9 * v + x for v, x in zip(velocity, w)]
                w = [x - 0.1 * v for x, v in zip(w, velocity)]
        return found

    def test_it_is_no_mismatch(self):
        said, silent = self.omegas("said", updates=0), self.omegas("silent")
        self.assertGreater(silent[7]["value"], 0.05)
        self.assertEqual(said[6]["reason"], "step-gap")
        known = [m["value"] for m in said.values() if m["value"] is not None]
        self.assertGreaterEqual(len(known), 8)
        self.assertLess(max(known), 1e-9)

    def events_only(self, run, events, *, updates, left_out=()):
        """Heavy ball on w^2/2. The steps of `events` are pushed with these fields over theirs and are kept
        as events; `updates` says what was made before a step, the updates of `left_out` were not."""
        self.ok(self.daemon.put("/v1/runs/" + run, {"optimizer": {
            "type": "sgd", "lr": 0.1, "momentum": 0.9}}), 201)
        w, velocity, found, kept = [1.0, -2.0], [0.0, 0.0], {}, None
        for step in range(12):
            body = {"step": step, "loss": 0.5 * sum(x * x for x in w), "lr": 0.1, "tensors": {
                "%s/w" % role: {"shape": [2], "data": list(w)} for role in ("param", "grad")}}
            body.update(events.get(step, {}))
            if step in updates:
                body["updates"] = updates[step]
            answer = self.ok(self.daemon.push_json(run, body))
            self.assertEqual(answer.get("event_only", False), step in events)
            if step not in events:
                found[step] = answer["metrics"]
                if kept:
                    self.assertAlmostEqual(answer["metrics"]["update_norm"]["value"],
                                           math.dist(w, kept), 12)
                kept = w
            if step not in left_out:
                velocity = [0.9 * v + x for v, x in zip(velocity, w)]
                w = [x - 0.1 * v for x, v in zip(w, velocity)]
        return found

    def single_after(self, found, step):
        self.assertIsNotNone(found[step]["update_identity"]["value"], found[step])
        known = [m["update_identity"]["value"] for m in found.values()]
        self.assertLess(max(x for x in known if x is not None), 1e-9)

    def test_a_count_goes_on_from_the_snapshot_before_even_where_that_is_an_event(self):
        """From 5 over the event of 6 to 7: one update in all, or two."""
        for name, bad in ("skipped", {"skipped": True}), ("bad", {"loss": "NaN"}):
            found = self.events_only(name, {6: bad}, updates={7: 0}, left_out=(6,))
            self.single_after(found, 7)
            found = self.events_only(name + "-twice", {6: bad, 7: bad}, updates={7: 0, 8: 0},
                                     left_out=(6, 7))
            self.single_after(found, 8)
        found = self.events_only("applied", {6: {"loss": "NaN"}}, updates={6: 1, 7: 1})
        self.assertEqual(found[7]["update_identity"]["reason"], "step-gap")
        self.single_after(found, 9)  # at 8 the momentum is not known: 7 is two updates from 5
        found = self.events_only("before", {6: {"skipped": True}}, updates={6: 0},
                                 left_out=(5, 6))
        self.assertEqual(found[7]["update_norm"]["value"], 0)


class Hostile(DaemonCase):
    """A refused body says why, and leaves nothing behind."""

    def raw(self, body, content_type="application/vnd.safetensors", query=""):
        return self.daemon.request(
            "POST", "/v1/runs/h/snapshots" + query, body, {"Content-Type": content_type}
        )

    def tearDown(self):
        self.assertEqual(self.daemon.get("/v1/runs/h").status, 404)
        q = Quadratic()
        self.ok(self.daemon.push_json("h", q.snapshot()))
        self.assertEqual(self.ok(self.daemon.get("/v1/runs/h"))["last_step"], 0)

    def test_safetensors_violations(self):
        whole = safetensors(Quadratic().tensors(), {"step": 0})
        length = struct.unpack("<Q", whole[:8])[0]
        header = json.loads(whole[8 : 8 + length])

        def body(change, data=whole[8 + length :]):
            changed = json.loads(json.dumps(header))
            change(changed)
            text = json.dumps(changed).encode()
            return struct.pack("<Q", len(text)) + text + data

        def overlap(h):
            h["grad/first"]["data_offsets"] = h["param/first"]["data_offsets"]

        def huge(h):
            h["param/first"]["shape"] = [2**40, 2**40]

        def dtype(h):
            h["param/first"]["dtype"] = "I8"

        def role(h):
            h["parms/first"] = h.pop("param/first")

        def no_step(h):
            h["__metadata__"] = {}

        def unknown(h):
            h["__metadata__"]["stpe"] = "1"

        def rank(h):
            h["param/first"]["shape"] = [1] * 7 + [2, 2]

        bodies = {
            "empty": b"",
            "cut length": whole[:5],
            "cut header": whole[:40],
            "cut data": whole[:-1],
            "more data": whole + b"x",
            "absurd header": struct.pack("<Q", 1 << 62) + b"{}",
            "no json": struct.pack("<Q", 8) + b"not json",
            "overlap": body(overlap),
            "huge": body(huge),
            "dtype": body(dtype),
            "role": body(role),
            "no step": body(no_step),
            "unknown": body(unknown),
            "rank": body(rank),
            "garbage": bytes(range(256)) * 40,
        }
        for name, data in bodies.items():
            reply = self.raw(data)
            self.assertIn(reply.status, (400, 413, 422), (name, reply))
            self.assertTrue(reply.json["detail"], name)

    def test_json_violations(self):
        bad = {
            "nothing": "",
            "cut": '{"step":1,',
            "no object": "[1]",
            "no step": '{"loss":1}',
            "negative": '{"step":-1,"loss":1}',
            "twice": '{"step":1,"step":2}',
            "unknown": '{"step":1,"lsos":1}',
            "shape": '{"step":1,"tensors":{"param/w":{"shape":[3],"data":[1,2]}}}',
            "words": '{"step":1,"tensors":{"param/w":{"shape":[1],"data":["one"]}}}',
            "deep": '{"step":' + "[" * 1000 + "]" * 1000 + "}",
            "no utf-8": b'{"step":1,"batch_id":"\xff"}',
            "rank": '{"step":1,"rank":3,"world":2}',
            "world": '{"step":1,"world":100000}',
        }
        for name, data in bad.items():
            reply = self.raw(data, "application/json")
            self.assertIn(reply.status, (400, 413, 422), (name, reply))

    def test_media_type_and_path(self):
        self.refused(self.raw(b"x", "text/plain"), 415, "unsupported-media-type")
        self.assertEqual(self.daemon.request("POST", "/v1/runs/a%2Fb/snapshots", b"{}").status, 400)
        self.assertEqual(self.daemon.request("PATCH", "/v1/runs/h").status, 405)
        self.assertEqual(self.daemon.get("/v1/nothing").status, 404)

    def test_a_broken_connection_leaves_no_trace(self):
        body = safetensors(Quadratic().tensors(), {"step": 0})
        for cut in (0, 4, 60, len(body) - 3):
            with self.daemon.socket() as sock:
                sock.sendall(
                    b"POST /v1/runs/h/snapshots HTTP/1.1\r\nHost: localhost\r\n"
                    b"Content-Type: application/vnd.safetensors\r\nContent-Length: %d\r\n\r\n" % len(body)
                    + body[:cut]
                )
        self.eventually(lambda: b"lyapd_queue_depth 0" in self.daemon.get("/metrics").body)


class Limits(DaemonCase):
    flags = ("--body_bytes_max=4096",)

    def test_a_body_over_the_limit_is_413_and_names_it(self):
        big = {"param/w": ([1000], [0.0] * 1000), "grad/w": ([1000], [0.0] * 1000)}
        detail = self.refused(self.daemon.push_tensors("b", big, {"step": 0}), 413, "limit-exceeded")
        self.assertIn("4096", detail)


class Ndjson(DaemonCase):
    def test_a_bad_line_fails_alone(self):
        q = Quadratic()
        lines = [q.advance().snapshot() for _ in range(4)]
        lines[1] = {"step": "nonsense"}
        reply, answers = self.daemon.push_ndjson("x", lines)
        self.assertEqual(reply.status, 200)
        self.assertEqual(answers[0]["status"], "accepted")
        self.assertEqual(answers[1]["status"], 400)
        self.assertEqual([a["status"] for a in answers[2:]], ["accepted"] * 2)
        self.assertEqual(self.ok(self.daemon.get("/v1/runs/x/profile?metric=loss"))["step"], [1, 3, 4])

    def test_a_resent_body_is_duplicates(self):
        q = Quadratic()
        lines = [q.advance().snapshot() for _ in range(5)]
        first = self.daemon.push_ndjson("x", lines[:3])[1]
        again = self.daemon.push_ndjson("x", lines)[1]
        self.assertEqual([a["status"] for a in again], ["duplicate"] * 3 + ["accepted"] * 2)
        self.assertEqual([values(a) for a in first], [values(a) for a in again[:3]])
        self.assertIsNotNone(values(again[3])["update_norm"])

    def test_steps_must_rise_within_a_body(self):
        q = Quadratic().advance(5)
        s = q.snapshot()
        answers = self.daemon.push_ndjson("x", [s, s])[1]
        self.assertEqual(answers[0]["status"], "accepted")
        self.assertEqual(answers[1]["status"], 409)


if __name__ == "__main__":
    unittest.main()
