"""Sources against each other: who won how often, who is expected to, and whose rewards lead by tag."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from django.db.models import Count
from scipy.special import expit

from annotate.models import Judgment, Prompt, Response
from learner.features import centre_by_prompt
from learner.tasks.states import ProjectState

Array = npt.NDArray[np.float64]
MOST_SOURCES = 12
MOST_TAGS = 8
TAGGED_SOURCES = 6
NORMAL_95 = 1.96


def named_sources(state: ProjectState, most: int = MOST_SOURCES) -> tuple[list[str], npt.NDArray[np.int64]]:
    """The sources with the most responses, and each response's place among them (-1: none of these)."""
    if state.named is None or len(state.named[1]) != len(state.prompt):
        rows = Response.objects.filter(project=state.project, position__lt=len(state.prompt)).order_by(
            "position"
        )
        names = list(rows.values_list("source", flat=True).iterator(chunk_size=20_000))
        unique, code = np.unique(np.array(names, dtype=str), return_inverse=True)
        state.named = [str(name) for name in unique], code
    unique_names, code = state.named
    sizes = np.bincount(code, minlength=len(unique_names))
    order = [i for i in np.argsort(-sizes, kind="stable") if unique_names[i]][:most]
    place = np.full(len(unique_names), -1)
    place[order] = np.arange(len(order))
    return [unique_names[i] for i in order], place[code]


def winners(state: ProjectState) -> dict[str, Any]:
    """Every two sources: how often each was preferred, and how often it is expected to be over all prompts."""
    names, place = named_sources(state)
    expected = expected_wins(state, place, len(names))
    return {
        "sources": names,
        "won": counted_wins(state, names),
        "expected": [[None if v != v else round(float(v), 4) for v in row] for row in expected],
    }


def counted_wins(state: ProjectState, names: list[str]) -> list[list[list[int]]]:
    """[won, tied, judged] of the row's source against the column's, over current judgments."""
    table = np.zeros((len(names), len(names), 3), dtype=np.int64)
    at = {name: i for i, name in enumerate(names)}
    current = (
        Judgment.objects.filter(project=state.project, replaced_at=None).exclude(answer="both_bad").order_by()
    )
    fields = ("comparison__first__source", "comparison__second__source", "answer")
    for group in current.values(*fields).annotate(number=Count("pk")):
        first, second, answer = (group[name] for name in fields)
        count = group["number"]
        if first in at and second in at and first != second:
            for one, two, won in ((first, second, "first"), (second, first, "second")):
                table[at[one], at[two]] += [count * (answer == won), count * (answer == "tie"), count]
    return [[[int(v) for v in cell] for cell in row] for row in table]


def expected_wins(state: ProjectState, place: npt.NDArray[np.int64], count: int) -> Array:
    """Mean over prompts of the probability that the row's source is preferred to the column's. O(M d + P S^2)."""
    reward = state.reader.features @ state.reader.banks["production"].theta.astype(np.float32)
    prompts, row = np.unique(state.prompt, return_inverse=True)
    table = np.full((len(prompts), count), np.nan)
    known = place >= 0
    table[row[known], place[known]] = reward[known]
    wins = np.full((count, count), np.nan)
    for i in range(count):
        for j in range(count):
            gap = table[:, i] - table[:, j]
            both = ~np.isnan(gap)
            if i != j and both.any():
                wins[i, j] = expit(gap[both]).mean()
    return wins


def by_tag(state: ProjectState) -> dict[str, Any]:
    """Mean centred reward of the largest sources on the prompts of each of the commonest tags, with 95 % limits."""
    if state.tags is None:
        state.tags = tag_features(state)
    bank = state.reader.banks["production"]
    rows = []
    for (tag, source), (count, mean) in state.tags.items():
        value, half = float(mean @ bank.theta), NORMAL_95 * float(bank.width(mean[None])[0])
        rows.append([tag, source, count, *(round(v, 6) for v in (value, value - half, value + half))])
    return {"rows": rows}


def tag_features(state: ProjectState) -> dict[tuple[str, str], tuple[int, Array]]:
    """Responses and their mean centred feature by tag and source."""
    tagged: dict[str, list[int]] = {}
    rows = Prompt.objects.filter(project=state.project).exclude(tags=[]).values_list("position", "tags")
    for position, tags in rows.iterator(chunk_size=20_000):
        for tag in {str(tag)[:60] for tag in tags}:
            tagged.setdefault(tag, []).append(position)
    if not tagged:
        return {}
    names, place = named_sources(state, TAGGED_SOURCES)
    found: dict[tuple[str, str], tuple[int, Array]] = {}
    for tag in sorted(tagged, key=lambda name: (-len(tagged[name]), name))[:MOST_TAGS]:
        inside = np.flatnonzero(np.isin(state.prompt, tagged[tag]))
        centred = centre_by_prompt(state.reader.features[inside], state.prompt[inside])
        for at, name in enumerate(names):
            mine = place[inside] == at
            if mine.any():
                found[tag, name] = int(mine.sum()), centred[mine].mean(axis=0)
    return found
