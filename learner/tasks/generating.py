"""Writing candidates: a thread of the serving worker takes waiting generations and streams them into rows.

One source that fails does not fail the request: what the others wrote is chosen from. When all have ended, the
candidates enter the pool and the request waits for the scoring thread.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.db import connections, transaction
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from annotate import deploying, statements
from annotate.deploying import Candidate
from annotate.errors import TouchstoneError
from annotate.importing.texts import SURROGATE
from annotate.models import DeploymentRequest, Generation, Generator
from learner.errors import LearnerError
from learner.generators import CausalGenerator
from learner.tasks import endpoint

logger = logging.getLogger(__name__)

AT_ONCE = 8
BETWEEN, BETWEEN_WRITES, BETWEEN_SILENT = 0.05, 0.25, 2.0
SILENT, LATE = timedelta(seconds=45), timedelta(minutes=10)
LONGEST_TEXT = 100_000
OPEN = (Generation.State.WAITING, Generation.State.RUNNING)
_models: dict[str, CausalGenerator] = {}
_one_at_a_time = threading.Lock()


def start() -> None:
    """Serve from a thread of this process until it ends."""
    threading.Thread(target=serve, daemon=True, name="generating").start()


def serve(ended: threading.Event | None = None) -> None:
    """Take what waits, at most so many at once, for ever."""
    writing: dict[int, Future[None]] = {}
    looked = float("-inf")
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="generating") as pool:
        while ended is None or not ended.is_set():
            try:
                writing = {pk: one for pk, one in writing.items() if not one.done()}
                if time.monotonic() - looked > BETWEEN_SILENT:
                    beat(writing)
                    close_silent()
                    looked = time.monotonic()
                while len(writing) < AT_ONCE and statements.generation_waits() and (taken := claim()):
                    writing[taken.pk] = pool.submit(write_and_close, taken)
            except Exception as error:
                logger.warning("generating paused: %s", error)
                connections.close_all()
                time.sleep(1.0)
            time.sleep(BETWEEN)


def write_waiting() -> int:
    """Write what waits now, one after the other; how many there were."""
    count = 0
    while generation := claim():
        write(generation)
        count += 1
    return count


def claim() -> Generation | None:
    """The oldest waiting generation, taken by this worker alone."""
    waiting = Generation.objects.filter(state=Generation.State.WAITING)
    for pk in waiting.order_by("pk").values_list("pk", flat=True)[:AT_ONCE]:
        now = timezone.now()
        if waiting.filter(pk=pk).update(state=Generation.State.RUNNING, started_at=now, heartbeat_at=now):
            return Generation.objects.select_related("generator", "request").get(pk=pk)
    return None


def beat(writing: Iterable[int]) -> None:
    """Keep alive what this worker has taken, also while it waits for its model or an endpoint that says nothing yet."""
    mine = Generation.objects.filter(pk__in=list(writing), state=Generation.State.RUNNING)
    mine.update(heartbeat_at=timezone.now())


def write_and_close(generation: Generation) -> None:
    try:
        write(generation)
    except Exception:
        logger.exception("generation %s failed", generation.pk)
    finally:
        connections.close_all()


def write(generation: Generation) -> None:
    """Stream one response into its row, close it, and hand the request on if it was the last."""
    state, message = Generation.State.FAILED, ""
    try:
        if generation.generator is None:
            raise TouchstoneError("The generator was removed.")
        stream_into(generation, source_of(generation, generation.generator))
        if generation.text.strip():
            state = Generation.State.DONE
        else:
            message = "Nothing was written."
    except (TouchstoneError, LearnerError) as error:
        message = str(error)
    except Exception as error:
        logger.exception("generation %s failed", generation.pk)
        message = type(error).__name__
    Generation.objects.filter(pk=generation.pk).update(
        state=state, text=generation.text, message=message[:500], finished_at=timezone.now()
    )
    hand_on(generation.request_id)


def source_of(generation: Generation, generator: Generator) -> Iterator[str]:
    messages = list(generation.request.messages)
    if generator.instructions:
        messages = [{"role": "system", "content": generator.instructions}, *messages]
    if generator.kind == Generator.Kind.ENDPOINT:
        return endpoint.stream(generator, messages)
    return local(generator, messages, generation.pk)


def local(generator: Generator, messages: list[dict[str, str]], seed: int) -> Iterator[str]:
    """One response at a time: two on the same processors would only be slower."""
    with _one_at_a_time:
        yield from model_named(generator.model).stream(
            messages, generator.longest, generator.temperature, seed
        )


def model_named(name: str) -> CausalGenerator:
    """The model, kept until another is asked for."""
    folder = (settings.MODELS / name).resolve()
    if not folder.is_relative_to(settings.MODELS) or not folder.is_dir():
        raise LearnerError(f"There is no folder {name!r} in this worker's models folder.")
    if name not in _models:
        _models.clear()
        _models[name] = CausalGenerator(folder)
    return _models[name]


def stream_into(generation: Generation, pieces: Iterator[str]) -> None:
    """Write the growing text at once, then a few times a second; a text without end is cut."""
    written = 0.0
    for piece in pieces:
        generation.text += SURROGATE.sub("�", piece).replace("\0", "")
        if len(generation.text) >= LONGEST_TEXT:
            generation.text = generation.text[:LONGEST_TEXT]
            return
        if time.monotonic() - written >= BETWEEN_WRITES:
            written = time.monotonic()
            rows = Generation.objects.filter(pk=generation.pk, state=Generation.State.RUNNING)
            if not rows.update(text=generation.text, heartbeat_at=timezone.now()):
                raise TouchstoneError("It was given up meanwhile.")


def hand_on(request_id: UUID) -> None:
    """When every generation has ended: candidates into the pool, and the request to the scoring thread."""
    with transaction.atomic():
        requests = DeploymentRequest.objects.select_for_update().filter(pk=request_id)
        request = requests.filter(state=DeploymentRequest.State.GENERATING).first()
        rows = list(Generation.objects.filter(request=request_id).order_by("place"))
        if request is None or any(row.state in OPEN for row in rows):
            return
        candidates = [Candidate(row.text, row.source) for row in rows if row.state == Generation.State.DONE]
        if candidates:
            deploying.give_candidates(request, candidates)
            request.state = DeploymentRequest.State.WAITING
        else:
            request.state, request.problem = DeploymentRequest.State.FAILED, "generators"
            request.message = "No generator wrote an answer."
            request.answered_at = timezone.now()
        request.save()


def close_silent() -> None:
    """Give up what a worker that died was writing, and what nobody began in time: its asker has gone.

    A worker can also die between its last answer and the handing on.
    """
    now = timezone.now()
    silent = Q(state=Generation.State.RUNNING, heartbeat_at__lt=now - SILENT)
    late = Q(state=Generation.State.WAITING, request__created_at__lt=now - LATE)
    Generation.objects.filter(silent | late, finished_at=None).update(
        state=Generation.State.FAILED, message="No worker finished it.", finished_at=now
    )
    unfinished = Generation.objects.filter(request=OuterRef("pk"), state__in=OPEN)
    ended = DeploymentRequest.objects.filter(~Exists(unfinished), state=DeploymentRequest.State.GENERATING)
    for request_id in ended.values_list("pk", flat=True):
        try:
            hand_on(request_id)
        except Exception:  # it keeps no other waiting, and is ended after an hour
            logger.exception("request %s could not be handed on", request_id)
