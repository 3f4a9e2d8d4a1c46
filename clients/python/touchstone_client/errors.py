"""What can go wrong, as exceptions that a program can decide on."""

from __future__ import annotations

from typing import Any


class TouchstoneClientError(Exception):
    """Everything that this package raises on purpose."""


class Unreachable(TouchstoneClientError):
    """No answer came, after all retries."""


class Failed(TouchstoneClientError):
    """A job failed or was cancelled, or an answer took longer than you wanted to wait."""


class ApiError(TouchstoneClientError):
    """The API answered with a problem (RFC 9457): branch on ``status`` and ``code``; ``errors`` says where."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        self.status = status
        self.code = str(problem.get("code", ""))
        self.detail = str(problem.get("detail", ""))
        self.errors: list[dict[str, str]] = list(problem.get("errors", []))
        super().__init__(f"{status} {self.code}: {self.detail}")
