"""The same client for asyncio."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import httpx

from touchstone_client import calls
from touchstone_client.client import WAIT, JobProgress, Progress, id_of
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


class AsyncClient:
    """``async with AsyncClient(url, token) as client``; lists are async iterators, the rest is awaited."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        retries: Retries | None = None,
        timeout: float = 60.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.retries = retries or Retries()
        self.http = httpx.AsyncClient(
            base_url=url.rstrip("/") + "/api/v1",
            headers={"Authorization": f"Bearer {token}"},
            timeout=timeout,
            transport=transport,
        )

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self.http.aclose()

    async def send(self, call: Call[T]) -> T:
        response = await self._answered(call.build(self.http), stream=False)
        return call.read(response.json() if response.content else None)

    async def _answered(self, request: httpx.Request, stream: bool) -> httpx.Response:
        last: httpx.TransportError | None = None
        for attempt in range(self.retries.attempts):
            response = None
            is_last = attempt + 1 == self.retries.attempts
            try:
                response = await self.http.send(request, stream=stream)
                if not response.is_success:
                    await response.aread()
                if not is_worth_again(response) or is_last:
                    return checked(response)
            except httpx.TransportError as error:
                last = error
            if not is_last:
                await asyncio.sleep(self.retries.wait(attempt, response))
        raise Unreachable(f"{request.url.host} did not answer: {last}") from last

    async def _pages(self, page: Callable[[str], Call[Page[T]]]) -> AsyncIterator[T]:
        cursor: str | None = ""
        while cursor is not None:
            found = await self.send(page(cursor))
            for item in found.items:
                yield item
            cursor = found.next

    # --- Projects and their pool --------------------------------------------------------------------------

    def projects(self) -> AsyncIterator[Project]:
        return self._pages(calls.projects)

    async def project(self, slug: str) -> Project:
        return await self.send(calls.project(slug))

    def prompts(self, slug: str, external_id: str = "") -> AsyncIterator[Prompt]:
        return self._pages(lambda cursor: calls.prompts(slug, cursor, external_id))

    def responses(self, slug: str, prompt: int | None = None, source: str = "") -> AsyncIterator[Response]:
        return self._pages(lambda cursor: calls.responses(slug, cursor, prompt, source))

    async def upload(self, slug: str, rows: calls.Rows, progress: Progress | None = None) -> Added:
        total, sent = Added(), 0
        for count, content in calls.portions(rows):
            total += await self.send(calls.lines(slug, content))
            sent += count
            if progress:
                progress(sent)
        return total

    async def import_file(
        self, slug: str, path: Path | str, progress: JobProgress | None = None, **how: Any
    ) -> Added:
        job = await self.wait_for(
            slug, await self.send(calls.start_import(slug, Path(path), **how)), progress
        )
        return Added.model_validate(job.imported or {})

    # --- Comparing ----------------------------------------------------------------------------------------

    async def next(self, slug: str, count: int = 1) -> Next:
        return await self.send(calls.next_pairs(slug, count))

    async def judge(
        self, slug: str, lease: Lease | UUID, answer: str, *, strength: int | None = None,
        criteria: dict[str, str] | None = None, rationale: str | None = None, flags: list[str] | None = None,
        lead_time: float | None = None,
    ) -> Judgment:  # fmt: skip
        given = {"criteria": criteria, "rationale": rationale, "flags": flags, "lead_time": lead_time}
        return await self.send(calls.judge(slug, id_of(lease), answer=answer, strength=strength, **given))

    async def skip(self, slug: str, lease: Lease | UUID, reason: str = "", note: str = "") -> None:
        await self.send(calls.skip(slug, id_of(lease), reason, note))

    async def undo(self, slug: str) -> Lease:
        return await self.send(calls.undo(slug))

    async def renew(self, slug: str) -> None:
        await self.send(calls.renew(slug))

    async def acknowledge_guidelines(self, slug: str, version: int) -> None:
        await self.send(calls.acknowledge(slug, version))

    # --- The reward model ---------------------------------------------------------------------------------

    async def score(
        self, slug: str, items: Sequence[tuple[PromptText, str]], wait: float = 300.0
    ) -> list[Reward]:
        deadline, found = time.monotonic() + wait, list[Reward]()
        for part in calls.parts(items):
            scores = await self.send(calls.score(slug, part, WAIT))
            again = calls.scores(slug, scores.id)
            found += (await self._when_done(scores, again, deadline)).rewards
        return found

    async def best_of(
        self, slug: str, prompt: PromptText, responses: Sequence[str], wait: float = 300.0
    ) -> Best:
        found = await self.send(calls.best_of(slug, prompt, responses, WAIT))
        done: Best = await self._when_done(found, calls.best(slug, found.id), time.monotonic() + wait)
        return done

    async def _when_done(self, found: Scores | Best, again: Call[Any], deadline: float) -> Any:
        pause = 0.1
        while found.state == "waiting":
            if time.monotonic() > deadline:
                raise Failed(f"Scoring {found.id} is not done yet; no worker may be free.")
            await asyncio.sleep(pause := min(pause * 1.5, 2.0))
            found = await self.send(again)
        return found

    async def estimator(self, slug: str) -> Learning:
        return await self.send(calls.estimator(slug))

    async def label_efficiency(self, slug: str) -> LabelEfficiency:
        return await self.send(calls.label_efficiency(slug))

    # --- Serving users ------------------------------------------------------------------------------------

    async def ask(
        self,
        slug: str,
        prompt: PromptText,
        candidates: Sequence[str | dict[str, str]] = (),
        wait: float = 120.0,
    ) -> ServedRequest:
        deadline, found = time.monotonic() + wait, await self.send(calls.ask(slug, prompt, candidates, WAIT))
        while found.state in ("generating", "waiting"):
            if time.monotonic() > deadline:
                raise Failed(f"Request {found.id} is not answered yet.")
            await asyncio.sleep(0.2)
            found = await self.send(calls.asked(slug, found.id))
        return found

    async def choose(
        self, slug: str, request: ServedRequest, answer: str, *, lead_time: float | None = None
    ) -> Feedback:
        return await self.send(calls.choose(slug, request.id, answer=answer, lead_time=lead_time))

    # --- Taking data away ---------------------------------------------------------------------------------

    async def download(
        self, slug: str, path: Path | str, kind: str = "trl", format: str = "jsonl", **filters: Any
    ) -> Path:
        return await self._save(f"/projects/{slug}/exports/{kind}.{format}", filters, Path(path))

    async def export(
        self, slug: str, folder: Path | str, progress: JobProgress | None = None, **wanted: Any
    ) -> list[Path]:
        job = await self.wait_for(slug, await self.send(calls.start_export(slug, **wanted)), progress)
        return [
            await self._save(
                f"/projects/{slug}/jobs/{job.id}/files/{file.name}", {}, Path(folder) / Path(file.name).name
            )
            for file in job.files
        ]

    async def _save(self, address: str, query: dict[str, Any], path: Path) -> Path:
        part = path.with_name(path.name + ".part")
        response = await self._answered(self.http.build_request("GET", address, params=query), stream=True)
        try:
            with part.open("wb") as file:
                async for piece in response.aiter_bytes():
                    file.write(piece)
            part.replace(path)
        finally:
            await response.aclose()
            part.unlink(missing_ok=True)
        return path

    def jobs(self, slug: str, state: str | None = None) -> AsyncIterator[Job]:
        return self._pages(lambda cursor: calls.jobs(slug, cursor, state))

    async def job(self, slug: str, job_id: int) -> Job:
        return await self.send(calls.job(slug, job_id))

    async def cancel(self, slug: str, job_id: int) -> Job:
        return await self.send(calls.cancel(slug, job_id))

    async def wait_for(self, slug: str, job: Job, progress: JobProgress | None = None) -> Job:
        pause = 0.1
        while True:
            if progress:
                progress(job)
            if job.state == "done":
                return job
            if job.has_ended:
                raise Failed(f"Job {job.id} ({job.kind}) {job.state}: {job.message}")
            await asyncio.sleep(pause := min(pause * 1.5, 3.0))
            job = await self.job(slug, job.id)
