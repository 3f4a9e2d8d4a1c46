"""/api/v1/: the site for programs. Thin operations over the same write and read paths as the pages.

A module of operations has a ``router``; it is added below. Every operation names the verb that its token needs
(``auth=Bearer("read")``) and takes its project by ``project_of(request, slug, Role.REVIEWER)``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import HttpRequest, HttpResponseBase
from ninja.parser import Parser

from annotate.api import collecting, deploying, exports, jobs, learned, pool, problems, projects
from annotate.api.bearer import Bearer
from annotate.api.documenting import DocumentedAPI
from annotate.api.problems import Problem
from annotate.api.repeating import once
from annotate.importing.strictjson import parse

Run = Callable[..., HttpResponseBase]


class StrictParser(Parser):
    """No key twice, no NaN, no depth that is an attack."""

    def parse_body(self, request: HttpRequest) -> Any:
        return parse(request.body)


def known_parameters(run: Run) -> Run:
    """Refuse a query parameter that the operation does not have: a filter with a typo must not return everything."""
    operation = run.__self__  # type: ignore[attr-defined]
    sources = [model for model in operation.models if model.__ninja_param_source__ == "query"]
    known = {name for model in sources for name in model.__ninja_flatten_map__}

    @wraps(run)
    def checked(request: HttpRequest, **values: Any) -> HttpResponseBase:
        if other := sorted(set(request.GET) - known):
            there_are = ", ".join(sorted(known)) or "none"
            words = f"query.{other[0][:60]}: there is no such parameter; there are {there_are}."
            return problems.problem(422, "invalid", words)
        return run(request, **values)

    return checked


api = DocumentedAPI(
    title="Touchstone",
    version="1",
    description="Prompts, responses, comparisons and what was learned from them.",
    urls_namespace="api",
    auth=Bearer("read"),
    parser=StrictParser(),
    docs_url=None,
)
problems.install(api)
api.add_decorator(known_parameters, mode="view")
api.add_decorator(once, mode="operation")
for part in (projects, pool, collecting, exports, jobs, learned, deploying):
    api.add_router("", part.router)

__all__ = ["Bearer", "Problem", "api"]
