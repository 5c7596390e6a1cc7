"""The background thread of a monitor: a bounded queue, retries, the spool, the newest answer.

The training thread only ever calls put, which takes a short lock and never waits for I/O."""

import collections
import logging
import os
import threading
import time
import uuid
from typing import Any, Callable, Deque, Dict, List, NamedTuple, Optional

from . import http
from .errors import Error, Unreachable
from .spool import Spool, folders, send_folder

log = logging.getLogger("lyapd")

BACKOFF_FIRST_S = 0.25
BACKOFF_MAX_S = 10.0
ERRORS_KEPT = 32
STALE = ("stale-attempt",)
TRANSIENT = (401, 403, 408, 429, 502, 503, 504, 507)


class Item:
    """One snapshot on its way. `release` gives its buffer back."""

    __slots__ = ("step", "attempt", "buffers", "bytes", "has_state", "release", "done", "reply")

    def __init__(self, step: int, buffers: List[Any], has_state: bool = False,
                 release: Optional[Callable[[], None]] = None):
        self.step = step
        self.attempt = 0
        self.buffers = buffers
        self.bytes = sum(memoryview(buffer).nbytes for buffer in buffers)
        self.has_state = has_state
        self.release = release
        self.done = threading.Event()
        self.reply: Optional[Dict[str, Any]] = None

    def finish(self, reply: Optional[Dict[str, Any]] = None) -> None:
        self.reply = reply
        self.buffers = []
        if self.release is not None:
            self.release()
            self.release = None
        self.done.set()


class Limits(NamedTuple):
    """Bounds of the queue and the spool."""
    queue_count: int = 256
    queue_bytes: int = 256 << 20
    spool_bytes: int = 1 << 30


class Sender:
    """`fields` is the declaration (PUT body without attempt). on_reply(item, reply) and
    on_lost(item) are called from the background thread or under put; they must not wait."""

    def __init__(self, connection: http.Connection, run: str, fields: Dict[str, Any], *,
                 attempt_key: Optional[str] = None, rank: int = 0, limits: Limits = Limits(),
                 spool: Optional[str] = None, on_reply: Callable[[Item, Dict[str, Any]], None],
                 on_lost: Callable[[Item], None]):
        self._http = connection
        self._run = run
        self._fields = fields
        self._rank = rank
        self._limits = limits
        self._spool_root = spool
        self._spool: Optional[Spool] = None
        self._on_reply = on_reply
        self._on_lost = on_lost
        self._keys = [attempt_key or os.environ.get("LYAPD_ATTEMPT_KEY") or uuid.uuid4().hex]
        self._is_declared = False
        self._declared_attempt = -1
        self.seed: Optional[int] = None  # of the run's sketches; known once it is declared
        self._number: Optional[int] = None  # the attempt's, as the daemon counts
        self._has_sent_left_over = False

        self._condition = threading.Condition()
        self._queue: Deque[Item] = collections.deque()
        self._queued_bytes = 0
        self._is_sending = False
        self._retry_at = 0.0
        self._backoff = BACKOFF_FIRST_S
        self._deadline: Optional[float] = None  # of close
        self._is_over = True                    # what close says of the run
        self._pid = os.getpid()

        self.dropped = 0          # snapshots that made room for newer ones
        self.refused = 0          # snapshots the daemon refused
        self.sent = 0
        self.is_stale = False     # a later attempt took over: nothing is sent any more
        self.is_down = False      # the last try found no daemon
        self.errors: Deque[str] = collections.deque(maxlen=ERRORS_KEPT)
        self._told = set()        # kinds of errors that were logged
        self._dropped_told = 0
        self._thread = threading.Thread(target=self._main, name="lyapd", daemon=True)
        self._thread.start()

    # ---- the training thread's side ----

    @property
    def is_usable(self) -> bool:
        """False in a forked child and after close or a takeover."""
        return self._pid == os.getpid() and self._deadline is None and not self.is_stale

    @property
    def attempt(self) -> Optional[int]:
        return self._number

    @property
    def queued(self) -> int:
        return len(self._queue)

    def put(self, item: Item) -> None:
        """Queues; drops the oldest when the queue is full. Never waits."""
        lost = []
        with self._condition:
            item.attempt = len(self._keys) - 1
            self._queue.append(item)
            self._queued_bytes += item.bytes
            while len(self._queue) > 1 and (
                    len(self._queue) > self._limits.queue_count
                    or self._queued_bytes > self._limits.queue_bytes):
                oldest = self._queue.popleft()
                self._queued_bytes -= oldest.bytes
                self.dropped += 1
                lost.append(oldest)
            self._condition.notify_all()
        for oldest in lost:
            self._lose(oldest)

    def wait_seed(self, timeout: float) -> Optional[int]:
        """None while no daemon has answered."""
        with self._condition:
            self._condition.wait_for(lambda: self.seed is not None, timeout)
            return self.seed

    def begin_attempt(self) -> None:
        """What is put from now on belongs to a new attempt."""
        with self._condition:
            self._keys.append("%s.%d" % (self._keys[0], len(self._keys)))

    def flush(self, timeout: float) -> bool:
        """Waits until everything queued was answered or lost."""
        end = time.monotonic() + timeout
        with self._condition:
            while self._queue or self._is_sending or (self._spool and len(self._spool)):
                left = end - time.monotonic()
                if left <= 0 or not self._thread.is_alive():
                    return False
                self._condition.wait(min(left, 0.05))
        return True

    def close(self, timeout: float, is_over: bool = True) -> None:
        """Sends what is queued, at most for `timeout` seconds; `is_over` says that the run has ended."""
        if self._pid != os.getpid() or self._deadline is not None:
            return
        with self._condition:
            self._is_over = is_over
            self._deadline = time.monotonic() + timeout
            self._retry_at = 0.0  # one more try at once, even when the daemon was away
            self._condition.notify_all()
        self._thread.join(timeout)
        if self._thread.is_alive():
            self._http.abort()
            self._thread.join(1.0)

    def note(self, text: str, kind: Optional[str] = None) -> None:
        """Remembers an error for the user; logs the first of each kind."""
        self.errors.append(text)
        if (kind or text) not in self._told:
            self._told.add(kind or text)
            log.warning("lyapd: %s", text)

    # ---- the background thread ----

    def _main(self) -> None:
        try:
            while self._wait():
                self._work()
            self._finish()
        except Exception as error:  # a bug of ours must not surface in the job
            self.note("stopped: %r" % error)
        finally:
            self._fail_all()
            self._http.close()

    def _wait(self) -> bool:
        """Until there is something to do; False when it is time to end."""
        with self._condition:
            while True:
                now = time.monotonic()
                is_empty = not self._queue and not (self._spool and len(self._spool))
                if self.is_stale:
                    return False
                if self._deadline is not None and (is_empty or now >= self._deadline):
                    return False
                if now >= self._retry_at and (not is_empty or not self._is_declared):
                    return True
                if self._can_spill():
                    return True  # move it to disk while the daemon is away
                wake = self._retry_at if now < self._retry_at else None
                if self._deadline is not None:
                    wake = min(wake or self._deadline, self._deadline)
                self._condition.wait(None if wake is None else max(wake - now, 0.001))

    def _work(self) -> None:
        if time.monotonic() < self._retry_at:
            self._spill()
            return
        try:
            self._declare(self._next_attempt())
            if self._spool is not None and len(self._spool):
                self._send_spooled()
            else:
                self._send_queued()
            self._backoff = BACKOFF_FIRST_S
            self.is_down = False
        except Error as error:
            self._stumble(error)
        except OSError as error:
            self.note("spool: %s" % error, "spool")
            self._retry_at = time.monotonic() + BACKOFF_MAX_S

    def _stumble(self, error: Error) -> None:
        """The daemon is away or busy: later, with everything still in order."""
        is_away = isinstance(error, Unreachable)
        self.is_down = is_away
        self._is_declared = self._is_declared and not is_away
        wait = error.retry_after if error.retry_after else self._backoff
        self._backoff = min(2 * self._backoff, BACKOFF_MAX_S)
        self.note(str(error), "unreachable" if is_away else str(error.status))
        with self._condition:
            self._retry_at = time.monotonic() + min(wait, BACKOFF_MAX_S)
            if self._deadline is not None and is_away:
                self._deadline = time.monotonic()  # closing: no point in waiting for it
        if self._spool_root:
            self._spill()

    def _declare(self, attempt: int) -> None:
        """Opens the attempt. The same key gives the same attempt, so asking again is harmless."""
        if self._is_declared and self._declared_attempt == attempt:
            return
        if self._spool_root and not self._has_sent_left_over:
            self._send_left_over()
        put = dict(attempt="new", attempt_key=self._keys[attempt])
        without_layers = {key: value for key, value in self._fields.items() if key != "layers"}
        for fields in (self._fields, without_layers, {}):
            try:
                reply = self._http.request("PUT", http.run_path(self._run),
                                           body=http.json_body(dict(fields, **put)))
                break
            except Error as error:
                if error.status not in (400, 422) or not fields:
                    raise
                self.note("the declaration was refused: %s" % error)
        if attempt != self._declared_attempt and self._spool is not None:
            self._spool.close()
            self._spool = None
        self._number = reply.get("attempt")
        with self._condition:
            self.seed = int(reply["sketch_seed"]) if reply.get("sketch_seed") else None
            self._condition.notify_all()
        self._declared_attempt = attempt
        self._is_declared = True

    def _next_attempt(self) -> int:
        with self._condition:
            if self._spool is not None and len(self._spool):
                return self._declared_attempt
            return self._queue[0].attempt if self._queue else len(self._keys) - 1

    def _query(self):
        query = [("attempt", self._number)] if self._number is not None else []
        untold = self.dropped - self._dropped_told
        return query + ([("x-dropped", untold)] if untold else []) + [http.sent()]

    def _send_queued(self) -> None:
        with self._condition:
            if not self._queue or self._queue[0].attempt != self._declared_attempt:
                return
            item = self._queue.popleft()
            self._queued_bytes -= item.bytes
            self._is_sending = True
        try:
            reply = self._post(item.buffers)
            if reply is None:
                self._lose(item)
            else:
                self._on_reply(item, reply)
                item.finish(reply)
        except Error:
            with self._condition:
                self._queue.appendleft(item)
                self._queued_bytes += item.bytes
            raise
        finally:
            with self._condition:
                self._is_sending = False
                self._condition.notify_all()

    def _post(self, buffers) -> Optional[Dict[str, Any]]:
        """None: refused for good."""
        dropped = self.dropped
        try:
            reply = self._http.request("POST", http.run_path(self._run, "snapshots"),
                                       self._query(), buffers, http.SAFETENSORS)
        except Error as error:
            if error.status is None or error.status in TRANSIENT:
                raise
            self.refused += 1
            self.is_stale = self.is_stale or error.code in STALE
            self.note(str(error), error.code or str(error.status))
            return None
        if reply.get("status") != "duplicate":  # the first sending carried no such label
            self._dropped_told = dropped
        self.sent += 1
        return reply

    def _send_spooled(self) -> None:
        assert self._spool is not None
        name = self._spool.oldest()
        try:
            body = self._spool.read(name)
        except OSError as error:
            self.dropped += 1
            self.note("spool: %s" % error, "spool")
            self._spool.discard(name)
            return
        reply = self._post([body])
        self._spool.discard(name)
        if reply is not None:
            self._on_reply(Item(-1, []), reply)
        self._spill(only_if_spooled=True)

    def _spill(self, only_if_spooled: bool = False) -> None:
        """Moves the queue to disk, where what is sent first waits already."""
        while True:
            with self._condition:
                if not self._can_spill():
                    return
                if only_if_spooled and not (self._spool is not None and len(self._spool)):
                    return
                item = self._queue.popleft()
                self._queued_bytes -= item.bytes
            try:
                if self._spool is None:
                    put = dict(self._fields, attempt="new", attempt_key=self._keys[item.attempt])
                    self._declared_attempt = item.attempt
                    self._spool = Spool(str(self._spool_root), self._run, self._keys[item.attempt],
                                        self._rank, put, self._limits.spool_bytes)
                self.dropped += self._spool.append(item.buffers)
                item.finish()
            except OSError as error:
                self.dropped += 1
                self._lose(item)
                self.note("spool: %s" % error, "spool")

    def _can_spill(self) -> bool:
        """A spool holds one attempt; a later one waits in the queue until it is sent."""
        if not self._queue or not self._spool_root:
            return False
        return self._spool is None or self._queue[0].attempt == self._declared_attempt

    def _send_left_over(self) -> None:
        """What an earlier life of this run left on disk goes first: a new attempt would make it
        stale."""
        for folder in folders(str(self._spool_root), self._run, self._rank):
            counts = send_folder(folder, self._http)
            if counts["refused"]:
                self.note("%d spooled snapshots of an earlier attempt were refused"
                          % counts["refused"])
        self._has_sent_left_over = True

    def _lose(self, item: Item) -> None:
        self._on_lost(item)
        item.finish()

    def _finish(self) -> None:
        """Closing: what is left goes to disk, and the daemon hears that the run is over, if it is."""
        if self._spool_root and not self.is_stale:
            self._spill()
        is_all_sent = not self._queue and not (self._spool and len(self._spool))
        if (self._is_over and self._rank == 0 and not self.is_stale and is_all_sent
                and not self.is_down):
            try:
                self._http.request("PUT", http.run_path(self._run),
                                   body=http.json_body({"ended": True}), timeout=2.0)
            except Error as error:
                self.note(str(error), "end")
        if self._spool is not None:
            self._spool.close()

    def _fail_all(self) -> None:
        with self._condition:
            items = list(self._queue)
            self._queue.clear()
            self._queued_bytes = 0
            self.dropped += len(items)
        for item in items:
            self._lose(item)
