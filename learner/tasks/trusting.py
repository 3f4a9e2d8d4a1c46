"""Whom to trust how far: reliability, side bias, conduct and agreement, measured now and then, as rows.

Evaluation judgments are left out: what is measured here may weigh what the estimators learn, and they must learn
nothing from evaluation. Gold answers speak as one more annotator, so agreeing with them counts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from django.db import transaction
from django.db.models import QuerySet, Subquery
from django.db.models.functions import Length

from annotate.models import Agreement, Comparison, Judgment, Project, Reliability
from learner import quality
from learner.efficiency import Interval
from learner.log import LABELS
from learner.tasks.findings import finite
from learner.tasks.states import ProjectState

Array = npt.NDArray[np.float64]
Row = tuple[Any, ...]

NEWEST = 3_000
NEWEST_OVERLAP = 1_000
MOST_DIMENSIONS = 256
FEWEST = 20
KNOWN = 0  # In the place of an annotator's id: the answers that were known beforehand.
ANSWERS = LABELS | {"both_bad": 2.0}
SHOWN = (
    "comparison__first__position",
    "comparison__second__position",
    "answer",
    "annotator",
    "lease__swapped",
)


def is_to_measure_annotators(state: ProjectState) -> bool:
    """Whether the log grew by a tenth (25 to 500) since the last time, or what people here gave of it.

    After a large import a tenth of the log is weeks of work; imports are counted for the agreement of what they hold.
    """
    if state.trusted is None:
        return True
    counts = zip((state.step, state.own), state.trusted, strict=True)
    return any(now - then >= min(max(25, then // 10), 500) for now, then in counts)


def measure_annotators(state: ProjectState) -> None:
    """Measure everybody's reliability and agreement, in the place of what was measured before."""
    reliabilities, agreements = measured(state), agreed(state.project, state.step)
    with transaction.atomic():
        Reliability.objects.filter(project=state.project).delete()
        Reliability.objects.bulk_create(reliabilities)
        Agreement.objects.filter(project=state.project).delete()
        Agreement.objects.bulk_create(agreements)


def weights(project: Project) -> dict[int, float]:
    """By which each annotator's judgments are scaled from now on; empty: all by 1.

    The weight is stored with the judgment when it is absorbed, so a replay needs nothing that was measured later.
    """
    if not project.weigh_by_reliability:
        return {}
    return {row.annotator_id: row.weight for row in Reliability.objects.filter(project=project)}


def judged_by_people(state: ProjectState) -> QuerySet[Judgment]:
    """The newest absorbed answers of people to pairs that do not evaluate."""
    rows = Judgment.objects.filter(
        project=state.project, absorbed_step__isnull=False, replaced_at=None, lease__isnull=False
    ).exclude(annotator=None)
    rows = rows.exclude(comparison__arm="evaluation").exclude(comparison__prompt__is_evaluation=True)
    return rows.order_by("-absorbed_step")


def measured(state: ProjectState) -> list[Reliability]:
    """Reliability and conduct of everybody who answered; nothing before there are twenty answers."""
    characters = Length("comparison__first__text") + Length("comparison__second__text")
    rows = judged_by_people(state).annotate(characters=characters)
    found = list(rows.values_list(*SHOWN, "comparison__gold_answer", "lead_time", "characters")[:NEWEST])
    found = [row for row in reversed(found) if max(row[0], row[1]) < len(state.prompt)]
    choices = [row for row in found if row[2] in LABELS]
    if len(choices) < FEWEST:
        return []
    model = fitted(state, choices)
    conducts = conducted(choices)
    rows_of = zip(model.names, model.reliability, model.side_bias, model.judgments, strict=True)
    return [
        reliability_row(state, name, rho, bias, count, conducts.get(name))
        for name, rho, bias, count in rows_of
        if name != KNOWN
    ]


def fitted(state: ProjectState, choices: list[Row]) -> quality.AnnotatorModel:
    """The joint fit of preference model and annotators, with the known answers as one annotator more."""
    known = {(row[0], row[1]): row[5] for row in choices if row[5] in LABELS}
    first = [row[0] for row in choices] + [first for first, _ in known]
    second = [row[1] for row in choices] + [second for _, second in known]
    features = state.reader.features
    z = compressed(features[first].astype(np.float64) - features[second].astype(np.float64))
    y = [LABELS[row[2]] for row in choices] + [LABELS[answer] for answer in known.values()]
    who = [row[3] for row in choices] + [KNOWN] * len(known)
    side = [-1.0 if row[4] else 1.0 for row in choices] + [0.0] * len(known)
    return quality.fit_annotators(z, y, who, side)


def compressed(z: Array) -> Array:
    """Wide differences through a fixed random projection, which keeps their inner products within about 6 %."""
    width = z.shape[1]
    if width <= MOST_DIMENSIONS:
        return z
    directions = np.random.default_rng(0).standard_normal((width, MOST_DIMENSIONS)) / np.sqrt(MOST_DIMENSIONS)
    return np.asarray(z @ directions)


def conducted(choices: list[Row]) -> dict[Any, quality.Conduct]:
    """Times and sides of everyone who sent times, in the order of the answers."""
    timed = [row for row in choices if row[6] is not None]
    if not timed:
        return {}
    left = [0.5 if row[2] == "tie" else float((row[2] == "first") != row[4]) for row in timed]
    return quality.conduct(
        [row[3] for row in timed], [row[6] for row in timed], left, [row[7] for row in timed]
    )


def reliability_row(
    state: ProjectState,
    annotator: int,
    rho: Interval,
    bias: Interval,
    count: int,
    conduct: quality.Conduct | None,
) -> Reliability:
    """One annotator's figures as a row."""
    row = Reliability(
        project=state.project, annotator_id=annotator, judgments=count, step=state.step,
        estimate=round(rho.estimate, 6), low=rho.low, high=rho.high,
        side_bias=bias.estimate, side_low=bias.low, side_high=bias.high,
    )  # fmt: skip
    if conduct is not None:
        row.hasty = round(conduct.too_fast.estimate * conduct.judgments)
        row.paused, row.longest_run, row.run_chance = conduct.paused, conduct.longest_run, conduct.run_chance
    return row


def agreed(project: Project, step: int) -> list[Agreement]:
    """Agreement about the answer, and about every criterion, over the newest pairs that several people judged."""
    newest = Comparison.objects.filter(project=project, judged__gt=1).exclude(arm="gold").order_by("-pk")
    judged = Judgment.objects.filter(
        comparison__in=Subquery(newest.values("pk")[:NEWEST_OVERLAP]), replaced_at=None
    )
    rows = list(judged.order_by("id").values_list("comparison", "answer", "criteria"))
    found = [agreement_row(project, step, "", [(pair, answer) for pair, answer, _ in rows])]
    for name in project.criteria:
        rated = [(pair, criteria[name]) for pair, _, criteria in rows if criteria.get(name) in ANSWERS]
        found.append(agreement_row(project, step, name, rated))
    return [row for row in found if row.pairs]


def agreement_row(project: Project, step: int, criterion: str, given: list[tuple[int, str]]) -> Agreement:
    """Alpha and pairwise agreement of one question, with their intervals."""
    row = Agreement(project=project, criterion=criterion, pairs=0, judgments=0, step=step)
    if not given:
        return row
    pairs, answers = zip(*given, strict=True)
    report = quality.agreement(
        list(pairs), [ANSWERS[answer] for answer in answers], rng=np.random.default_rng(0)
    )
    row.pairs, row.judgments = report.pairs, report.judgments
    for name, interval in (("alpha", report.alpha), ("pairwise", report.pairwise)):
        setattr(row, name, finite(interval.estimate))
        setattr(row, f"{name}_low", finite(interval.low))
        setattr(row, f"{name}_high", finite(interval.high))
    return row
