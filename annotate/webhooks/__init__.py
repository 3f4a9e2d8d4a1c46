"""Telling other programs what happened: rows in the transaction of what they tell of, sent by a worker's thread."""

from annotate.webhooks.telling import (
    notice_budget,
    tell,
    tell_estimator,
    tell_job,
    tell_judgment,
    tell_verdict,
    verdict_of,
)

__all__ = [
    "notice_budget",
    "tell",
    "tell_estimator",
    "tell_job",
    "tell_judgment",
    "tell_verdict",
    "verdict_of",
]
