"""What a row says about a vote: the answer, who gave it, and how."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.utils import timezone
from django.utils.dateparse import parse_datetime

from annotate.errors import TouchstoneError
from annotate.importing import texts
from annotate.importing.rows import Vote, object_of
from annotate.models import Answer


def answer_of(value: Any) -> str:
    if value not in Answer.values:
        words = f"answer is {str(value)[:40]!r}, not one of {', '.join(Answer.values)}."
        raise TouchstoneError(words, code="answer")
    return str(value)


def vote(row: Mapping[str, Any], a: str, b: str, answer: str) -> Vote:
    """The answer with whatever else the row says about how it came to be."""
    if a == b:
        raise TouchstoneError("the two responses are the same text.", code="same")
    return Vote(
        a,
        b,
        answer,
        annotator=texts.name_of(row.get("annotator"), "annotator"),
        gold=gold_of(row.get("gold")),
        strength=strength_of(row.get("strength"), answer),
        criteria=object_of(row.get("criteria"), "criteria", dict),
        rationale=texts.storable(str(row.get("rationale") or ""), "rationale")[:5_000],
        flags=object_of(row.get("flags"), "flags", list),
        lead_time=seconds_of(row.get("lead_time")),
        created_at=time_of(row.get("created_at")),
    )


def gold_of(value: Any) -> bool:
    """Whether the answer is known to be right, and annotators are measured by it."""
    word = str(value).lower().removesuffix(".0")  # pandas makes floats of booleans where one is missing
    if value is not None and word not in ("true", "false", "1", "0", ""):
        raise TouchstoneError(f"gold is {texts.kind(value)}, not true or false.", code="type")
    return word in ("true", "1")


def strength_of(value: Any, answer: str) -> int | None:
    number = texts.number_of(value, "strength")
    if number is not None and answer not in (Answer.FIRST, Answer.SECOND):
        raise TouchstoneError("strength goes with a better response, not with a tie.", code="number")
    if number is not None and number not in (1, 2, 3):
        raise TouchstoneError(f"strength is {value}, not 1, 2 or 3.", code="number")
    return None if number is None else int(number)


def seconds_of(value: Any) -> float | None:
    number = texts.number_of(value, "lead_time")
    if number is not None and number < 0:
        raise TouchstoneError(f"lead_time is {number}, less than nothing.", code="number")
    return number


def time_of(value: Any) -> datetime | None:
    """A time with its zone (UTC if it has none)."""
    if isinstance(value, str) and value:
        try:
            value = parse_datetime(value)
        except ValueError:
            value = None
        if value is None:
            raise TouchstoneError("created_at is not a time (ISO 8601).", code="time")
    if not isinstance(value, datetime):
        return None
    return timezone.make_aware(value) if timezone.is_naive(value) else value
