"""What somebody asked an export to hold, as a job's arguments keep it: JSON in, filters and weights out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.utils.dateparse import parse_datetime

from annotate.exporting.files import Wanted
from annotate.exporting.labels import Weigh, one
from annotate.exporting.pages import Filters
from annotate.models import Judgment, Project

WEIGHTS = ("majority", "reliability")


def wanted_by(arguments: Mapping[str, Any]) -> Wanted:
    found = Wanted(
        arguments.get("kind", "trl"), arguments.get("format", "jsonl"), bool(arguments.get("gzip", False))
    )
    found.check()
    return found


def filters_by(arguments: Mapping[str, Any]) -> Filters:
    since = arguments.get("since")
    return Filters(
        arms=tuple(arguments.get("arms", ())),
        splits=tuple(arguments.get("splits", ())),
        tags=tuple(arguments.get("tags", ())),
        min_votes=int(arguments.get("min_votes", 1)),
        min_agreement=float(arguments.get("min_agreement", 0.0)),
        since=parse_datetime(since) if since else None,
    )


def weigh_by(project: Project, how: str) -> Weigh:
    """Every vote the same, or each by what the worker has measured of its annotator; who was not measured counts 1."""
    if how != "reliability":
        return one
    weights = {row.annotator_id: row.weight for row in project.reliabilities.all()}

    def weigh(judgment: Judgment) -> float:
        return weights.get(judgment.annotator_id or 0, 1.0)

    return weigh
