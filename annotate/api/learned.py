"""What was learned: the estimators' state, label efficiency with its curves, rewards by source."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.http import HttpRequest
from ninja import Router, Schema

from annotate.api.bearer import Bearer, project_of
from annotate.api.tagging import TAGGED, tagged
from annotate.models import Estimator, FeatureVersion, Judgment, Project, Role
from annotate.progress.learned import ACTIVE, CONTROL, PRODUCTION, Curves, Point, curves

router = Router(tags=["Learning"])
METRICS = ("log_loss", "accuracy", "ece", "gap")


class Limits(Schema):
    """A value with its 95 % interval; null where it is not known."""

    value: float | None
    low: float | None
    high: float | None


class PointOut(Schema):
    """An estimator after so many judgments, measured on so many held-out ones."""

    judgments: int
    held_out: int
    metrics: dict[str, Limits]


class EstimatorOut(Schema):
    role: str
    step: int
    judgments: int
    regularization: float | None
    digest: str
    generation: int
    updated_at: datetime
    evaluation: PointOut | None


class LearningOut(Schema):
    """``waiting``: judgments that no estimator has read yet. The digest is of the production estimator's state."""

    waiting: int
    encoder: str | None
    feature_version: int | None
    dimension: int | None
    estimators: list[EstimatorOut]


class EfficiencyOut(Schema):
    """Whether choosing pairs beat drawing them at random, and the curves that say so."""

    verdict: str | None
    sentence: str | None
    gap: Limits | None
    labels_saved: Limits | None
    curves: dict[str, list[PointOut]]


class SourceOut(Schema):
    source: str
    responses: int
    reward: float
    low: float
    high: float
    step: int


class SourcesOut(Schema):
    sources: list[SourceOut]


@router.get(
    "/projects/{slug:slug}/estimator", auth=Bearer("read"), response=LearningOut, openapi_extra=TAGGED
)
def get_estimator(request: HttpRequest, slug: str) -> Any:
    """Where the estimators are: step, judgments, lambda, digest, and their newest evaluation."""
    project = project_of(request, slug, Role.REVIEWER)
    version = FeatureVersion.objects.filter(project=project, state=FeatureVersion.State.LIVE).first()
    found = curves(project)
    rows = (
        Estimator.objects.filter(project=project, feature_version=version).order_by("pk") if version else []
    )
    value = LearningOut(
        waiting=Judgment.objects.filter(project=project, absorbed_step=None, replaced_at=None).count(),
        encoder=version.encoder if version else None,
        feature_version=version.pk if version else None,
        dimension=version.dimension if version else None,
        estimators=[estimator_out(row, found) for row in rows],
    )
    return tagged(request, value)


def estimator_out(row: Estimator, found: Curves) -> EstimatorOut:
    points = found.of(row.role)
    return EstimatorOut(
        role=row.role,
        step=row.step,
        judgments=row.judgments,
        regularization=row.regularization,
        digest=row.digest,
        generation=row.generation,
        updated_at=row.updated_at,
        evaluation=point_out(points[-1]) if points else None,
    )


def point_out(point: Point) -> PointOut:
    metrics = {name: limits(point.limits(name)) for name in METRICS if name in point.metrics}
    return PointOut(judgments=point.judgments, held_out=point.held_out, metrics=metrics)


def limits(found: tuple[float | None, float | None, float | None]) -> Limits:
    value, low, high = found
    return Limits(value=value, low=low, high=high)


@router.get(
    "/projects/{slug:slug}/label-efficiency",
    auth=Bearer("read"),
    response=EfficiencyOut,
    openapi_extra=TAGGED,
)
def get_label_efficiency(request: HttpRequest, slug: str) -> Any:
    """The verdict on active collection, with intervals; it may be that random is ahead, or that nobody can tell yet."""
    return tagged(request, efficiency_of(project_of(request, slug, Role.REVIEWER)))


def efficiency_of(project: Project) -> EfficiencyOut:
    found = curves(project)
    judged = found.judged
    saved = judged.metrics.get("labels_saved") if judged else None
    return EfficiencyOut(
        verdict=judged.metrics["verdict"] if judged else None,
        sentence=judged.metrics["sentence"] if judged else None,
        gap=limits(judged.limits("gap")) if judged else None,
        labels_saved=limits(tuple(saved["ratio"])) if saved else None,
        curves={role: [point_out(one) for one in found.of(role)] for role in (ACTIVE, CONTROL, PRODUCTION)},
    )


@router.get("/projects/{slug:slug}/sources", auth=Bearer("read"), response=SourcesOut, openapi_extra=TAGGED)
def get_sources(request: HttpRequest, slug: str) -> Any:
    """Mean reward of every response source, centred per prompt, best lower limit first."""
    rows = project_of(request, slug, Role.REVIEWER).source_rewards.order_by("-low", "source")
    return tagged(request, SourcesOut(sources=[SourceOut.from_orm(row) for row in rows]))
