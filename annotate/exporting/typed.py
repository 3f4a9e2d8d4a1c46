"""JSON Lines whose columns every reader types alike.

A reader that goes by blocks (``datasets`` takes 10 MB at a time) gives a column that is empty throughout the first
block the type null, and fails at the first value in a later one. So a row with a value in each column that has any
comes first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from annotate.models import Comparison, Judgment, Project, Prompt, Response

Row = dict[str, Any]
OF_COMPARISON = {
    "probability": "probability",
    "pair_probability": "probability",
    "width": "width",
    "score": "score",
    "predicted": "predicted",
    "estimator_step": "estimator_step",
}
OF_JUDGMENT = {"strength": "strength", "lead_time": "lead_time", "step": "absorbed_step"}


def filled(row: Row) -> set[str]:
    """The columns of a row from which their type can be told."""
    found = {name for name, value in row.items() if value is not None and value != []}
    if any(response["utility"] is not None for response in row.get("responses", ())):
        found.add("utility")
    return found


def sometimes_filled(project: Project, names: set[str]) -> set[str]:
    """The columns that may be empty in a row but are not in all of the project."""
    found = set()
    for model, fields in (
        (Comparison, OF_COMPARISON),
        (Judgment, OF_JUDGMENT),
        (Response, {"utility": "utility"}),
    ):
        for name in names & fields.keys():
            if model.objects.filter(project=project, **{f"{fields[name]}__isnull": False}).exists():
                found.add(name)
    if "tags" in names and Prompt.objects.filter(project=project).exclude(tags=[]).exists():
        found.add("tags")
    return found


def typed_first(rows: Callable[[], Iterator[Row]], wanted: set[str]) -> Iterator[Row]:
    """All rows, each once, in their order, but for those few that are needed first."""
    lead: dict[int, Row] = {}
    for i, row in enumerate(rows() if wanted else ()):
        if new := filled(row) & wanted:
            lead[i] = row
            wanted = wanted - new
        if not wanted:
            break
    yield from lead.values()
    yield from (row for i, row in enumerate(rows()) if i not in lead)
