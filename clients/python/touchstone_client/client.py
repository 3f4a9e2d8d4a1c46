"""The client for programs that wait for each answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import httpx

from touchstone_client import calls
from touchstone_client.errors import Failed, Unreachable
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
    Reward,
    Scores,
    ServedRequest,
)
from touchstone_client.sending import Call, Retries, checked, is_worth_again

T = TypeVar("T")
Progress = Callable[[int], object]
JobProgress = Callable[[Job], object]
WAIT = 20.0


class Client:
    """``Client("https://touchstone.example.org", token="tst_…")``; close it, or use it in a with statement."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        retries: Retries | None = None,
        timeout: float = 60.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.retries = retries or Retries()
        self.http = httpx.Client(
            base_url=url.rstrip("/") + "/api/v1",
            headers={"Authorization": f"Bearer {token}"},
            timeout=timeout,
            transport=transport,
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.http.close()

    def send(self, call: Call[T]) -> T:
        """Send a call, again where that may help, and read its answer."""
        response = self._answered(call.build(self.http), stream=False)
        return call.read(response.json() if response.content else None)

    def _answered(self, request: httpx.Request, stream: bool) -> httpx.Response:
        last: httpx.TransportError | None = None
        for attempt in range(self.retries.attempts):
            response = None
            is_last = attempt + 1 == self.retries.attempts
            try:
                response = self.http.send(request, stream=stream)
                if not response.is_success:
                    response.read()  # of one that streams, too: it says why
                if not is_worth_again(response) or is_last:
                    return checked(response)
            except httpx.TransportError as error:
                last = error
            if not is_last:
                time.sleep(self.retries.wait(attempt, response))
        raise Unreachable(f"{request.url.host} did not answer: {last}") from last

    def _pages(self, page: Callable[[str], Call[Page[T]]]) -> Iterator[T]:
        cursor: str | None = ""
        while cursor is not None:
            found = self.send(page(cursor))
            yield from found.items
            cursor = found.next

    # --- Projects and their pool --------------------------------------------------------------------------

    def projects(self) -> Iterator[Project]:
        return self._pages(calls.projects)

    def project(self, slug: str) -> Project:
        return self.send(calls.project(slug))

    def prompts(self, slug: str, external_id: str = "") -> Iterator[Prompt]:
        return self._pages(lambda cursor: calls.prompts(slug, cursor, external_id))

    def responses(self, slug: str, prompt: int | None = None, source: str = "") -> Iterator[Response]:
        return self._pages(lambda cursor: calls.responses(slug, cursor, prompt, source))

    def upload(self, slug: str, rows: calls.Rows, progress: Progress | None = None) -> Added:
        """Add rows (dicts, or a JSONL file) of any shape that an import reads; what is there already stays."""
        total, sent = Added(), 0
        for count, content in calls.portions(rows):
            total += self.send(calls.lines(slug, content))
            sent += count
            if progress:
                progress(sent)
        return total

    def import_file(
        self, slug: str, path: Path | str, progress: JobProgress | None = None, **how: Any
    ) -> Added:
        """A whole file of any kind that an import reads, imported by a job: for large ones. The job keeps a report
        of bad rows; ``how`` may have ``utility_field`` and ``utility_scale``."""
        job = self.wait_for(slug, self.send(calls.start_import(slug, Path(path), **how)), progress)
        return Added.model_validate(job.imported or {})

    # --- Comparing ----------------------------------------------------------------------------------------

    def next(self, slug: str, count: int = 1) -> Next:
        """The pairs that you hold; ``nothing`` says why there is none."""
        return self.send(calls.next_pairs(slug, count))

    def judge(
        self, slug: str, lease: Lease | UUID, answer: str, *, strength: int | None = None,
        criteria: dict[str, str] | None = None, rationale: str | None = None, flags: list[str] | None = None,
        lead_time: float | None = None,
    ) -> Judgment:  # fmt: skip
        """Answer left, right, tie or both_bad; ``lead_time`` in seconds."""
        given = {"criteria": criteria, "rationale": rationale, "flags": flags, "lead_time": lead_time}
        return self.send(calls.judge(slug, id_of(lease), answer=answer, strength=strength, **given))

    def skip(self, slug: str, lease: Lease | UUID, reason: str = "", note: str = "") -> None:
        self.send(calls.skip(slug, id_of(lease), reason, note))

    def undo(self, slug: str) -> Lease:
        return self.send(calls.undo(slug))

    def renew(self, slug: str) -> None:
        self.send(calls.renew(slug))

    def acknowledge_guidelines(self, slug: str, version: int) -> None:
        self.send(calls.acknowledge(slug, version))

    # --- The reward model ---------------------------------------------------------------------------------

    def score(self, slug: str, items: Sequence[tuple[PromptText, str]], wait: float = 300.0) -> list[Reward]:
        """Rewards of (prompt, response) items, in their order. Rewards compare responses to one prompt."""
        deadline, found = time.monotonic() + wait, list[Reward]()
        for part in calls.parts(items):
            scores = self.send(calls.score(slug, part, WAIT))
            again = calls.scores(slug, scores.id)
            found += self._when_done(scores, again, deadline).rewards
        return found

    def best_of(self, slug: str, prompt: PromptText, responses: Sequence[str], wait: float = 300.0) -> Best:
        found = self.send(calls.best_of(slug, prompt, responses, WAIT))
        done: Best = self._when_done(found, calls.best(slug, found.id), time.monotonic() + wait)
        return done

    def _when_done(self, found: Scores | Best, again: Call[Any], deadline: float) -> Any:
        pause = 0.1
        while found.state == "waiting":
            if time.monotonic() > deadline:
                raise Failed(f"Scoring {found.id} is not done yet; no worker may be free.")
            time.sleep(pause := min(pause * 1.5, 2.0))
            found = self.send(again)
        return found

    def estimator(self, slug: str) -> Learning:
        return self.send(calls.estimator(slug))

    def label_efficiency(self, slug: str) -> LabelEfficiency:
        return self.send(calls.label_efficiency(slug))

    # --- Serving users ------------------------------------------------------------------------------------

    def ask(
        self,
        slug: str,
        prompt: PromptText,
        candidates: Sequence[str | dict[str, str]] = (),
        wait: float = 120.0,
    ) -> ServedRequest:
        """What to show a user; candidates are texts or {"text", "source"}, or none for the project's generators."""
        deadline, found = time.monotonic() + wait, self.send(calls.ask(slug, prompt, candidates, WAIT))
        while found.state in ("generating", "waiting"):
            if time.monotonic() > deadline:
                raise Failed(f"Request {found.id} is not answered yet.")
            time.sleep(0.2)
            found = self.send(calls.asked(slug, found.id))
        return found

    def choose(
        self, slug: str, request: ServedRequest, answer: str, *, lead_time: float | None = None
    ) -> Feedback:
        """What the user chose: left is the first response that was shown."""
        return self.send(calls.choose(slug, request.id, answer=answer, lead_time=lead_time))

    # --- Taking data away ---------------------------------------------------------------------------------

    def download(
        self, slug: str, path: Path | str, kind: str = "trl", format: str = "jsonl", **filters: Any
    ) -> Path:
        """An export as it is made, into a file that is whole or not there."""
        return self._save(f"/projects/{slug}/exports/{kind}.{format}", filters, Path(path))

    def export(
        self, slug: str, folder: Path | str, progress: JobProgress | None = None, **wanted: Any
    ) -> list[Path]:
        """An export as a job, for large projects: its files (the data, a card) in a folder."""
        job = self.wait_for(slug, self.send(calls.start_export(slug, **wanted)), progress)
        return [
            self._save(
                f"/projects/{slug}/jobs/{job.id}/files/{file.name}", {}, Path(folder) / Path(file.name).name
            )
            for file in job.files
        ]

    def _save(self, address: str, query: dict[str, Any], path: Path) -> Path:
        part = path.with_name(path.name + ".part")
        response = self._answered(self.http.build_request("GET", address, params=query), stream=True)
        try:
            with part.open("wb") as file:
                for piece in response.iter_bytes():
                    file.write(piece)
            part.replace(path)
        finally:
            response.close()
            part.unlink(missing_ok=True)
        return path

    def jobs(self, slug: str, state: str | None = None) -> Iterator[Job]:
        return self._pages(lambda cursor: calls.jobs(slug, cursor, state))

    def job(self, slug: str, job_id: int) -> Job:
        return self.send(calls.job(slug, job_id))

    def cancel(self, slug: str, job_id: int) -> Job:
        return self.send(calls.cancel(slug, job_id))

    def wait_for(self, slug: str, job: Job, progress: JobProgress | None = None) -> Job:
        """The job when it is done; it failing or being cancelled is an exception."""
        pause = 0.1
        while True:
            if progress:
                progress(job)
            if job.state == "done":
                return job
            if job.has_ended:
                raise Failed(f"Job {job.id} ({job.kind}) {job.state}: {job.message}")
            time.sleep(pause := min(pause * 1.5, 3.0))
            job = self.job(slug, job.id)


def id_of(lease: Lease | UUID) -> UUID:
    return lease.id if isinstance(lease, Lease) else lease
