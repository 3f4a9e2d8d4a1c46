"""The API's page: its own schema, rendered here, with no script and nothing from another host."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import render
from django.views.decorators.http import require_safe

from annotate.api import api

Json = dict[str, Any]


@dataclass(frozen=True)
class Operation:
    """One line of the page, and what unfolds below it."""

    method: str
    path: str
    verb: str
    summary: str
    parameters: list[tuple[str, str, str, bool, str]]  # name, where, type, required, description
    body: str
    answer: str


@require_safe
def api_docs(request: HttpRequest) -> HttpResponseBase:
    schema = api.get_openapi_schema()
    sections: dict[str, list[Operation]] = defaultdict(list)
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            sections[operation["tags"][0]].append(described(schema, path, method, operation))
    return render(request, "programs/docs.html", {"sections": dict(sections), "api": api})


def described(schema: Json, path: str, method: str, operation: Json) -> Operation:
    content = operation.get("requestBody", {}).get("content", {})
    answers = [answer for code, answer in operation["responses"].items() if str(code).startswith("2")]
    return Operation(
        method=method.upper(),
        path=path,
        verb=operation.get("x-verb", ""),
        summary=str(operation.get("description") or operation["summary"]),
        parameters=list(parameters(schema, operation)),
        body=example_of(schema, content),
        answer=example_of(schema, answers[0].get("content", {})) if answers else "",
    )


def parameters(schema: Json, operation: Json) -> Iterator[tuple[str, str, str, bool, str]]:
    for one in operation["parameters"]:
        kind = json.dumps(shape(schema, one["schema"]), ensure_ascii=False).strip('"')
        yield one["name"], one["in"], kind, one["required"], one.get("description", "")


def example_of(schema: Json, content: Json) -> str:
    """A JSON body by its shape; of anything else, its media types."""
    if "application/json" not in content:
        return ", ".join(content)
    return json.dumps(shape(schema, content["application/json"]["schema"]), indent=2, ensure_ascii=False)


def shape(schema: Json, part: Json, depth: int = 0) -> Any:
    """A schema as a value that looks like what it describes: types in the place of values."""
    if "$ref" in part:
        part = schema["components"]["schemas"][part["$ref"].rsplit("/", 1)[-1]]
    if "enum" in part or "const" in part:
        return " | ".join(map(str, part.get("enum", [part.get("const")])))
    if options := part.get("anyOf"):
        kinds = [shape(schema, one, depth) for one in options]
        return next((kind for kind in kinds if not isinstance(kind, str)), " | ".join(map(str, kinds)))
    if part.get("type") == "array":
        return [shape(schema, part.get("items", {}), depth + 1)] if depth < 8 else []
    if "properties" in part:
        return {name: shape(schema, one, depth + 1) for name, one in part["properties"].items()}
    return part.get("format") or part.get("type", "any")
