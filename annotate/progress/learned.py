"""What the learner measured: the two arms compared, the production curve, rewards by source. Its rows, unchanged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from django.db.models import QuerySet
from django.utils.text import Truncator
from django.utils.translation import gettext as _

from annotate.models import Evaluation, FeatureVersion, Project
from annotate.progress.figures import Cell, Column, Figure

# When the learner gives its first verdict (learner.efficiency and learner.log; a test compares them).
FIRST_CHECKPOINT = 25
FIRST_VERDICT = 30
FIRST_VERDICT_PROMPTS = 20
ACTIVE, CONTROL, PRODUCTION = "active", "control", "production"
UNKNOWN = (None, None, None)
LONGEST_NAME = 40


@dataclass(frozen=True)
class Point:
    """An estimator after so many judgments, measured on so many held-out ones."""

    judgments: int
    held_out: int
    metrics: Mapping[str, Any]

    def limits(self, metric: str) -> tuple[float | None, float | None, float | None]:
        value, low, high = self.metrics.get(metric) or UNKNOWN
        return value, low, high


@dataclass(frozen=True)
class Curves:
    """Every estimator's points, by role."""

    points: dict[str, list[Point]] = field(default_factory=dict)

    def of(self, role: str) -> list[Point]:
        return self.points.get(role, [])

    @cached_property
    def shared(self) -> list[int]:
        """The counts that both arms have reached."""
        return sorted({p.judgments for p in self.of(ACTIVE)} & {p.judgments for p in self.of(CONTROL)})

    def compared(self, role: str) -> list[Point]:
        """An arm's points at the shared counts; all that it has while the other has none."""
        return [p for p in self.of(role) if not self.shared or p.judgments in self.shared]

    @cached_property
    def judged(self) -> Point | None:
        """The active arm's point with the newest verdict."""
        return next((p for p in reversed(self.of(ACTIVE)) if p.metrics.get("sentence")), None)

    @property
    def newest(self) -> Point | None:
        return self.of(PRODUCTION)[-1] if self.of(PRODUCTION) else None


def measured_rows(project: Project) -> QuerySet[Evaluation]:
    live = FeatureVersion.State.LIVE
    return Evaluation.objects.filter(estimator__project=project, estimator__feature_version__state=live)


def curves(project: Project) -> Curves:
    rows = measured_rows(project).order_by("judgments")
    points: dict[str, list[Point]] = {}
    for role, *values in rows.values_list("estimator__role", "judgments", "held_out", "metrics"):
        points.setdefault(role, []).append(Point(*values))
    return Curves(points)


METRICS = {"log-loss": "log_loss", "accuracy": "accuracy"}


def efficiency_figure(found: Curves, name: str) -> Figure:
    """One metric of the active and the control estimator at equal counts, with intervals."""
    form = "share" if name == "accuracy" else ".3f"
    columns = [Column("judgments", _("Judgments learned from"), "count")]
    for role, title in ((ACTIVE, _("Active")), (CONTROL, _("Control"))):
        limits = (("", title), ("_low", _("low")), ("_high", _("high")))
        columns += [Column(role + end, word, form) for end, word in limits]
    by_count: dict[int, dict[str, Point]] = {}
    for role in (ACTIVE, CONTROL):
        for point in found.compared(role):
            by_count.setdefault(point.judgments, {})[role] = point
    rows = tuple((n, *both(by_count[n], METRICS[name])) for n in sorted(by_count))
    title = _("Log-loss: lower is better") if name == "log-loss" else _("Accuracy: higher is better")
    return Figure(name, title, efficiency_alt(found, name), tuple(columns), rows)


def both(points: dict[str, Point], metric: str) -> tuple[float | None, ...]:
    return tuple(
        limit
        for role in (ACTIVE, CONTROL)
        for limit in (points[role].limits(metric) if role in points else UNKNOWN)
    )


def efficiency_alt(found: Curves, name: str) -> str:
    if not found.shared:
        return _(
            "Both arms must have learned from %(count)d judgments before their curves can be compared."
        ) % {"count": FIRST_CHECKPOINT}
    ends = {role: found.compared(role)[-1] for role in (ACTIVE, CONTROL)}
    values = {role: interval_text(point.limits(METRICS[name]), name) for role, point in ends.items()}
    return _(
        "%(metric)s on %(held)s evaluation judgments against judgments learned from. "
        "At %(count)s judgments: active %(active)s, control %(control)s."
    ) % {
        "metric": name.capitalize(),
        "held": f"{ends[ACTIVE].held_out:,}",
        "count": f"{found.shared[-1]:,}",
        **values,
    }


def interval_text(limits: tuple[float | None, float | None, float | None], name: str = "log-loss") -> str:
    """0.532 (0.498 to 0.566), or 78.1% (75.0% to 81.0%)."""
    form = "{:.1%}" if name == "accuracy" else "{:.3f}"
    value, low, high = limits
    if value is None:
        return "–"
    if low is None or high is None:
        return form.format(value)
    return f"{form} ({form} to {form})".format(value, low, high)


def production_figure(found: Curves) -> Figure:
    """Log-loss of the estimator that is taken away, against all judgments it learned from."""
    points = found.of(PRODUCTION)
    columns = (
        Column("judgments", _("Judgments learned from"), "count"),
        Column("log_loss", _("Log-loss"), ".3f"),
        Column("low", _("low"), ".3f"),
        Column("high", _("high"), ".3f"),
        Column("accuracy", _("Accuracy"), "share"),
        Column("accuracy_low", _("low"), "share"),
        Column("accuracy_high", _("high"), "share"),
    )
    rows = tuple((p.judgments, *p.limits("log_loss"), *p.limits("accuracy")) for p in points)
    alt = _("The curve begins when the estimator has learned from %(count)d judgments.") % {
        "count": FIRST_CHECKPOINT
    }
    if points:
        alt = _(
            "Log-loss of the production estimator falls from %(first)s to %(last)s after %(count)s judgments."
        )
        alt = (
            alt
            if (points[0].limits("log_loss")[0] or 0) >= (points[-1].limits("log_loss")[0] or 0)
            else _(
                "Log-loss of the production estimator rises from %(first)s to %(last)s after %(count)s judgments."
            )
        )
        alt %= {
            "first": interval_text(points[0].limits("log_loss")),
            "last": interval_text(points[-1].limits("log_loss")),
            "count": f"{points[-1].judgments:,}",
        }
    return Figure("production", _("Log-loss of the production estimator"), alt, columns, rows)


@dataclass(frozen=True)
class Rewards:
    sentence: str
    figure: Figure


Sources = list[tuple[str, int, float, float, float]]
"""Source, responses, mean reward and its limits."""


def rewards(sources: Sources) -> Rewards:
    figure = sources_figure(sources)
    return Rewards(best_sentence(figure.records), figure)


def shortened(source: str) -> str:
    """A name that fits into a sentence: a response that many models gave has all their names."""
    return Truncator(source).chars(LONGEST_NAME)


def best_sentence(sources: list[dict[str, Any]]) -> str:
    """Which source is best, and which others cannot be told from it."""
    if not sources:
        return _("Nothing yet.")
    best = sources[0]
    text = _("%(best)s: its mean reward is at least %(low)s, %(reward)s by the best estimate.") % {
        "best": shortened(best["source"]),
        "low": f"{best['low']:+.2f}",
        "reward": f"{best['reward']:+.2f}",
    }
    rivals = [one["source"] for one in sources[1:] if one["high"] > best["low"]]
    if not rivals:
        return text + " " + _("Its interval lies above all others.")
    names = ", ".join(map(shortened, rivals[:4])) + (" …" if len(rivals) > 4 else "")
    return text + " " + _("The intervals of these reach into its own: %(names)s.") % {"names": names}


def rewards_figure(project: Project) -> Figure:
    return sources_figure(
        list(project.source_rewards.values_list("source", "responses", "reward", "low", "high"))
    )


def sources_figure(sources: Sources, most: int = 40) -> Figure:
    """Sources by their pessimistic value: the lower limit of the mean reward."""
    order = sorted(sources, key=lambda row: (-row[3], row[0]))
    rows: tuple[tuple[Cell, ...], ...] = tuple(order[:most])
    columns = (
        Column("source", _("Source")),
        Column("responses", _("Responses"), "count"),
        Column("reward", _("Mean reward"), ".2f"),
        Column("low", _("low"), ".2f"),
        Column("high", _("high"), ".2f"),
    )
    alt = _("Rewards appear when the production estimator has been measured for the first time.")
    if rows:
        first, last = rows[0], rows[-1]
        alt = _(
            "Mean reward of %(count)d sources with 95%% intervals, from %(first)s at %(high)s to %(last)s at %(low)s."
        ) % {
            "count": len(rows),
            "first": first[0],
            "last": last[0],
            "high": f"{first[2]:.2f}",
            "low": f"{last[2]:.2f}",
        }
    return Figure("rewards", _("Mean reward by source, best lower limit first"), alt, columns, rows, "list")
