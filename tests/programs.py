"""Help for tests that call the API: tokens, and a client that sends one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.test import Client

from annotate import tokens
from annotate.models import Project, User, Verb


def token_of(
    user: User, verbs: Sequence[str] = tuple(Verb.values), projects: list[Project] | None = None
) -> str:
    return tokens.make(user, "A program", verbs, projects, 7)[1]


class Program:
    """``Program(ada).get("/projects")``: a program with a token of somebody's, at /api/v1."""

    def __init__(
        self, user: User, verbs: Sequence[str] = tuple(Verb.values), projects: list[Project] | None = None
    ):
        self.token = token_of(user, verbs, projects)
        self.client = Client(headers={"Authorization": f"Bearer {self.token}"})

    def get(self, path: str, **query: Any) -> Any:
        return self.client.get(f"/api/v1{path}", query)

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        return self.client.post(
            f"/api/v1{path}", body, content_type="application/json",
            headers={name.replace("_", "-"): value for name, value in headers.items()},
        )  # fmt: skip

    def delete(self, path: str) -> Any:
        return self.client.delete(f"/api/v1{path}")
