"""Snapshots on disk while the daemon is away: one folder per attempt, one safetensors file per
snapshot, bounded in bytes, sent in order later."""

import json
import os
import shutil
from typing import Any, Dict, Iterator, List, Optional

from . import http
from .errors import Error, Unreachable

try:
    import fcntl
except ImportError:  # Windows: a folder in use is then not told from one left behind
    fcntl = None  # type: ignore

MANIFEST = "run.json"
SUFFIX = ".safetensors"


class Spool:
    """The folder of one attempt. Not for use by two threads at once."""

    def __init__(self, root: str, run: str, key: str, rank: int, fields: Dict[str, Any],
                 bytes_max: int):
        self.path = os.path.join(root, "%s.%s.%d" % (run, key, rank))
        self._bytes_max = bytes_max
        os.makedirs(self.path, exist_ok=True)
        self._lock = open(os.path.join(self.path, MANIFEST), "a+")
        _lock(self._lock)
        self._lock.seek(0)
        self._lock.truncate()
        json.dump({"run": run, "rank": rank, "put": fields}, self._lock)
        self._lock.flush()
        self._files: List[str] = _files(self.path)
        self._sizes = {name: os.path.getsize(os.path.join(self.path, name))
                       for name in self._files}
        self._next = int(self._files[-1].split(".")[0]) + 1 if self._files else 0

    def __len__(self) -> int:
        return len(self._files)

    def append(self, buffers) -> int:
        """Writes one body; returns how many old ones made room for it. OSError when it cannot."""
        size = sum(memoryview(buffer).nbytes for buffer in buffers)
        removed = 0
        while self._files and sum(self._sizes.values()) + size > self._bytes_max:
            self.discard(self._files[0])
            removed += 1
        if size > self._bytes_max:
            return removed + 1
        name = "%012d%s" % (self._next, SUFFIX)
        target = os.path.join(self.path, name)
        with open(target + ".part", "wb") as file:
            for buffer in buffers:
                file.write(buffer)
        os.replace(target + ".part", target)
        self._next += 1
        self._files.append(name)
        self._sizes[name] = size
        return removed

    def oldest(self) -> str:
        return self._files[0]

    def read(self, name: str) -> bytes:
        with open(os.path.join(self.path, name), "rb") as file:
            return file.read()

    def discard(self, name: str) -> None:
        try:
            os.unlink(os.path.join(self.path, name))
        except OSError:
            pass
        self._files.remove(name)
        self._sizes.pop(name, None)

    def close(self) -> None:
        """Removes the folder when nothing is left in it."""
        if not self._files:
            shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


def _files(path: str) -> List[str]:
    return sorted(name for name in os.listdir(path) if name.endswith(SUFFIX))


def _lock(file) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError:
        return False


def folders(root: str, run: Optional[str] = None, rank: Optional[int] = None) -> Iterator[str]:
    """Folders that no living process fills, oldest first."""
    found = []
    for name in os.listdir(root) if os.path.isdir(root) else []:
        manifest = os.path.join(root, name, MANIFEST)
        try:
            with open(manifest, "r+") as file:
                if not _lock(file):
                    continue
                about = json.load(file)
        except (OSError, ValueError):
            continue
        if run in (None, about.get("run")) and rank in (None, about.get("rank")):
            found.append((os.path.getmtime(manifest), os.path.join(root, name)))
    return iter([path for _, path in sorted(found)])


def send_folder(path: str, connection: http.Connection) -> Dict[str, int]:
    """Sends what lies in one folder and removes what was answered. A refused snapshot is counted
    and removed too: the daemon would refuse it again. Unreachable passes through."""
    counts = {"sent": 0, "duplicate": 0, "refused": 0}
    with open(os.path.join(path, MANIFEST)) as file:
        about = json.load(file)
    reply = connection.request("PUT", http.run_path(about["run"]),
                               body=http.json_body(about["put"]))
    query = [("attempt", reply["attempt"])] if reply.get("attempt") else []
    for name in _files(path):
        with open(os.path.join(path, name), "rb") as file:
            body = file.read()
        try:
            answer = connection.request("POST", http.run_path(about["run"], "snapshots"),
                                        query + [http.sent()], [body], http.SAFETENSORS)
            counts["duplicate" if answer.get("status") == "duplicate" else "sent"] += 1
        except Unreachable:
            raise
        except Error as error:
            if error.status is None or error.status >= 500 or error.status in (401, 403, 429):
                raise
            counts["refused"] += 1
        os.unlink(os.path.join(path, name))
    shutil.rmtree(path, ignore_errors=True)
    return counts


def send_spool(path: str, url: Optional[str] = None, token: Optional[str] = None,
               run: Optional[str] = None, timeout: float = 30.0) -> Dict[str, int]:
    """Sends everything that jobs left in the spool directory `path`, oldest attempt first. Returns
    the counts of sent, duplicate and refused snapshots; raises Unreachable without a daemon."""
    total = {"sent": 0, "duplicate": 0, "refused": 0}
    connection = http.Connection(url, token, timeout)
    try:
        for folder in folders(path, run):
            for key, count in send_folder(folder, connection).items():
                total[key] += count
    finally:
        connection.close()
    return total
