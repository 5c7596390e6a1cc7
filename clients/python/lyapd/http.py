"""HTTP to the daemon: one kept-alive connection, bodies sent from the buffers they lie in."""

import http.client
import json
import os
import socket
import ssl
import time
from typing import Any, Dict, Iterable, List, Optional, Tuple
from urllib.parse import quote, urlencode, urlsplit

from .errors import Error, Unreachable

DEFAULT_URL = "http://127.0.0.1:9470"
REPLY_BYTES_MAX = 256 << 20  # a profile of 64 metrics and 10 000 points in JSON stays below 32 MiB
SEND_BYTES = 64 << 10        # buffers below are joined up to this
SAFETENSORS = "application/vnd.safetensors"
JSON = "application/json"


def default_url() -> str:
    return os.environ.get("LYAPD_URL", DEFAULT_URL)


def default_token() -> Optional[str]:
    return os.environ.get("LYAPD_TOKEN") or None


class Connection:
    """One connection to one daemon. Not for use by two threads at once."""

    def __init__(self, url: Optional[str] = None, token: Optional[str] = None,
                 timeout: float = 30.0, cafile: Optional[str] = None):
        parts = urlsplit(url or default_url())
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("url must be http://HOST:PORT or https://HOST:PORT, not %r" % url)
        if timeout <= 0:
            raise ValueError("timeout must be positive, not %r" % timeout)
        self._host = parts.hostname
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._prefix = parts.path.rstrip("/")
        self._tls = ssl.create_default_context(cafile=cafile) if parts.scheme == "https" else None
        self._token = token if token is not None else default_token()
        self._timeout = timeout
        self._connection: Optional[http.client.HTTPConnection] = None

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def abort(self) -> None:
        """Breaks off a request that another thread is in; the only call allowed from one."""
        sock = getattr(self._connection, "sock", None)
        if sock is not None:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def request(self, method: str, path: str, query: Optional[Iterable[Tuple[str, Any]]] = None,
                body: Optional[Iterable[Any]] = None, content_type: str = JSON,
                timeout: Optional[float] = None) -> Any:
        """The decoded JSON of a 2xx answer. Raises Error for any other answer and Unreachable
        without one. `body` is a list of buffers."""
        buffers = list(body) if body is not None else []
        target = self._prefix + path
        if query:
            target += "?" + urlencode([(key, str(value)) for key, value in query])
        for is_retry in (False, True):
            is_fresh = self._connection is None
            try:
                status, headers, payload = self._exchange(method, target, buffers, content_type,
                                                          timeout)
            except (OSError, http.client.HTTPException) as error:
                self.close()
                # A kept-alive connection that the daemon closed meanwhile shows only now.
                if is_fresh or is_retry or isinstance(error, socket.timeout):
                    raise Unreachable("%s %s: %s" % (method, path, error or type(error).__name__)
                                      ) from error
                continue
            return _decode(status, headers, payload)
        raise AssertionError("unreachable")

    def _exchange(self, method, target, buffers, content_type, timeout):
        connection = self._open(timeout or self._timeout)
        connection.putrequest(method, target)
        connection.putheader("Accept", JSON)
        if self._token:
            connection.putheader("Authorization", "Bearer " + self._token)
        if buffers or method in ("PUT", "POST"):
            connection.putheader("Content-Type", content_type)
            connection.putheader("Content-Length",
                                 str(sum(memoryview(buffer).nbytes for buffer in buffers)))
        try:
            connection.endheaders()
            for buffer in _gathered(buffers):
                connection.send(buffer)
        except (BrokenPipeError, ConnectionResetError):
            # The daemon may have answered in mid-body (too large, not allowed): read that answer.
            pass
        response = connection.getresponse()
        payload = response.read(REPLY_BYTES_MAX)
        if response.will_close:
            self.close()
        return response.status, response.headers, payload

    def _open(self, timeout):
        if self._connection is None:
            if self._tls is not None:
                self._connection = http.client.HTTPSConnection(self._host, self._port,
                                                               timeout=timeout, context=self._tls)
            else:
                self._connection = http.client.HTTPConnection(self._host, self._port,
                                                              timeout=timeout)
            self._connection.connect()
            self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        elif self._connection.sock is not None:
            self._connection.sock.settimeout(timeout)
        return self._connection


def _gathered(buffers: Iterable[Any]) -> Iterable[Any]:
    """The same bytes, small buffers joined: many small tensors do not take a packet each."""
    held: List[Any] = []
    size = 0
    for buffer in buffers:
        count = memoryview(buffer).nbytes
        if held and size + count > SEND_BYTES:
            yield b"".join(held)
            held, size = [], 0
        if count >= SEND_BYTES:
            yield buffer
        else:
            held.append(buffer)
            size += count
    if held:
        yield b"".join(held)


def _decode(status: int, headers, payload: bytes) -> Any:
    try:
        document = json.loads(payload.decode("utf-8")) if payload.strip() else {}
    except ValueError:
        document = {"title": payload[:200].decode("utf-8", "replace").strip()}
    if 200 <= status < 300:
        return document
    retry_after = None
    try:
        retry_after = float(headers.get("Retry-After", ""))
    except ValueError:
        pass
    raise Error(status, document if isinstance(document, dict) else {}, retry_after=retry_after)


def sent() -> Tuple[str, str]:
    """Query parameter of a push: this clock, by which the daemon tells a wrong one from a late push."""
    return "sent", "%.3f" % time.time()


def run_path(name: str, *rest: str) -> str:
    return "/".join(["/v1/runs", quote(name, safe="")] + [quote(part, safe="") for part in rest])


def json_body(document: Dict[str, Any]):
    return [json.dumps(document, allow_nan=False, separators=(",", ":")).encode("utf-8")]
