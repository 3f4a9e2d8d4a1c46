"""What users were answered: by which rule, with what reward and regret, how often singly, and how far away."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from annotate.models import DeploymentRequest, Judgment, PolicyReport, Project
from annotate.progress.figures import Cell, Column, Figure
from annotate.progress.intervals import Share, quantile

NEWEST = 2_000
BUCKETS = 24
FAR = 1.5
RULES: dict[str, str | Promise] = {
    "optimistic": gettext_lazy("Eq. 6 and 7 (ours)"),
    "random": gettext_lazy("Two at random"),
    "best_two": gettext_lazy("The best two"),
    "best_worst": gettext_lazy("Best and worst"),
    "best_quantile": gettext_lazy("Best and top quarter"),
}


@dataclass(frozen=True)
class Served:
    """One answered request, as much of it as the figures need."""

    created_at: datetime
    is_single: bool
    width: float
    seconds: float


@dataclass(frozen=True)
class Serving:
    requests: int
    failed: int
    judged: int
    singles: Share
    waited: float | None
    sentence: str
    tone: str
    regret: Figure
    reward: Figure
    drift: Figure


def serving(project: Project) -> Serving:
    rows = answered(project)
    requests = DeploymentRequest.objects.filter(project=project)
    row = PolicyReport.objects.filter(project=project).first()
    tone, sentence = in_a_word(rows)
    return Serving(
        requests=requests.count(),
        failed=requests.filter(state=DeploymentRequest.State.FAILED).count(),
        judged=Judgment.objects.filter(
            project=project, comparison__arm="deployment", replaced_at=None
        ).count(),
        singles=Share(sum(one.is_single for one in rows), len(rows)),
        waited=quantile([one.seconds for one in rows], 0.5),
        sentence=sentence,
        tone=tone,
        regret=rules_figure(row, "regret"),
        reward=rules_figure(row, "reward"),
        drift=drift_figure(rows),
    )


def answered(project: Project) -> list[Served]:
    """The newest answered requests, oldest first."""
    found = DeploymentRequest.objects.filter(
        project=project, state=DeploymentRequest.State.ANSWERED
    ).order_by("-created_at")
    columns = found.values_list("created_at", "answered_at", "right_id", "measured")[:NEWEST]
    return [
        Served(asked, right is None, measured["width"], (done - asked).total_seconds())
        for asked, done, right, measured in reversed(columns)
        if measured and done
    ]


def in_a_word(rows: list[Served]) -> tuple[str, str]:
    """Whether users ask about what the model has seen."""
    if len(rows) < 40:
        return "", ngettext(
            "%(count)d request was answered; drift is judged from 40 on.",
            "%(count)d requests were answered; drift is judged from 40 on.",
            len(rows),
        ) % {"count": len(rows)}
    half = len(rows) // 2
    before, lately = (mean([one.width for one in part]) for part in (rows[:half], rows[half:]))
    numbers = {"before": f"{before:.3f}", "lately": f"{lately:.3f}"}
    if lately > FAR * before:
        return "warn", _(
            "Users ask about what the model has not seen: the mean width rose from %(before)s to %(lately)s. "
            "Comparisons on such prompts would help."
        ) % numbers
    return "good", _(
        "Users ask about what the model knows: mean width %(before)s before, %(lately)s lately."
    ) % numbers


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def rules_figure(row: PolicyReport | None, what: str) -> Figure:
    """Mean reward or regret of a request by rule, under the newest report's estimator."""
    entries: list[dict[str, Any]] = [] if row is None else list(row.served)
    entries.sort(key=lambda one: (one["rule"] != "optimistic", one["rule"]))
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (str(RULES.get(one["rule"], one["rule"])), one["requests"], *one[what], one["single"])
        for one in entries
    )
    titles = {
        "regret": _("Regret of a request, by rule: lower is better"),
        "reward": _("Reward of a request, by rule"),
    }
    columns = (
        Column("rule", _("Rule")),
        Column("requests", _("Requests"), "count"),
        Column(what, _("Mean"), ".3f"),
        Column("low", _("low"), ".3f"),
        Column("high", _("high"), ".3f"),
        Column("single", _("Single answers"), "count"),
    )
    alt = _("Shown when requests were answered and the policy report was made after them.")
    if rows:
        said = ", ".join(f"{one[0]} {one[2]:.3f} ({one[3]:.3f} – {one[4]:.3f})" for one in rows)
        alt = _("Under the newest reward model, with 95%% intervals: %(rules)s.") % {"rules": said}
    return Figure(f"served-{what}", titles[what], alt, columns, rows, "list")


def drift_figure(rows: list[Served]) -> Figure:
    """Mean width of the candidates when they were answered, over time; as many requests in each point."""
    size = max(1, -(-len(rows) // BUCKETS))
    parts = [rows[start : start + size] for start in range(0, len(rows), size)]
    by_time: dict[str, list[Served]] = defaultdict(list)
    for part in parts:
        by_time[part[len(part) // 2].created_at.strftime("%Y-%m-%dT%H:%M:%S")] += part
    table: tuple[tuple[Cell, ...], ...] = tuple(
        (at, len(part), mean([one.width for one in part]), sum(one.is_single for one in part) / len(part))
        for at, part in by_time.items()
    )
    columns = (
        Column("at", _("Time (UTC)")),
        Column("requests", _("Requests"), "count"),
        Column("width", _("Mean width"), ".3f"),
        Column("single", _("Single answers"), "share"),
    )
    alt = _("Nobody has asked yet.")
    if table:
        alt = _("Mean width of candidates from %(first)s to %(last)s over %(count)d requests.") % {
            "first": f"{table[0][2]:.3f}",
            "last": f"{table[-1][2]:.3f}",
            "count": len(rows),
        }
    return Figure("drift", _("How far prompts are from what was learned"), alt, columns, table)
