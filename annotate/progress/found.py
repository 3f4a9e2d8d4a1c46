"""The documents that the learn worker leaves for the dashboard's questions, as they are."""

from __future__ import annotations

from typing import Any

from django.db.models import F, Value
from django.db.models.functions import JSONObject

from annotate.models import Agreement, Finding, Project, SourceReward
from annotate.progress.learned import Curves, Point, Sources, measured_rows

Documents = dict[str, dict[str, Any]]
REWARD = ("reward", "low", "high")
AGREED = (
    "criterion",
    "pairs",
    "alpha",
    "alpha_low",
    "alpha_high",
    "pairwise",
    "pairwise_low",
    "pairwise_high",
)


def documents(project: Project) -> Documents:
    return dict(Finding.objects.filter(project=project).values_list("name", "data"))


def measured(project: Project) -> tuple[Curves, Documents, Sources]:
    """The learner's curves, documents and sources by one statement: all are JSON beside a name and two numbers.

    How far annotators agree, question by question, is the document ``agreement``.
    """
    curves, nothing = measured_rows(project).order_by(), Value(0)
    agreed, rewards = (JSONObject(**{name: F(name) for name in names}) for names in (AGREED, REWARD))
    findings, agreements, sources = (
        model.objects.filter(project=project).order_by() for model in (Finding, Agreement, SourceReward)
    )
    rows = curves.values_list(Value("curve"), "estimator__role", "judgments", "held_out", "metrics").union(
        findings.values_list(Value("finding"), "name", "step", nothing, "data"),
        agreements.values_list(Value("agreement"), "criterion", "step", nothing, agreed),
        sources.values_list(Value("source"), "source", "responses", nothing, rewards),
        all=True,
    )
    return sorted_out(list(rows))


def sorted_out(rows: list[tuple[Any, ...]]) -> tuple[Curves, Documents, Sources]:
    points: dict[str, list[Point]] = {}
    sources: Sources = []
    found: Documents = {"agreement": {"questions": []}}
    for what, name, number, held_out, data in sorted(rows, key=lambda row: (int(row[2]), str(row[1]))):
        if what == "curve":
            points.setdefault(name, []).append(Point(number, held_out, data))
        elif what == "finding":
            found[name] = data
        elif what == "source":
            sources.append((name, number, *(data[key] for key in REWARD)))
        else:
            found["agreement"]["questions"].append(data)
    return Curves(points), found, sources
