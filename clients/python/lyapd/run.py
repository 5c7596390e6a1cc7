"""A run of any framework: pushes that wait for their answer, and the reads that go with them."""

import time
import uuid
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence

from . import http, wire
from .errors import Error, Unreachable

TRANSIENT = (429, 502, 503, 504)
RETRY_FIRST_S = 0.2
RETRY_MAX_S = 5.0


class Reply(dict):
    """The answer to a push, as the JSON object it is, with its parts at hand."""

    @property
    def action(self) -> Dict[str, Any]:
        return self.get("action") or {"kind": "continue"}

    @property
    def alerts(self) -> List[Dict[str, Any]]:
        return self.get("alerts") or []

    @property
    def state(self) -> Optional[str]:
        return self.get("state")

    @property
    def verdict(self) -> Optional[str]:
        return self.get("verdict")

    @property
    def score(self) -> Optional[float]:
        """instability_score, 0 to 1; the rule `instability` fires at 0.5."""
        return self.value("instability_score")

    def value(self, metric: str) -> Optional[float]:
        """A metric of the point, or None when it is absent (`reason` says why)."""
        return wire.value_of((self.get("metrics") or {}).get(metric))

    def reason(self, metric: str) -> Optional[str]:
        return ((self.get("metrics") or {}).get(metric) or {}).get("reason")


def declaration(optimizer=None, tensors=None, layers=None, labels=None, retention=None,
                data=None, windows=None, steps=None) -> Dict[str, Any]:
    """The body of PUT /v1/runs/{run}. `tensors` maps names to shapes, or to arrays."""
    if isinstance(tensors, Mapping):
        tensors = [{"name": name, "shape": list(getattr(value, "shape", value))}
                   for name, value in tensors.items()]
    fields = {"optimizer": optimizer, "tensors": tensors, "layers": layers, "labels": labels,
              "retention": retention, "data": data, "windows": windows, "steps": steps}
    return {key: value for key, value in fields.items() if value is not None}


class Run:
    """One run of the daemon at `url`.

    `optimizer`, `tensors`, `layers`, `labels`, `retention`, `data` and `windows` declare it (docs/
    api.md); what is left out keeps its stored value. `new_attempt` opens the next attempt: do so
    when training restarts at a lower step; the same `attempt_key` opens it only once.

    Calls wait and raise `Error` when the daemon refuses, `Unreachable` when it does not answer
    after `retries` more tries. Not for use by two threads at once."""

    def __init__(self, url: Optional[str] = None, name: str = "", *,
                 optimizer: Optional[Mapping[str, Any]] = None, tensors: Any = None,
                 layers: Optional[Sequence[Mapping[str, Any]]] = None,
                 labels: Optional[Mapping[str, str]] = None, retention: Optional[str] = None,
                 data: Optional[str] = None, windows: Optional[Sequence[int]] = None,
                 steps: Optional[int] = None,
                 new_attempt: bool = False, attempt_key: Optional[str] = None,
                 token: Optional[str] = None, timeout: float = 30.0, retries: int = 3,
                 cafile: Optional[str] = None):
        if not name:
            raise ValueError("a run needs a name, such as lyapd.Run(url, 'gpt-7')")
        self.name = name
        self.attempt: Optional[int] = None
        self.sketch_seed: Optional[int] = None  # of docs/sketch.md, once declared
        self._retries = retries
        self._http = http.Connection(url, token, timeout, cafile)
        fields = declaration(optimizer, tensors, layers, labels, retention, data, windows, steps)
        if new_attempt or attempt_key:
            fields.update(attempt="new", attempt_key=attempt_key or uuid.uuid4().hex)
        if fields:
            self.declare(fields)

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *exc_info) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def declare(self, fields: Mapping[str, Any]) -> Dict[str, Any]:
        """PUT of the run; takes any of its fields."""
        reply = self._send("PUT", [], body=http.json_body(dict(fields)))
        if reply.get("attempt") is not None and "attempt" in fields:
            self.attempt = int(reply["attempt"])
        if reply.get("sketch_seed") is not None:
            self.sketch_seed = int(reply["sketch_seed"])
        return reply

    def push(self, step: int, params: Optional[Mapping[str, Any]] = None,
             grads: Optional[Mapping[str, Any]] = None, **more: Any) -> Reply:
        """Pushes the snapshot of one step: parameters and gradients by name, taken after the
        backward pass and before the update. Each further keyword is a role of docs/wire.md with
        arrays by name (`exp_avg=`, `pair_s=`, ...), a scalar (`loss=`, `lr=`, `batch_id=`, ...)
        or `labels=` of the point. Without arrays the scalars are pushed alone. A partial push has
        `reduce=` and `sketch=` instead of params and grads."""
        roles: Dict[str, Mapping[str, Any]] = {"param": params or {}, "grad": grads or {}}
        values: Dict[str, Any] = {"step": step}
        for key, value in (more.pop("labels", None) or {}).items():
            values[key if key.startswith("x-") else "x-" + key] = value
        for key, value in more.items():
            if key in wire.ROLES or key in wire.PARTIAL:
                roles[key] = value or {}
            else:
                values[key] = value
        query = [("attempt", self.attempt)] if self.attempt and "attempt" not in values else []
        if "sent" not in values:
            query.append(http.sent())
        if any(roles.values()):
            body, content_type = wire.encode(roles, values), http.SAFETENSORS
        else:
            body, content_type = http.json_body(wire.scalars(values)), http.JSON
        return Reply(self._send("POST", ["snapshots"], query, body, content_type))

    def end(self) -> None:
        """Tells the daemon that the job is over. A later push reopens the run."""
        self.declare({"ended": True})

    def info(self) -> Dict[str, Any]:
        """The run with its last point and firing alerts."""
        return self._send("GET", [])

    def latest(self) -> Reply:
        """The last point: every metric with value, trust, error, or the reason of its absence."""
        return Reply(self._send("GET", ["profile", "latest"]))

    def profile(self, metrics: Iterable[str], tensor: Optional[str] = None,
                attempt: Optional[int] = None, from_step: Optional[int] = None,
                to_step: Optional[int] = None, points: Optional[int] = None) -> Dict[str, Any]:
        """Series of metrics: {"step": [...], "series": {metric: [...]}, ...}. Values are floats,
        None where absent."""
        query = [("metric", metric) for metric in
                 ([metrics] if isinstance(metrics, str) else metrics)]
        query += [(key, value) for key, value in
                  (("tensor", tensor), ("attempt", attempt), ("from", from_step),
                   ("to", to_step), ("points", points)) if value is not None]
        reply = self._send("GET", ["profile"], query)
        for part in ("series", "min", "max"):
            for metric, column in (reply.get(part) or {}).items():
                reply[part][metric] = [None if value is None else wire.number(value)
                                       for value in column]
        return reply

    def tensors(self, **query: Any) -> List[Dict[str, Any]]:
        """The last metrics of every tensor."""
        return self._pages(http.run_path(self.name, "tensors"), "tensors", query)

    def alerts(self, state: Optional[str] = None, **query: Any) -> List[Dict[str, Any]]:
        """Alerts of the run; `state` is pending, firing or resolved."""
        query.update(run=self.name, state=state)
        return self._pages("/v1/alerts", "alerts", query)

    def events(self, **query: Any) -> List[Dict[str, Any]]:
        """Marks such as attempts, learning-rate changes, non-finite values."""
        return self._pages(http.run_path(self.name, "events"), "events", query)

    def delete(self) -> None:
        self._send("DELETE", [])

    def _pages(self, path, key, query):
        rows: List[Dict[str, Any]] = []
        pairs = [(name, value) for name, value in query.items() if value is not None]
        cursor = None
        while True:
            page = self._try("GET", path, pairs + ([("cursor", cursor)] if cursor else []),
                             None, http.JSON)
            found = page.get(key) or []
            rows += found
            following = page.get("cursor")
            if not found or not following or following == cursor or "limit" in query:
                return rows
            cursor = following

    def _send(self, method, rest, query=None, body=None, content_type=http.JSON):
        return self._try(method, http.run_path(self.name, *rest), query, body, content_type)

    def _try(self, method, path, query, body, content_type):
        wait = RETRY_FIRST_S
        for left in range(self._retries, -1, -1):
            try:
                return self._http.request(method, path, query, body, content_type)
            except Error as error:
                is_transient = isinstance(error, Unreachable) or error.status in TRANSIENT
                if not is_transient or left == 0:
                    raise
                time.sleep(min(error.retry_after or wait, RETRY_MAX_S))
                wait = min(2 * wait, RETRY_MAX_S)
        raise AssertionError("unreachable")
