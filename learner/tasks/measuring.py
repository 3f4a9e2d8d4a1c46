"""Measuring beside learning: curves, findings and annotators are measured on a copy of the state, by a thread.

Learning then waits only for the copy, O(d^2), and not for bootstraps over thousands of judgments. What was measured
is written when it is done, a moment behind the log, and the learner is rung, so that rewards and reports follow.
"""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass

from django.db import connections

from annotate.celery import ring
from annotate.models import FeatureVersion
from learner.log import Curve
from learner.tasks.evaluating import evaluate, is_to_evaluate
from learner.tasks.locks import exclusive
from learner.tasks.ringing import ring_later
from learner.tasks.states import ProjectState
from learner.tasks.trusting import is_to_measure_annotators, measure_annotators

logger = logging.getLogger(__name__)

LOCK = "measure"  # whoever holds it may write what is measured: one at a time for each project
SHARE_OF_TIME = 0.1  # that measuring may take of a worker that learns, however quickly judgments come
_measurer = ThreadPoolExecutor(1, thread_name_prefix="measuring")


@dataclass(frozen=True)
class Due:
    """What is to be measured."""

    curves: bool
    annotators: bool


def due(state: ProjectState) -> Due:
    return Due(is_to_evaluate(state), is_to_measure_annotators(state))


def measure_now(state: ProjectState) -> bool:
    """Measure what is due, and wait for it; whether curves and findings are new. Not while a thread measures."""
    what = due(state)
    with exclusive(LOCK, state.project.pk) as held:
        if not held:
            return False
        measure(state, what)
    note(state, what)
    return what.curves


def measure_in_turn(state: ProjectState) -> bool:
    """Let a thread measure what is due, when it is measuring's turn; whether curves and findings are new since.

    What is due earlier is asked for again when its turn comes.
    """
    if state.measuring is not None:
        if not state.measuring.done():
            return False
        ended, state.measuring = state.measuring, None
        return ended.result()
    what, now = due(state), time.monotonic()
    if not (what.curves or what.annotators):
        return False
    if now < state.measure_after:
        ring_later(state.project.pk, state.measure_after - now)
        return False
    taken = frozen(state)
    note(state, what)
    state.measuring = _measurer.submit(_measure_beside, state, taken, what)
    return False


def wait_for_measuring(state: ProjectState) -> None:
    """Until what a thread measures is written."""
    if state.measuring is not None:
        state.measuring.result()


def measure(state: ProjectState, what: Due) -> None:
    if what.curves:
        evaluate(state)
    if what.annotators:
        measure_annotators(state)


def note(state: ProjectState, what: Due) -> None:
    """Remember up to where it is measured."""
    if what.curves:
        state.evaluated = state.measurable()
    if what.annotators:
        state.trusted = state.step, state.own


def frozen(state: ProjectState) -> ProjectState:
    """What measuring reads, as it is now; learning goes on in the original."""
    taken = copy(state)
    taken.reader = copy(state.reader)
    taken.reader.banks = {"production": state.reader.banks["production"].in_use()}
    taken.reader.curves = {
        role: Curve(list(curve.counts), list(curve.thetas)) for role, curve in state.reader.curves.items()
    }
    taken.held_out = list(state.held_out)
    return taken


def is_live(taken: ProjectState) -> bool:
    """Whether no other feature version was switched to since: what this one measures is shown no more."""
    return FeatureVersion.objects.filter(pk=taken.version.pk, state=FeatureVersion.State.LIVE).exists()


def _measure_beside(state: ProjectState, taken: ProjectState, what: Due) -> bool:
    """Measure the copy; what it found out about the pool is kept for the next time."""
    began = time.monotonic()
    try:
        with exclusive(LOCK, state.project.pk) as held:
            wanted = held and is_live(taken)
            if wanted:
                measure(taken, what)
        state.sources, state.tags, state.named = taken.sources, taken.tags, taken.named
        return wanted and what.curves
    except Exception:
        logger.exception("project %s could not be measured", state.project.pk)
        return False
    finally:
        state.measure_after = began + (time.monotonic() - began) / SHARE_OF_TIME
        connections.close_all()
        ring("absorb", state.project.pk)
