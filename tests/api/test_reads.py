"""Routes, reads, rules and alerts over a real socket."""
import csv
import io
import json
import re
import unittest

from harness import JSON, NDJSON, Case, head, read_reply

ARGUMENTS = {"{run}": "gpt", "{rule}": "r", "{id}": "3", "{pack}": "fake", "{receiver}": "ops",
             "{step}": "0"}


def filled(path):
    for name, value in ARGUMENTS.items():
        path = path.replace(name, value)
    return path


class Routes(Case):
    def setUp(self):
        self.push("gpt", step=0, loss=1.0)
        self.http("PUT", "/v1/rules/r", '{"metric":"loss","threshold":1}', JSON)
        self.http("PUT", "/v1/receivers/ops", '{"type":"log"}', JSON)

    def routes(self):
        return self.get("/").json()["routes"]

    def test_every_read_answers_and_head_is_get_without_body(self):
        for route in self.routes():
            if route["method"] != "GET" or route["path"] == "/v1/events":  # does not end
                continue
            path = filled(route["path"])
            reply = self.get(path)
            self.assertEqual(reply.status, 200, path)
            self.assertEqual(reply.headers["X-Content-Type-Options"], "nosniff")
            with self.connect() as connection:
                connection.sendall(head("HEAD", path) + head("GET", "/healthz"))
                stream = connection.makefile("rb")
                answer = read_reply(stream, is_head=True)
                self.assertEqual(answer.status, 200, path)
                self.assertEqual(answer.headers["Content-Type"], reply.headers["Content-Type"])
                self.assertEqual(answer.headers["Content-Length"], reply.headers["Content-Length"])
                self.assertEqual(read_reply(stream).json(), {"status": "ok"})

    def test_other_methods_are_405_with_all_that_the_path_has(self):
        paths = {}
        for route in self.routes():
            paths.setdefault(route["path"], []).append(route["method"])
        for path, methods in paths.items():
            allowed = set(methods) | ({"HEAD"} if "GET" in methods else set())
            for method in {"GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS"} - allowed:
                reply = self.http(method, filled(path))
                self.assertEqual(reply.status, 405, (method, path))
                self.assertEqual({w.strip() for w in reply.headers["Allow"].split(",")}, allowed)

    def test_unknown_paths(self):
        for path in ("/v1", "/v1/", "/v1/runs/", "//", "/v1/runs/a/b", "/v1/runs//profile",
                     "/v1/runs/gpt/profile/latest/x", "/v1/runs/gpt/", "/a/b/c/d/e/f/g/h", "/x?y=z"):
            self.problem(self.get(path), 404, "not-found")

    def test_percent_escapes(self):
        self.assertEqual(self.get("/v1/runs/g%70t").status, 200)
        self.problem(self.get("/v1/runs/a%2Fb"), 400, "invalid-value", "a/b", "128")
        for path in ("/v1/runs/a%", "/v1/runs/a%4", "/v1/runs/a%zz", "/v1/runs/a%00b",
                     "/v1/runs?label=%", "/v1/runs?%0=1"):
            self.problem(self.get(path), 400, "malformed-body", "percent")

    def test_query_is_checked(self):
        self.problem(self.get("/v1/runs?colour=red"), 400, "unknown-field", "colour", "label, state")
        self.problem(self.get("/healthz?x=1"), 400, "unknown-field", "none")
        self.problem(self.get("/v1/runs?limit=1&limit=2"), 400, "contradiction", "limit")
        self.problem(self.get("/v1/runs?state=firing"), 400, "invalid-value", "healthy")
        for limit in ("0", "1001", "-1", "1e3", "", "99999999999999999999", " 5", "5x"):
            path = "/v1/runs?limit=" + limit.replace(" ", "%20")
            self.problem(self.get(path), 400, "invalid-value", "1 to 1000")
        many = "&".join(f"metric=loss{i}" for i in range(129))
        self.problem(self.get("/v1/runs/gpt/profile?" + many), 413, "limit-exceeded", "128")
        self.assertEqual(self.get("/v1/runs?&limit=5&").status, 200)

    def test_instance_is_the_path(self):
        self.assertEqual(self.get("/v1/runs/none?x").json()["instance"], "/v1/runs/none")

    def test_entity_tags(self):
        first = self.get("/v1/runs/gpt")
        tag = first.headers["ETag"]
        self.assertRegex(tag, r'^"[0-9a-f]{32}"$')
        for value in (tag, f'"x", {tag}', f"W/{tag}", "*"):
            reply = self.get("/v1/runs/gpt", If_None_Match=value)
            self.assertEqual((reply.status, reply.body), (304, b""))
            self.assertEqual(reply.headers["ETag"], tag)
        self.assertEqual(self.get("/v1/runs/gpt", If_None_Match='"x"').status, 200)
        self.push("gpt", step=1000, loss=2.0)
        self.assertEqual(self.get("/v1/runs/gpt", If_None_Match=tag).status, 200)

    def test_accept(self):
        for accept in ("*/*", "application/*", "text/html, application/json;q=0.1"):
            self.assertEqual(self.get("/v1/runs", Accept=accept).status, 200)
        for accept in ("text/html", "application/json;q=0", "application/x-ndjson"):
            self.problem(self.get("/v1/runs", Accept=accept), 406, "not-acceptable", "application/json")

    def test_reads_take_no_body(self):
        self.problem(self.http("GET", "/v1/runs", b"x"), 413, "limit-exceeded", "no body")

    def test_ready_and_health(self):
        self.assertEqual(self.get("/readyz").json(), {"status": "ready"})
        self.http("PUT", "/v1/runs/sick", "{}", JSON)
        reply = self.get("/readyz")
        self.problem(reply, 503, "busy", "the store is not writable")
        self.assertEqual(reply.headers["Retry-After"], "1")
        self.assertEqual(self.get("/healthz").json(), {"status": "ok"})
        self.assertEqual(self.http("DELETE", "/v1/runs/sick").status, 204)

    def test_metrics_type(self):
        kind = self.get("/metrics").headers["Content-Type"]
        self.assertEqual(kind, "text/plain; version=0.0.4; charset=utf-8")

    def test_openapi_tells_of_every_route(self):
        document = self.get("/v1/openapi.json").json()
        self.assertEqual(document["openapi"], "3.1.0")
        listed = {(m.upper(), p) for p, item in document["paths"].items() for m in item}
        self.assertEqual(listed, {(r["method"], r["path"]) for r in self.routes()})
        for path, item in document["paths"].items():
            for operation in item.values():
                places = [p["name"] for p in operation["parameters"] if p["in"] == "path"]
                self.assertEqual(places, re.findall(r"{(\w+)}", path))
        runs = document["paths"]["/v1/runs"]["get"]["parameters"]
        self.assertIn("silent", [p for p in runs if p["name"] == "state"][0]["schema"]["enum"])
        push = document["paths"]["/v1/runs/{run}/snapshots"]["post"]
        self.assertIn("application/vnd.safetensors", push["requestBody"]["content"])
        self.assertIn("batch_id", [p["name"] for p in push["parameters"]])
        kinds = document["components"]["schemas"]["problem"]["properties"]["type"]["enum"]
        self.assertIn("urn:lyapd:problem:stale-attempt", kinds)


class Runs(Case):
    def put(self, run, **fields):
        return self.http("PUT", f"/v1/runs/{run}", json.dumps(fields), JSON)

    def test_create_change_delete(self):
        reply = self.put("one", labels={"team": "vision"}, retention="exact")
        self.assertEqual(reply.status, 201)
        body = reply.json()
        self.assertEqual((body["run"], body["attempt"], body["labels"]), ("one", 1, {"team": "vision"}))
        self.assertEqual((body["last_step"], body["sketch_seed"]), (None, str(2**64 - 1)))
        self.assertEqual(body["created"], "2023-11-14T22:13:20Z")
        self.assertEqual(self.put("one").status, 200)
        body = self.get("/v1/runs/one").json()
        self.assertEqual((body["labels"], body["point"], body["alerts"][0]["state"]),
                         ({"team": "vision"}, None, "firing"))
        self.problem(self.get("/v1/runs/one/profile/latest"), 404, "not-found", "no point yet")
        self.assertEqual(self.http("DELETE", "/v1/runs/one").status, 204)
        self.problem(self.http("DELETE", "/v1/runs/one"), 404, "not-found", "one")
        self.problem(self.get("/v1/runs/one"), 404, "not-found", "one")

    def test_optimizer_and_tensors(self):
        reply = self.put("two", optimizer={"type": "adamw", "lr": 3e-4}, tensors=[{"name": "w", "shape": [2, 3]}])
        self.assertEqual(reply.status, 201, reply.body)
        self.assertEqual(reply.json()["declaration"]["optimizer"]["type"], "adamw")
        self.put("two", labels={"a": "b"})
        declaration = self.get("/v1/runs/two").json()["declaration"]
        self.assertEqual(declaration["optimizer"]["type"], "adamw")
        self.assertEqual(declaration["tensors"][0]["shape"], [2, 3])
        self.problem(self.put("two", optimizer={"type": "magic"}), 400, "invalid-value", "magic")
        self.problem(self.put("two", colour=1), 400, "unknown-field", "colour")

    def test_attempts(self):
        self.put("three")
        self.assertEqual(self.put("three", attempt="new", attempt_key="k1").json()["attempt"], 2)
        self.assertEqual(self.put("three", attempt="new", attempt_key="k1").json()["attempt"], 2)
        self.assertEqual(self.put("three", attempt="new", attempt_key="k2").json()["attempt"], 3)
        body = self.get("/v1/runs/three/attempts").json()
        self.assertEqual([a["attempt"] for a in body["attempts"]], [1, 2, 3])
        self.assertIsNone(body["attempts"][0]["reference_loss"])
        self.problem(self.put("three", attempt="new"), 400, "missing-field", "attempt_key")
        self.problem(self.put("three", attempt=2, attempt_key="k"), 400, "invalid-value", "new")
        self.problem(self.put("three", attempt="new", attempt_key=""), 400, "invalid-value", "empty")
        self.problem(self.put("three", attempt="new", attempt_key="k" * 257), 413, "limit-exceeded", "256")

    def test_ended(self):
        self.put("four")
        self.assertEqual(self.put("four", ended=True).json()["state"], "ended")
        self.assertEqual(self.put("four", labels={}).json()["state"], "ended")
        self.assertEqual(self.put("four", ended=False).json()["state"], "healthy")
        self.problem(self.put("four", ended="yes"), 400, "invalid-value", "ended")

    def test_bad_bodies(self):
        bodies = [("[]", 400, "malformed-body", "object"), ("{", 400, "malformed-body", "line 1"),
                  ('{"labels":{"a":"1","a":"2"}}', 400, "malformed-body", "duplicate"),
                  ('{"labels":{"a":1}}', 400, "invalid-value", "string"),
                  ('{"labels":["a"]}', 400, "invalid-value", "object"),
                  ('{"labels":{"":"x"}}', 413, "limit-exceeded", "256"),
                  (json.dumps({"labels": {"a": "x" * 257}}), 413, "limit-exceeded", "256"),
                  (json.dumps({"labels": {str(i): "" for i in range(33)}}), 413, "limit-exceeded", "32"),
                  ('{"layers":' + "[" * 40 + "]" * 40 + "}", 413, "limit-exceeded", "32"),
                  ("{} x", 400, "malformed-body", ""), ('{"labels":{"a":"\xff"}}', 400, "malformed-body", "")]
        for body, status, slug, word in bodies:
            reply = self.http("PUT", "/v1/runs/bad", body.encode("latin-1"), JSON)
            self.problem(reply, status, slug, word)
        self.problem(self.http("PUT", "/v1/runs/bad", "{}"), 415, "unsupported-media-type", "application/json")
        self.problem(self.get("/v1/runs/bad"), 404, "not-found")

    def test_names(self):
        self.assertEqual(self.put("A-z_0.9" + "x" * 121).status, 201)
        for name in ("a" * 129, "a%20b", "a:b", "%C3%A4"):
            self.problem(self.put(name), 400, "invalid-value", "128")
            self.problem(self.http("DELETE", "/v1/runs/" + name), 400, "invalid-value", "128")

    def test_empty_body_declares_nothing(self):
        self.assertEqual(self.http("PUT", "/v1/runs/five").status, 201)

    def test_lists(self):
        for i in range(12):
            self.put(f"list-{i}", labels={"kind": "list", "odd": str(i % 2)}, ended=i >= 6)
        for sign in (":", "="):
            body = self.get(f"/v1/runs?label=kind{sign}list").json()
            self.assertEqual((len(body["runs"]), body["more"]), (12, False))
        self.assertEqual(len(self.get("/v1/runs?label=kind:list&state=ended").json()["runs"]), 6)
        self.problem(self.get("/v1/runs?label=kind"), 400, "invalid-value", "key:value")
        names, cursor = [], ""
        for _ in range(3):
            body = self.get(f"/v1/runs?label=kind:list&limit=5{cursor}").json()
            names += [r["run"] for r in body["runs"]]
            cursor = "&cursor=" + body["cursor"]
        self.assertEqual(names, [f"list-{i}" for i in range(12)])
        self.assertFalse(body["more"])
        body = self.get(f"/v1/runs?label=kind:list{cursor}").json()
        self.assertEqual((body["runs"], "&cursor=" + body["cursor"]), ([], cursor))
        self.put("list-new", labels={"kind": "list"})
        body = self.get(f"/v1/runs?label=kind:list{cursor}").json()
        self.assertEqual([r["run"] for r in body["runs"]], ["list-new"])
        newest = self.get("/v1/runs?label=kind:list&order=desc&limit=1").json()["runs"]
        self.assertEqual(newest[0]["run"], "list-new")

    def test_cursors_are_checked(self):
        self.put("six")
        cursor = self.get("/v1/runs/six/events?limit=1").json()["cursor"]
        for text in ("x", cursor + "A", cursor[:-1], cursor[:-1] + "!", "A" * 200, "", "MWUwLjE="):
            self.problem(self.get(f"/v1/runs/six/events?cursor={text}"), 400, "invalid-value", "cursor")
        self.problem(self.get(f"/v1/runs?cursor={cursor}"), 400, "invalid-value", "cursor")

    def test_long_lists_come_in_slices(self):
        self.put("seven")
        reply = self.get("/v1/runs/seven/events?limit=1000")
        self.assertEqual(reply.headers["Transfer-Encoding"], "chunked")
        self.assertIsNone(reply.headers["ETag"])
        body = reply.json()
        self.assertEqual([e["id"] for e in body["events"]], list(range(1, 601)))
        self.assertEqual(body["events"][0]["detail"], {"from": 0.1, "to": 0.01})
        self.assertFalse(body["more"])
        for limit in (255, 256, 257, 599, 600):
            body = self.get(f"/v1/runs/seven/events?limit={limit}").json()
            self.assertEqual((len(body["events"]), body["more"]), (limit, limit < 600))

    def test_a_reader_that_goes_away(self):
        self.put("eight")
        for size in (1, 1000, 40000):
            with self.connect() as connection:
                connection.sendall(head("GET", "/v1/runs/eight/events?limit=1000"))
                connection.recv(size)
        self.assertEqual(self.get("/healthz").status, 200)

    def test_tensors(self):
        self.put("nine", tensors=[{"name": n, "shape": [2]} for n in "abc"])
        body = self.get("/v1/runs/nine/tensors?sort=abs_max&limit=2").json()
        self.assertEqual((body["sort"], len(body["tensors"]), body["more"]), ("abs_max", 2, True))
        self.assertEqual(body["tensors"][1]["metrics"]["abs_max"], 1)
        self.assertIsNone(body["tensors"][1]["metrics"]["grad_norm"])
        self.problem(self.get("/v1/runs/nine/tensors?sort=loss"), 400, "invalid-value", "loss")


class Profile(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        lines = [{"step": i, "loss": i / 10} for i in range(100)]
        lines[3]["loss"], lines[4]["loss"] = "NaN", "Infinity"
        del lines[5]["loss"]
        cls().push_lines("p", lines)

    def runTest(self):
        pass

    def push_lines(self, run, lines):
        body = "\n".join(map(json.dumps, lines))
        reply = self.http("POST", f"/v1/runs/{run}/snapshots", body, NDJSON | {"Prefer": "return=minimal"})
        self.assertEqual(reply.status, 200)
        self.assertEqual({r["status"] for r in reply.lines()}, {"accepted"})

    def profile(self, query, run="p", accept="*/*"):
        return self.get(f"/v1/runs/{run}/profile?{query}", Accept=accept)

    def test_columns(self):
        body = self.profile("metric=loss&metric=lr&to=6").json()
        self.assertEqual(body["step"], list(range(7)))
        self.assertEqual(body["series"]["loss"], [0, 0.1, 0.2, "NaN", "Infinity", None, 0.6])
        self.assertEqual(body["series"]["lr"], [None] * 7)
        self.assertEqual((body["run"], body["attempt"], body["resolution"]), ("p", 1, 1))
        self.assertNotIn("min", body)

    def test_every_metric_without_metric(self):
        body = self.profile("limit=2").json()
        self.assertEqual(len(body["step"]), 2)
        self.assertGreater(len(body["series"]), 40)
        self.assertEqual(body["series"]["loss"], [0, 0.1])

    def test_rolled_up(self):
        body = self.profile("metric=loss&from=10&points=20").json()
        self.assertEqual(body["resolution"], 8)
        self.assertEqual((body["min"]["loss"][0], body["max"]["loss"][0]), (1.0, 1.7))
        self.assertEqual(body["step"][-1], 99)
        rows = self.profile("metric=loss&from=10&points=20", accept="application/x-ndjson").lines()
        self.assertEqual(rows[0], {"step": 17, "loss": 1.7, "min": {"loss": 1}, "max": {"loss": 1.7},
                                   "resolution": 8})

    def test_csv_and_ndjson(self):
        reply = self.profile("metric=loss&metric=lr&to=6", accept="text/csv")
        self.assertEqual(reply.headers["Content-Type"], "text/csv; charset=utf-8")
        rows = list(csv.reader(io.StringIO(reply.body.decode())))
        self.assertEqual(rows[0], ["step", "loss", "lr"])
        self.assertEqual([r[1] for r in rows[1:]], ["0", "0.1", "0.2", "NaN", "Infinity", "", "0.6"])
        rows = list(csv.reader(io.StringIO(
            self.profile("metric=loss&from=10&points=20", accept="text/csv").body.decode())))
        self.assertEqual((rows[0], rows[1]), (["step", "loss", "loss_min", "loss_max"], ["17", "1.7", "1", "1.7"]))
        rows = self.profile("metric=loss&to=4", accept="application/x-ndjson").lines()
        self.assertEqual(rows[3], {"step": 3, "loss": "NaN"})
        self.assertEqual(rows[-1]["cursor"], self.profile("metric=loss&to=4").json()["cursor"])
        self.problem(self.profile("metric=loss", accept="text/html"), 406, "not-acceptable")

    def test_cursor_answers_what_is_new(self):
        run = "live"
        self.push_lines(run, [{"step": i, "loss": 1} for i in range(5)])
        body = self.profile("metric=loss", run).json()
        cursor = "metric=loss&cursor=" + body["cursor"]
        body = self.profile(cursor, run).json()
        self.assertEqual((body["step"], "metric=loss&cursor=" + body["cursor"]), ([], cursor))
        self.push_lines(run, [{"step": 5, "loss": 2}])
        self.assertEqual(self.profile(cursor, run).json()["step"], [5])
        self.http("PUT", f"/v1/runs/{run}", '{"attempt":"new","attempt_key":"k"}', JSON)
        self.push_lines(run, [{"step": 0, "loss": 3}])
        body = self.profile(cursor, run).json()
        self.assertEqual((body["attempt"], body["step"]), (1, [5]))
        body = self.profile("metric=loss&cursor=" + body["cursor"], run).json()
        self.assertEqual((body["attempt"], body["step"]), (1, []))
        body = self.profile("metric=loss&cursor=" + body["cursor"], run).json()
        self.assertEqual((body["attempt"], body["step"]), (2, [0]))
        self.assertEqual(self.profile("attempt=1&metric=loss", run).json()["step"], list(range(6)))
        self.problem(self.profile("attempt=1&cursor=" + body["cursor"], run), 400, "contradiction")
        self.problem(self.profile("attempt=9", run), 404, "not-found", "attempt 9")

    def test_errors(self):
        self.problem(self.profile("metric=colour"), 400, "invalid-value", "colour")
        self.problem(self.profile("tensor=w&metric=loss"), 400, "invalid-value", "tensor")
        self.problem(self.profile("from=5&to=4"), 400, "invalid-value", "from")
        self.problem(self.profile("points=10001"), 400, "invalid-value", "10000")
        self.problem(self.profile("points=0"), 400, "invalid-value", "10000")
        self.problem(self.profile("", "nobody"), 404, "not-found", "nobody")
        self.assertEqual(list(self.profile("&".join(["metric=loss"] * 70)).json()["series"]), ["loss"])

    def test_large(self):
        self.push_lines("large", [{"step": i, "loss": i + 0.5} for i in range(10000)])
        for accept in ("application/json", "application/x-ndjson", "text/csv"):
            reply = self.profile("limit=10000", "large", accept)
            self.assertEqual(reply.headers["Transfer-Encoding"], "chunked")
            if accept == "application/json":
                body = reply.json()
                self.assertEqual(body["step"], list(range(10000)))
                self.assertEqual(body["series"]["loss"][9999], 9999.5)
                self.assertTrue(all(len(c) == 10000 for c in body["series"].values()))
            else:
                self.assertEqual(reply.body.count(b"\n"), 10001)

    def test_a_slice_may_end_anywhere(self):
        """Rows of 9 bytes fill the first slice (32 KiB); leaving them out one by one moves its end over
        the name of the second column, which is longer."""
        self.push_lines("slices", [{"step": i, "loss": 0.5} for i in range(1000, 4640)])
        for first in range(1000, 1060):
            body = self.profile(f"metric=loss&metric=instability_score_next&limit=10000&from={first}", "slices").json()
            self.assertEqual([len(c) for c in body["series"].values()], [4640 - first] * 2)

    def test_latest(self):
        body = self.get("/v1/runs/p/profile/latest").json()
        self.assertEqual((body["step"], body["metrics"]["loss"]), (99, {"value": 9.9, "trust": "I"}))
        self.assertEqual(body["metrics"]["lr"], {"value": None, "reason": "not-pushed"})
        self.assertEqual(body["time"], "2023-11-14T22:13:20.500Z")
        self.problem(self.get("/v1/runs/nobody/profile/latest"), 404, "not-found", "nobody")


    def test_one_point(self):
        body = self.get("/v1/runs/p/points/99").json()
        self.assertEqual(body, self.get("/v1/runs/p/profile/latest").json())
        self.assertEqual(self.get("/v1/runs/p/points/7").json()["metrics"]["loss"]["value"], 0.7)
        self.problem(self.get("/v1/runs/p/points/100"), 404, "not-found", "no point of step 100")
        self.problem(self.get("/v1/runs/p/points/1e3"), 404, "not-found", "no step")
        self.problem(self.get("/v1/runs/nobody/points/1"), 404, "not-found", "nobody")


class Rules(Case):
    def put(self, name, /, **fields):
        return self.http("PUT", f"/v1/rules/{name}", json.dumps(fields), JSON)

    def test_put_get_delete(self):
        fields = {"metric": "grad_norm", "comparison": ">=", "threshold": 10, "for": 3, "clear": 5,
                  "severity": "critical", "runs": {"team": "vision"}, "tensor": None,
                  "action": "reduce_lr", "notify": []}
        reply = self.put("my-grad-norm", **fields)
        self.assertEqual(reply.status, 201, reply.body)
        body = self.get("/v1/rules/my-grad-norm").json()
        del fields["notify"]
        self.assertEqual({k: body[k] for k in fields}, fields)
        self.assertEqual((body["version"], body["enabled"], body["clear_for"]), (1, True, 1))
        reply = self.put("my-grad-norm", **body)
        self.assertEqual((reply.status, reply.json()["version"]), (200, 2))
        rules = self.get("/v1/rules").json()["rules"]
        self.assertIn("my-grad-norm", [r["rule"] for r in rules])
        self.assertEqual(self.http("DELETE", "/v1/rules/my-grad-norm").status, 204)
        self.problem(self.get("/v1/rules/my-grad-norm"), 404, "not-found")
        self.problem(self.http("DELETE", "/v1/rules/my-grad-norm"), 404, "not-found")

    def test_of_tensors_and_conditions(self):
        self.assertEqual(self.put("t", metric="abs_max", tensor="*.weight", threshold=1).status, 201)
        self.assertEqual(self.get("/v1/rules/t").json()["tensor"], "*.weight")
        self.assertEqual(self.put("s", metric="silent_seconds", threshold=600, clear=None).status, 201)
        self.assertEqual(self.put("i", metric="loss", threshold="Infinity", comparison=">=").status, 201)
        self.assertEqual(self.get("/v1/rules/i").json()["threshold"], "Infinity")

    def test_errors(self):
        good = {"metric": "loss", "threshold": 1}
        bad = [({"metric": "colour"}, "unknown-field", "colour"), ({"metric": "loss +"}, "malformed-body", "byte 6"),
               ({"metric": "mean(loss, 0)"}, "invalid-value", "4096"), ({"cooldown": 65537}, "invalid-value", "65536"), ({"threshold": "NaN"}, "invalid-value", "NaN"),
               ({"threshold": "1"}, "invalid-value", "number"), ({"for": 0}, "invalid-value", "65536"),
               ({"for": 1.5}, "invalid-value", "integer"), ({"comparison": "=="}, "invalid-value", ">="),
               ({"severity": "bad"}, "invalid-value", "critical"), ({"action": "run"}, "invalid-value", "stop"),
               ({"notify": ["a b"]}, "invalid-value", "receiver"), ({"colour": 1}, "unknown-field", "colour"),
               ({"clear": 2}, "invalid-value", "firing side"), ({"once": 1}, "invalid-value", "true"),
               ({"runs": ["a"]}, "invalid-value", "object"), ({"tensor": "*"}, "unknown-field", "tensor")]
        for change, slug, word in bad:
            self.problem(self.put("bad", **(good | change)), 400, slug, word)
        self.problem(self.put("bad", metric="loss"), 400, "missing-field", "threshold")
        self.problem(self.put("bad", threshold=1), 400, "missing-field", "metric")
        self.problem(self.put("b" * 65, **good), 400, "invalid-value", "64")
        self.problem(self.put("bad", **(good | {"metric": "m" * 241})), 413, "limit-exceeded", "240")
        body = b'{"metric":"loss","threshold":1,"x":"' + b"y" * 70000 + b'"}'
        self.problem(self.http("PUT", "/v1/rules/bad", body, JSON), 413, "limit-exceeded", "65536")


class Alerts(Case):
    def ids(self, query):
        return [a["id"] for a in self.get("/v1/alerts?" + query).json()["alerts"]]

    def test_list(self):
        self.push("gpt", step=1)
        self.assertEqual(self.ids(""), [1, 2, 3, 4, 5])
        self.assertEqual(self.ids("order=desc&limit=2"), [5, 4])
        self.assertEqual(self.ids("state=firing"), [1, 4])
        self.assertEqual(self.ids("severity=warning&run=gpt"), [2, 4])
        self.assertEqual(self.ids("rule=none"), [])
        self.problem(self.get("/v1/alerts?run=nobody"), 404, "not-found", "nobody")
        cursor = self.get("/v1/alerts?limit=3").json()["cursor"]
        self.assertEqual(self.ids("cursor=" + cursor), [4, 5])

    def test_one_and_ack(self):
        body = self.get("/v1/alerts/4").json()
        self.assertEqual((body["value"], body["resolved_step"], body["acked"]), ("Infinity", None, None))
        self.assertEqual((body["evidence"], body["summary"]), ({"window": 64}, "tab\there"))
        body = self.http("POST", "/v1/alerts/4/ack").json()
        self.assertRegex(body["acked"], r"^20\d\d-\d\d-\d\dT[\d:.]+Z$")
        for path in ("/v1/alerts/99", "/v1/alerts/0", "/v1/alerts/x", "/v1/alerts/-1",
                     "/v1/alerts/99999999999999999999"):
            self.problem(self.get(path), 404, "not-found")
        self.problem(self.http("POST", "/v1/alerts/99/ack"), 404, "not-found")

    def test_ack_says_who_why_and_until_when(self):
        body = {"by": "ann", "comment": "looking", "duration_s": 60}
        self.assertEqual(self.http("POST", "/v1/alerts/5/ack", json.dumps(body), JSON).status, 200)
        for fields, slug, word in (({"by": 1}, "invalid-value", "by"), ({"duration_s": 0}, "invalid-value", "31536000"),
                                   ({"duration_s": 5, "until": "2030-01-01T00:00:00Z"}, "contradiction", "until"),
                                   ({"until": "2001-01-01T00:00:00Z"}, "invalid-value", "until"),
                                   ({"colour": 1}, "unknown-field", "colour")):
            self.problem(self.http("POST", "/v1/alerts/5/ack", json.dumps(fields), JSON), 400, slug, word)

    def test_groups(self):
        group = self.get("/v1/alert-groups").json()["groups"][0]
        self.assertEqual((group["group"], group["run"], group["cause"], group["severity"]), (3, "gpt", "spike", "critical"))
        self.assertEqual((group["firing"], group["pending"], group["tensors"], group["rules"]), (2, 1, 2, "a,b"))
        self.assertIsNone(group["notified"])


class PacksVersionsReplays(Case):
    def test_packs(self):
        packs = self.get("/v1/packs").json()["packs"]
        self.assertEqual([(p["pack"], p["enabled"], p["enabled_rules"]) for p in packs], [("fake", False, 0)])
        body = '{"enabled":true,"rules":["other"]}'
        pack = self.http("PUT", "/v1/packs/fake", body, JSON).json()
        self.assertEqual([(r["rule"], r["enabled"]) for r in pack["rules"]], [("shipped", False), ("other", True)])
        self.http("PUT", "/v1/rules/shipped", '{"metric":"loss","threshold":9}', JSON)
        pack = self.get("/v1/packs/fake").json()
        self.assertEqual((pack["enabled"], pack["rules"][0]["replaced"]), (True, True))
        self.problem(self.get("/v1/packs/none"), 404, "not-found", "none")
        for body, slug, word in (("{}", "missing-field", "enabled"), ('{"enabled":1}', "invalid-value", "enabled"),
                                 ('{"enabled":true,"rules":[]}', "invalid-value", "1000"),
                                 ('{"enabled":true,"rules":[1]}', "invalid-value", "rules")):
            self.problem(self.http("PUT", "/v1/packs/fake", body, JSON), 400, slug, word)

    def test_versions(self):
        versions = self.get("/v1/rules/versioned/versions").json()["versions"]
        self.assertEqual([(v["version"], v.get("deleted")) for v in versions], [(1, None), (2, None), (3, True)])
        self.assertEqual(self.get("/v1/rules/versioned?version=2").json()["threshold"], 2)
        self.problem(self.get("/v1/rules/versioned?version=4"), 404, "not-found", "4")
        self.problem(self.get("/v1/rules/versioned?version=0"), 400, "invalid-value", "version")

    def test_replay(self):
        body = self.http("POST", "/v1/rules/r/replay?run=gpt&from=3&to=50").json()
        self.assertEqual((body["rule"], body["run"], body["first_step"], body["last_step"]), ("r", "gpt", 3, 50))
        self.assertEqual(body["end"], {"kind": "diverged", "told_from": "loss",
                                       "onsets": [{"step": 50, "recovered_step": None, "nonfinite": False}]})
        self.assertEqual(body["counts"], {"right": 1, "late": 0, "false": 0, "neither": 0, "undecided": 0, "missed": 0})
        self.assertEqual(body["absent"], {"warming-up": 2})
        self.assertEqual(body["alerts"], [{"tensor": None, "severity": "critical", "pending_step": 39, "firing_step": 40,
                                           "resolved_step": None, "value": "Infinity", "outcome": "right", "lead_steps": 10}])
        rule = '{"metric":"loss","threshold":77}'
        body = self.http("POST", "/v1/rules/r/replay?run=gpt", rule, JSON).json()
        self.assertEqual(body["alerts"][0]["value"], 77)  # of the body's rule
        self.problem(self.http("POST", "/v1/rules/r/replay"), 400, "missing-field", "run")
        self.problem(self.http("POST", "/v1/rules/r/replay?run=no"), 404, "not-found", "no")
        self.problem(self.http("POST", "/v1/rules/r/replay?run=gpt", "{}", JSON), 400, "missing-field", "metric")


class Silences(Case):
    def post(self, **fields):
        return self.http("POST", "/v1/silences", json.dumps(fields), JSON)

    def test_post_list_delete(self):
        reply = self.post(run="gpt-*", rule="instability", duration_s=3600, comment="...", labels={"a": "b"})
        self.assertEqual(reply.status, 201, reply.body)
        body = reply.json()
        self.assertEqual((body["id"], body["run"], body["severity"], body["labels"]), (1, "gpt-*", None, {"a": "b"}))
        self.assertRegex(body["until"], r"^20\d\d-\d\d-\d\dT[\d:.]+Z$")
        self.assertEqual(self.get("/v1/silences").json()["silences"], [body])
        self.assertEqual(self.http("DELETE", "/v1/silences/1").status, 204)
        self.assertEqual(self.get("/v1/silences").json()["silences"], [])
        self.assertEqual(len(self.get("/v1/silences?ended=true").json()["silences"]), 1)
        self.problem(self.http("DELETE", "/v1/silences/1"), 404, "not-found")
        self.problem(self.http("DELETE", "/v1/silences/z"), 404, "not-found", "z")

    def test_errors(self):
        for fields, slug, word in (({"run": "a"}, "missing-field", "duration_s"),
                                   ({"run": "a", "duration_s": "1"}, "invalid-value", "integer"),
                                   ({"run": 1, "duration_s": 1}, "invalid-value", "run"),
                                   ({"severity": "x", "duration_s": 1}, "invalid-value", "critical"),
                                   ({"labels": 1, "duration_s": 1}, "invalid-value", "labels"),
                                   ({"until": "x"}, "invalid-value", "3339"), ({"to": 1}, "unknown-field", "to")):
            self.problem(self.post(**fields), 400, slug, word)
        self.problem(self.post(comment="x" * 513, duration_s=1), 413, "limit-exceeded", "512")
        self.problem(self.http("POST", "/v1/silences", "", JSON), 400, "malformed-body")


if __name__ == "__main__":
    unittest.main()
