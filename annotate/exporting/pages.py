"""A project's labelled data, a page of prompts at a time: four queries a page, whatever the project's size."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice

from django.db.models import Max, QuerySet

from annotate.models import Comparison, Judgment, Project, Prompt, Response

PAGE = 200
KEYS = 5_000


@dataclass(frozen=True)
class Filters:
    """What part of a project to export; the defaults take everything."""

    arms: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()  # train, test
    tags: tuple[str, ...] = ()  # prompts with at least one of them
    min_votes: int = 1
    min_agreement: float = 0.0
    since: datetime | None = None
    until: datetime | None = None

    def comparisons(self, project: Project) -> QuerySet[Comparison]:
        return self.restrict(Comparison.objects.filter(project=project))

    def restrict(self, rows: QuerySet[Comparison]) -> QuerySet[Comparison]:
        rows = rows.exclude(state=Comparison.State.WITHDRAWN)
        if self.arms:
            rows = rows.filter(arm__in=self.arms)
        if len(set(self.splits)) == 1:
            rows = rows.filter(prompt__is_evaluation=self.splits[0] == "test")
        return rows

    def judgments(self, rows: QuerySet[Judgment]) -> QuerySet[Judgment]:
        if self.since:
            rows = rows.filter(created_at__gte=self.since)
        return rows.filter(created_at__lt=self.until) if self.until else rows

    def prompts(self, project: Project) -> QuerySet[Prompt]:
        rows = Prompt.objects.filter(project=project)
        if len(set(self.splits)) == 1:
            rows = rows.filter(is_evaluation=self.splits[0] == "test")
        return rows

    def wants(self, prompt: Prompt) -> bool:
        return not self.tags or any(tag in self.tags for tag in prompt.tags)


@dataclass
class Asked:
    """A comparison with its prompt, its two responses and its judgments in order, replaced ones included."""

    comparison: Comparison
    prompt: Prompt
    first: Response
    second: Response
    judgments: list[Judgment] = field(default_factory=list)


def asked(project: Project, filters: Filters) -> Iterator[Asked]:
    """Every comparison that has a judgment, prompt by prompt in the order of their positions."""
    judged = filters.judgments(Judgment.objects.filter(project=project))
    prompts = filters.comparisons(project).filter(pk__in=judged.values("comparison")).values("prompt")
    keys = Prompt.objects.filter(pk__in=prompts).order_by("position").values_list("pk", flat=True)
    remaining = iter(list(keys))
    while page := list(islice(remaining, PAGE)):
        yield from asked_on(page, filters)


def asked_on(page: list[int], filters: Filters) -> Iterator[Asked]:
    """The comparisons of a page, found by keys alone: a planner without statistics goes astray over the project."""
    prompts = {
        prompt.pk: prompt
        for prompt in Prompt.objects.filter(pk__in=page).order_by("position")
        if filters.wants(prompt)
    }
    comparisons = list(filters.restrict(Comparison.objects.filter(prompt__in=prompts)).order_by("id"))
    judgments = judgments_of(comparisons, filters)
    by_prompt = defaultdict(list)
    for comparison in comparisons:
        if comparison.pk in judgments:
            by_prompt[comparison.prompt_id].append(comparison)
    responses = responses_of(comparisons)
    for prompt in prompts.values():
        for row in by_prompt[prompt.pk]:
            yield Asked(row, prompt, responses[row.first_id], responses[row.second_id], judgments[row.pk])


def judgments_of(comparisons: list[Comparison], filters: Filters) -> dict[int, list[Judgment]]:
    found = defaultdict(list)
    for begin in range(0, len(comparisons), KEYS):
        keys = [row.pk for row in comparisons[begin : begin + KEYS]]
        rows = filters.judgments(Judgment.objects.filter(comparison__in=keys))
        for judgment in rows.select_related("lease").order_by("id"):
            found[judgment.comparison_id].append(judgment)
    return found


def responses_of(comparisons: list[Comparison]) -> dict[int, Response]:
    """The responses that were compared; by key in pieces, since a page may hold tens of thousands of pairs."""
    keys = sorted({key for row in comparisons for key in (row.first_id, row.second_id)})
    found: dict[int, Response] = {}
    for begin in range(0, len(keys), KEYS):
        found |= {row.pk: row for row in Response.objects.filter(pk__in=keys[begin : begin + KEYS])}
    return found


def pool(project: Project, filters: Filters) -> Iterator[tuple[Prompt, list[Response]]]:
    """Every prompt with its responses, in the order of their positions, by ranges of them: they are dense."""
    prompts = filters.prompts(project)
    last = prompts.aggregate(last=Max("position"))["last"]
    for begin in range(0, -1 if last is None else last + 1, PAGE):
        page = list(prompts.filter(position__range=(begin, begin + PAGE - 1)).order_by("position"))
        responses = defaultdict(list)
        for response in Response.objects.filter(prompt__in=[prompt.pk for prompt in page]).order_by(
            "position"
        ):
            responses[response.prompt_id].append(response)
        for prompt in page:
            if filters.wants(prompt):
                yield prompt, responses[prompt.pk]
