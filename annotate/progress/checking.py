"""What the model page and the dashboard say of feature versions, comparisons and refits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _

from annotate import versions
from annotate.models import Evaluation, FeatureVersion, Job, Project, Refit
from annotate.progress.learned import interval_text

Limits = tuple[float | None, float | None, float | None]
KINDS = (Job.Kind.BUILD, Job.Kind.REFIT, Job.Kind.FINE_TUNE, Job.Kind.MODEL)
REFITS_SHOWN = 8
STATE_TONES = {"live": "good", "ready": "accent", "building": "warn", "retired": ""}


@dataclass(frozen=True)
class Shown:
    """A feature version as the page has it."""

    version: FeatureVersion
    tone: str
    bytes: int
    learned: int
    log_loss: tuple[str, str]
    accuracy: tuple[str, str]
    held_out: int
    compared: str
    refitted: str
    verdict: str
    job: Job | None

    @property
    def can_switch(self) -> bool:
        return self.version.state in ("ready", "retired") and bool(self.version.embedded) and self.job is None


def shown(project: Project) -> list[Shown]:
    """Every version, the live one first, then the newest."""
    found = project.feature_versions.exclude(state="retired", embedded=0).order_by("-id")
    newest: dict[int, Evaluation] = {}
    learned: dict[int, int] = {}
    for row in Evaluation.objects.filter(
        estimator__project=project, estimator__role="production"
    ).select_related("estimator"):
        newest[row.estimator.feature_version_id] = row
    for pk, count in project.estimators.filter(role="production").values_list("feature_version", "judgments"):
        learned[pk] = count
    rows = [one(version, newest.get(version.pk), learned.get(version.pk, 0)) for version in found]
    return sorted(rows, key=lambda row: row.version.state != "live")


def one(version: FeatureVersion, measured: Evaluation | None, learned: int) -> Shown:
    metrics = measured.metrics if measured else {}
    found = version.comparison if version.state != "live" else {}
    return Shown(
        version=version,
        tone=STATE_TONES[version.state],
        bytes=versions.bytes_of(version),
        learned=learned,
        log_loss=parted(interval_text(limits(metrics, "log_loss"))),
        accuracy=parted(interval_text(limits(metrics, "accuracy"), "accuracy")),
        held_out=measured.held_out if measured else 0,
        compared=compared_sentence(found),
        refitted=refitted_sentence(found),
        verdict=str(found.get("verdict", "")),
        job=versions.open_job(version),
    )


def parted(text: str) -> tuple[str, str]:
    """A value and its interval, apart."""
    value, _space, interval = text.partition(" ")
    return value, interval


def limits(metrics: Mapping[str, Any], name: str) -> Limits:
    value, low, high = metrics.get(name) or (None, None, None)
    return value, low, high


def compared_sentence(found: Mapping[str, Any]) -> str:
    """What the comparison with the live version says, with its interval."""
    if not found:
        return ""
    if found.get("verdict") == "unknown":
        return _("There are too few evaluation judgments to compare it with the live version.")
    values = found["one_pass"]
    before, after = (number(each[0]) for each in values["log_loss"])
    words = {
        "better": _(
            "It predicts the evaluation judgments better than the live version: log-loss %(after)s against %(before)s."
        ),
        "worse": _(
            "It predicts the evaluation judgments worse than the live version: log-loss %(after)s against %(before)s."
        ),
        "open": _("It cannot be told from the live version yet: log-loss %(after)s against %(before)s."),
    }[found["verdict"]] % {"after": after, "before": before}
    gap = _("Live less new: %(gap)s, on %(held)s judgments, prompts resampled.") % {
        "gap": interval_text(limits(values, "log_loss_gap")),
        "held": f"{found['held_out']:,}",
    }
    return f"{words} {gap}"


def refitted_sentence(found: Mapping[str, Any]) -> str:
    """The same comparison with both versions refitted by maximum likelihood."""
    if "refit" not in found:
        return ""
    before, after = (number(each[0]) for each in found["refit"]["log_loss"])
    return _("Both refitted: log-loss %(after)s against %(before)s, live less new %(gap)s.") % {
        "after": after,
        "before": before,
        "gap": interval_text(limits(found["refit"], "log_loss_gap")),
    }


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


@dataclass(frozen=True)
class Check:
    """A refit: the one-pass state beside maximum likelihood."""

    row: Refit
    gap: str
    accuracy_gap: str
    cosine: str

    @property
    def tone(self) -> str:
        return "warn" if self.row.is_alarming else "" if self.is_early else "good"

    @property
    def is_early(self) -> bool:
        """Whether the first steps of one-pass still weigh, so that a gap is no alarm."""
        return self.row.judgments < versions.GAP_FROM

    @property
    def sentence(self) -> str:
        if self.row.is_alarming:
            return _(
                "The one-pass estimate is behind its refit: look at the newest judgments, and at lambda, "
                "before trusting intervals."
            )
        if self.is_early:
            return _(
                "It is early: under %(count)d judgments the one-pass estimate still lags behind the refit."
            ) % {"count": versions.GAP_FROM}
        if limits(self.row.metrics, "log_loss_gap")[0] is None:
            return _("There are too few evaluation judgments to measure the gap.")
        return _("The one-pass estimate keeps up with the refit.")


def checks(project: Project) -> list[Check]:
    """The newest refits of the live version."""
    rows = Refit.objects.filter(feature_version__project=project, feature_version__state="live")
    return [check(row) for row in rows.order_by("-id")[:REFITS_SHOWN]]


def check(row: Refit) -> Check:
    cosine = row.metrics.get("cosine")
    accuracy = limits(row.metrics, "accuracy_gap")
    return Check(
        row=row,
        gap=interval_text(limits(row.metrics, "log_loss_gap")),
        accuracy_gap=interval_text(accuracy, "accuracy"),
        cosine="–" if cosine is None else f"{cosine:.3f}",
    )


def newest_check(project: Project) -> Check | None:
    rows = Refit.objects.filter(feature_version__project=project, feature_version__state="live")
    row = rows.order_by("-id").first()
    return check(row) if row else None


def model_jobs(project: Project) -> tuple[list[Job], list[Job]]:
    """The jobs of this page: those that are open, and the newest that ended."""
    mine = project.jobs.filter(kind__in=KINDS).select_related("created_by").order_by("-id")
    newest = list(mine[:8])
    return [job for job in newest if job.is_open], [job for job in newest if not job.is_open][:3]
