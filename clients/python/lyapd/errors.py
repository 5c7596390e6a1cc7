"""Errors of the client."""

from typing import Any, Dict, Optional


class Error(Exception):
    """A request that lyapd refused, with the fields of its problem document (RFC 9457)."""

    def __init__(self, status: Optional[int], problem: Optional[Dict[str, Any]] = None,
                 message: str = "", retry_after: Optional[float] = None):
        problem = problem or {}
        self.status = status
        self.type = str(problem.get("type", ""))
        self.title = str(problem.get("title", ""))
        self.detail = str(problem.get("detail", message))
        self.instance = problem.get("instance")
        self.problem = problem
        self.retry_after = retry_after
        super().__init__(self._text(message))

    @property
    def code(self) -> str:
        """The last part of the problem's type, such as ``stale-attempt``."""
        return self.type.replace("#", "/").rstrip("/").rsplit("/", 1)[-1].rsplit(":", 1)[-1]

    def _text(self, message: str) -> str:
        if self.status is None:
            return message
        parts = [part for part in (self.title, self.detail) if part]
        return "%d %s" % (self.status, ": ".join(parts) or "refused")


class Unreachable(Error):
    """lyapd did not answer: not running, network down, time out, broken connection."""

    def __init__(self, message: str):
        super().__init__(None, None, message)
