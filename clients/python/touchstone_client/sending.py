"""One request as data, and when to send it again: shared by the sync and the async client."""

from __future__ import annotations

import random
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import httpx

from touchstone_client.errors import ApiError

T = TypeVar("T")
AGAIN = {429, 502, 503, 504}
PIECE = 1 << 20


@dataclass(frozen=True)
class Sent:
    """A file as a body, a piece at a time; opened anew when it is sent again."""

    path: Path

    def __iter__(self) -> Iterator[bytes]:
        with self.path.open("rb") as file:
            while piece := file.read(PIECE):
                yield piece


@dataclass(frozen=True)
class SentByAsync:
    """The same for the async client."""

    path: Path

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in Sent(self.path):
            yield piece


@dataclass(frozen=True)
class Call(Generic[T]):
    """A request, and how its answer is read. A POST carries an idempotency key, so that it can be sent again."""

    method: str
    path: str
    read: Callable[[Any], T]
    query: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    content: bytes | Path | None = None
    key: str = field(default_factory=lambda: uuid.uuid4().hex)

    def build(self, client: httpx.Client | httpx.AsyncClient) -> httpx.Request:
        query = {name: value for name, value in self.query.items() if value not in (None, "", [])}
        headers = {"Idempotency-Key": self.key} if self.method == "POST" else {}
        content: Any = self.content
        if isinstance(content, Path):
            headers |= {
                "Content-Type": "application/octet-stream",
                "Content-Length": str(content.stat().st_size),
            }
            content = Sent(content) if isinstance(client, httpx.Client) else SentByAsync(content)
        elif content is not None:
            headers["Content-Type"] = "application/jsonl"
        if content is not None:
            return client.build_request(
                self.method, self.path, params=query, content=content, headers=headers
            )
        return client.build_request(self.method, self.path, params=query, json=self.body, headers=headers)


@dataclass(frozen=True)
class Retries:
    """How often, and how long to wait: doubling from ``first`` seconds, never less than the server asks for."""

    attempts: int = 6
    first: float = 0.25
    longest: float = 30.0

    def wait(self, attempt: int, response: httpx.Response | None) -> float:
        asked = response.headers.get("Retry-After", "") if response is not None else ""
        pause = min(self.first * 2.0**attempt, self.longest) * random.uniform(0.75, 1.25)  # noqa: S311
        return max(pause, min(float(asked), 120.0)) if asked.isdigit() else pause


def is_worth_again(response: httpx.Response) -> bool:
    """Too many requests, a server that is away for a moment, or the same request still at work."""
    return response.status_code in AGAIN or (
        response.status_code == 409 and problem_of(response).get("code") == "running"
    )


def problem_of(response: httpx.Response) -> dict[str, Any]:
    try:
        found = response.json()
    except ValueError:
        return {"detail": response.text[:500]}
    return found if isinstance(found, dict) else {}


def checked(response: httpx.Response) -> httpx.Response:
    if response.is_success:
        return response
    raise ApiError(response.status_code, problem_of(response))
