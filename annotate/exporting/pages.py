"""A project's labelled data, a page of prompts at a time: four queries a page, whatever the project's size."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice

from django.db.models import QuerySet

from annotate.models import Comparison, Judgment, Project, Prompt, Response

PAGE = 200


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
        rows = Comparison.objects.filter(project=project).exclude(state=Comparison.State.WITHDRAWN)
        if self.arms:
            rows = rows.filter(arm__in=self.arms)
        if len(set(self.splits)) == 1:
            rows = rows.filter(prompt__is_evaluation=self.splits[0] == "test")
        return rows

    def judgments(self, project: Project) -> QuerySet[Judgment]:
        rows = Judgment.objects.filter(project=project)
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
    with_answers = filters.comparisons(project).filter(judgments__in=filters.judgments(project))
    positions = (
        with_answers.order_by("prompt__position").values_list("prompt__position", flat=True).distinct()
    )
    remaining = iter(list(positions))
    while page := list(islice(remaining, PAGE)):
        yield from asked_on(page, project, filters)


def asked_on(positions: list[int], project: Project, filters: Filters) -> Iterator[Asked]:
    prompts = {
        prompt.pk: prompt
        for prompt in Prompt.objects.filter(project=project, position__in=positions).order_by("position")
        if filters.wants(prompt)
    }
    judgments = defaultdict(list)
    rows = filters.judgments(project).filter(comparison__prompt__in=prompts)
    for judgment in rows.select_related("lease").order_by("id"):
        judgments[judgment.comparison_id].append(judgment)
    by_prompt = defaultdict(list)
    for comparison in filters.comparisons(project).filter(prompt__in=prompts).order_by("id"):
        if comparison.pk in judgments:
            by_prompt[comparison.prompt_id].append(comparison)
    wanted = [comparison for rows in by_prompt.values() for comparison in rows]
    responses = responses_of(wanted)
    for prompt in prompts.values():
        for row in by_prompt[prompt.pk]:
            yield Asked(row, prompt, responses[row.first_id], responses[row.second_id], judgments[row.pk])


def responses_of(comparisons: list[Comparison]) -> dict[int, Response]:
    """The responses that were compared; by key in pieces, since a page may hold tens of thousands of pairs."""
    keys = sorted({key for row in comparisons for key in (row.first_id, row.second_id)})
    found: dict[int, Response] = {}
    for begin in range(0, len(keys), 5_000):
        found |= {row.pk: row for row in Response.objects.filter(pk__in=keys[begin : begin + 5_000])}
    return found


def pool(project: Project, filters: Filters) -> Iterator[tuple[Prompt, list[Response]]]:
    """Every prompt with its responses, in the order of their positions."""
    last = -1
    while page := list(filters.prompts(project).filter(position__gt=last).order_by("position")[:PAGE]):
        responses = defaultdict(list)
        for response in Response.objects.filter(prompt__in=page).order_by("position"):
            responses[response.prompt_id].append(response)
        for prompt in page:
            if filters.wants(prompt):
                yield prompt, responses[prompt.pk]
        last = page[-1].position
