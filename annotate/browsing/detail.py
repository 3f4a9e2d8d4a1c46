"""One prompt's responses by reward, and one comparison's judgments, each with the answers it replaced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from django.db.models import F

from annotate.browsing.people import who
from annotate.models import Comparison, Estimator, Finding, Judgment, Project, Prompt, Response

MOST_RESPONSES = 100
MOST_COMPARISONS = 100
MOST_JUDGMENTS = 200


@dataclass(frozen=True)
class Ranked:
    """A response with its reward, and where that and its interval lie between the prompt's least and greatest limit."""

    response: Response
    place: int | None
    value: float | None = None
    low: float | None = None
    high: float | None = None
    at: tuple[float, float, float] = (0.0, 0.0, 0.0)


def ranked(prompt: Prompt) -> list[Ranked]:
    """Best reward first; those without one at the end."""
    rows = Response.objects.filter(prompt=prompt).select_related("reward")
    found = list(rows.order_by(F("reward__reward").desc(nulls_last=True), "position")[:MOST_RESPONSES])
    rewards = [row.reward for row in found if hasattr(row, "reward")]
    least, most = min((r.low for r in rewards), default=0.0), max((r.high for r in rewards), default=1.0)
    span = (most - least) or 1.0
    return [placed(row, place, least, span) for place, row in enumerate(found, start=1)]


def placed(row: Response, place: int, least: float, span: float) -> Ranked:
    if not hasattr(row, "reward"):
        return Ranked(row, None)
    given = row.reward
    at = tuple(round(100 * (value - least) / span, 2) for value in (given.low, given.reward, given.high))
    return Ranked(row, place, given.reward, given.low, given.high, (at[0], at[1], at[2]))


def rewards_step(project: Project) -> tuple[int, int] | None:
    """The step of the log at which the rewards were written, and the step that the estimator has reached."""
    written = Finding.objects.filter(project=project, name="rewards").values_list("step", flat=True).first()
    if written is None:
        return None
    live = Estimator.objects.filter(project=project, role="production", feature_version__state="live")
    return written, live.values_list("step", flat=True).first() or written


@dataclass
class History:
    """A judgment that stands, or that was taken back, and what stood in its place before, newest first."""

    judgment: Judgment
    who: str
    before: list[Judgment] = field(default_factory=list)


def histories(comparison: Comparison, names: Mapping[int, str], is_admin: bool) -> list[History]:
    rows = Judgment.objects.filter(comparison=comparison).select_related("annotator", "lease")
    found = {row.pk: row for row in rows.order_by("-id")[:MOST_JUDGMENTS]}
    replaced = {row.replaces_id for row in found.values()}
    heads = [History(row, who(row, names, is_admin)) for row in found.values() if row.pk not in replaced]
    for head in heads:
        older = found.get(head.judgment.replaces_id or 0)
        while older is not None:
            head.before.append(older)
            older = found.get(older.replaces_id or 0)
    return heads
