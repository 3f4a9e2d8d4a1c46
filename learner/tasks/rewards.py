"""Rewards of every response as rows, for people to browse: written now and then, never at every judgment.

They are the production estimator's at the step in the finding ``rewards``. Writing 400,000 takes seconds, so the next
writing waits twenty times as long as the last one took: at most a twentieth of the worker's time goes there.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from django.db import connection, transaction

from annotate.models import Finding, Response, ResponseReward
from learner.features import centre_by_prompt
from learner.tasks.states import ProjectState

Array = npt.NDArray[np.float64]
BATCH = 2_000
CHUNK = 20_000
NORMAL_95 = 1.96
PATIENCE = 20.0


def write_rewards(state: ProjectState, at_once: bool = True) -> bool:
    """Write all rewards if the log has grown since and it is time again; whether something is left to be written.

    Where judgments wait for their turn, one batch at every call, so that they wait no longer than for that.
    """
    if state.writing is None and is_due(state):
        state.writing = batches(state)
    if state.writing is None:
        return False
    for _batch in state.writing:
        if not at_once:
            return True
    state.writing = None
    return False


def is_due(state: ProjectState) -> bool:
    """Whether it is time again, and something was learned since."""
    if time.monotonic() < state.rewards_due or not state.reader.counts["production"]:
        return False
    found = Finding.objects.filter(project=state.project, name="rewards")
    written = found.values_list("data", flat=True).first()
    return written is None or written.get("of") != learned(state)


def learned(state: ProjectState) -> list[int]:
    return [state.step, state.estimators["production"].generation, len(state.prompt)]


def batches(state: ProjectState) -> Iterator[int]:
    """Write the rewards of this step, batch by batch, then the step; the seconds in between are not counted."""
    took, began = 0.0, time.monotonic()
    step, now = state.step, learned(state)
    reward, half = rewards(state)
    for start in range(0, len(reward), BATCH):
        stop = min(start + BATCH, len(reward))
        write_batch(state, start, reward[start:stop], half[start:stop])
        took += time.monotonic() - began
        yield stop
        began = time.monotonic()
    data = {"of": now, "responses": len(reward)}
    Finding.objects.update_or_create(
        project=state.project, name="rewards", defaults={"step": step, "data": data}
    )
    state.rewards_due = time.monotonic() + PATIENCE * took


def rewards(state: ProjectState) -> tuple[Array, Array]:
    """phi . theta less its prompt's mean, and 1.96 |phi - mean|_P, of every response. O(M d^2)."""
    bank = state.reader.banks["production"]
    reward, half = np.zeros(len(state.prompt)), np.zeros(len(state.prompt))
    for rows in whole_prompts(state.prompt):
        centred = centre_by_prompt(state.reader.features[rows], state.prompt[rows])
        reward[rows] = centred @ bank.theta
        half[rows] = NORMAL_95 * bank.width(centred)
    return reward, half


def whole_prompts(prompt: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
    """All rows in chunks that tear no prompt apart."""
    order = np.argsort(prompt, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(prompt[order]) != 0])
    begin = 0
    for start in [*starts[1:].tolist(), len(order)]:
        if start - begin >= CHUNK or start == len(order):
            yield order[begin:start]
            begin = start


def write_batch(state: ProjectState, start: int, reward: Array, half: Array) -> None:
    """Positions from ``start`` on, in one short transaction."""
    rows = Response.objects.filter(
        project=state.project, position__gte=start, position__lt=start + len(reward)
    ).order_by("position")
    table = ResponseReward._meta.db_table
    sql = (
        f"INSERT INTO {table} (response_id, project_id, reward, low, high) VALUES (%s, %s, %s, %s, %s) "  # noqa: S608
        "ON CONFLICT (response_id) DO UPDATE SET reward = excluded.reward, low = excluded.low, high = excluded.high"
    )
    places = rows.values_list("pk", "position")
    values = [
        (pk, state.project.pk, float(r), float(r - h), float(r + h))
        for pk, r, h in ((pk, reward[at - start], half[at - start]) for pk, at in places)
    ]
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.executemany(sql, values)
