"""Every operation of the API as a call: addresses, bodies and answers in one place."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from pydantic import BaseModel, TypeAdapter

from touchstone_client.models import (
    Added,
    Best,
    Feedback,
    Job,
    Judgment,
    LabelEfficiency,
    Learning,
    Lease,
    Next,
    Page,
    Project,
    Prompt,
    PromptText,
    Response,
    Scores,
    ServedRequest,
)
from touchstone_client.sending import Call

M = TypeVar("M", bound=BaseModel)
MOST_SCORED = 512
LINES_AT_ONCE = 1_000
BYTES_AT_ONCE = 4 << 20
Rows = Iterable[Mapping[str, Any]] | Path | str


def get(path: str, model: type[M], **query: Any) -> Call[M]:
    return Call("GET", path, TypeAdapter(model).validate_python, query)


def post(path: str, model: type[M], body: Any = None, **query: Any) -> Call[M]:
    return Call("POST", path, TypeAdapter(model).validate_python, query, body)


def given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def projects(cursor: str) -> Call[Page[Project]]:
    return get("/projects", Page[Project], cursor=cursor, limit=200)


def project(slug: str) -> Call[Project]:
    return get(f"/projects/{slug}", Project)


def prompts(slug: str, cursor: str, external_id: str = "") -> Call[Page[Prompt]]:
    return get(f"/projects/{slug}/prompts", Page[Prompt], cursor=cursor, limit=200, external_id=external_id)


def responses(slug: str, cursor: str, prompt: int | None, source: str) -> Call[Page[Response]]:
    path = f"/projects/{slug}/responses"
    return get(path, Page[Response], cursor=cursor, limit=200, prompt=prompt, source=source)


def lines(slug: str, content: bytes) -> Call[Added]:
    return Call("POST", f"/projects/{slug}/files", Added.model_validate, content=content)


def start_import(slug: str, path: Path, **how: Any) -> Call[Job]:
    query = {"name": path.name, **how}
    return Call("POST", f"/projects/{slug}/imports", Job.model_validate, query, content=path)


def next_pairs(slug: str, count: int) -> Call[Next]:
    return post(f"/projects/{slug}/next", Next, {"count": count})


def judge(slug: str, lease: UUID, **answer: Any) -> Call[Judgment]:
    return post(f"/projects/{slug}/leases/{lease}/judgment", Judgment, given(**answer))


def skip(slug: str, lease: UUID, reason: str, note: str) -> Call[None]:
    body = {"reason": reason, "note": note}
    return Call("POST", f"/projects/{slug}/leases/{lease}/skip", lambda _: None, body=body)


def undo(slug: str) -> Call[Lease]:
    return post(f"/projects/{slug}/undo", Lease)


def acknowledge(slug: str, version: int) -> Call[None]:
    return Call("POST", f"/projects/{slug}/guidelines/seen", lambda _: None, body={"version": version})


def renew(slug: str) -> Call[None]:
    return Call("POST", f"/projects/{slug}/renew", lambda _: None)


def score(slug: str, items: Sequence[tuple[PromptText, str]], wait: float) -> Call[Scores]:
    body = {"items": [{"prompt": prompt, "response": response} for prompt, response in items]}
    return post(f"/projects/{slug}/score", Scores, body, wait=wait)


def scores(slug: str, found: UUID) -> Call[Scores]:
    return get(f"/projects/{slug}/score/{found}", Scores)


def best_of(slug: str, prompt: PromptText, responses: Sequence[str], wait: float) -> Call[Best]:
    return post(
        f"/projects/{slug}/best-of", Best, {"prompt": prompt, "responses": list(responses)}, wait=wait
    )


def best(slug: str, found: UUID) -> Call[Best]:
    return get(f"/projects/{slug}/best-of/{found}", Best)


def ask(slug: str, prompt: PromptText, candidates: Sequence[Any], wait: float) -> Call[ServedRequest]:
    body = {"prompt": prompt, "responses": list(candidates)}
    return post(f"/projects/{slug}/deployment", ServedRequest, body, wait=wait)


def asked(slug: str, request: UUID) -> Call[ServedRequest]:
    return get(f"/projects/{slug}/deployment/{request}", ServedRequest)


def choose(slug: str, request: UUID, **answer: Any) -> Call[Feedback]:
    return post(f"/projects/{slug}/deployment/{request}/judgment", Feedback, given(**answer))


def start_export(slug: str, **wanted: Any) -> Call[Job]:
    return post(f"/projects/{slug}/exports", Job, wanted)


def jobs(slug: str, cursor: str, state: str | None) -> Call[Page[Job]]:
    return get(f"/projects/{slug}/jobs", Page[Job], cursor=cursor, limit=200, state=state)


def job(slug: str, job_id: int) -> Call[Job]:
    return get(f"/projects/{slug}/jobs/{job_id}", Job)


def cancel(slug: str, job_id: int) -> Call[Job]:
    return post(f"/projects/{slug}/jobs/{job_id}/cancel", Job)


def estimator(slug: str) -> Call[Learning]:
    return get(f"/projects/{slug}/estimator", Learning)


def label_efficiency(slug: str) -> Call[LabelEfficiency]:
    return get(f"/projects/{slug}/label-efficiency", LabelEfficiency)


def portions(rows: Rows) -> Iterator[tuple[int, bytes]]:
    """Rows as JSON Lines, so many at a time: how many, and their bytes."""
    held: list[bytes] = []
    size = 0
    for line in as_lines(rows):
        held.append(line)
        size += len(line)
        if len(held) >= LINES_AT_ONCE or size >= BYTES_AT_ONCE:
            yield len(held), b"".join(held)
            held, size = [], 0
    if held:
        yield len(held), b"".join(held)


def as_lines(rows: Rows) -> Iterator[bytes]:
    """Lines of a JSONL file, or rows as lines."""
    if isinstance(rows, (str, Path)):
        with Path(rows).open("rb") as file:
            yield from (line.rstrip(b"\r\n") + b"\n" for line in file if line.strip())
    else:
        for row in rows:
            yield json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def parts(items: Sequence[tuple[PromptText, str]]) -> Iterator[Sequence[tuple[PromptText, str]]]:
    for begin in range(0, len(items), MOST_SCORED):
        yield items[begin : begin + MOST_SCORED]
