"""What did we learn? Sources against each other, rewards by tag, the surest and the most open pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _

from annotate.progress.figures import Cell, Column, Figure
from annotate.progress.found import Documents


@dataclass(frozen=True)
class Example:
    """A pair, the response that is expected to win, and how sure the model is of that."""

    prompt: str
    prompt_id: int
    winner: str
    winner_id: int
    loser: str
    predicted: float
    sure: float


@dataclass(frozen=True)
class Contests:
    figures: list[Figure]
    most: list[Example]
    least: list[Example]


def contests(documents: Documents) -> Contests:
    found = documents.get("certain", {})
    most, least = ([example(pair) for pair in found.get(name, [])] for name in ("most", "least"))
    figures = [winners_figure(documents), tags_figure(documents)]
    return Contests([figure for figure in figures if figure], most, least)


def example(pair: dict[str, Any]) -> Example:
    first = pair["predicted"] >= 0.5
    texts, ids = (pair["first"], pair["second"]), pair["ids"]
    return Example(
        prompt=pair["prompt"],
        prompt_id=pair["prompt_id"],
        winner=texts[not first],
        winner_id=ids[not first],
        loser=texts[first],
        predicted=max(pair["predicted"], 1 - pair["predicted"]),
        sure=pair["sure"],
    )


def winners_figure(documents: Documents) -> Figure:
    """Every source against every other: how often it is expected to be preferred, and how often it was."""
    found = documents.get("winners", {})
    names = found.get("sources", [])
    order = sorted(range(len(names)), key=lambda i: -mean(found["expected"][i]))
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (names[i], names[j], found["expected"][i][j], won, tied, judged)
        for i in order
        for j in order
        if i != j
        for won, tied, judged in [found["won"][i][j]]
    )
    columns = (
        Column("source", _("Source")),
        Column("against", _("Against")),
        Column("expected", _("Expected to win"), "share"),
        Column("won", _("Won"), "count"),
        Column("tied", _("Tied"), "count"),
        Column("judged", _("Judged"), "count"),
    )
    alt = _("Two sources are needed to set one against the other.")
    if rows:
        alt = _(
            "How often each of %(count)d sources is expected to be preferred to each other one, "
            "the mean over their prompts; "
            "%(best)s wins most, %(worst)s least."
        ) % {"count": len(order), "best": names[order[0]], "worst": names[order[-1]]}
    return Figure("winners", _("Source against source: expected to win"), alt, columns, rows, "matrix")


def mean(row: list[float | None]) -> float:
    known = [value for value in row if value is not None]
    return sum(known) / len(known) if known else 0.0


def tags_figure(documents: Documents) -> Figure:
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        tuple(row) for row in documents.get("tags", {}).get("rows", [])
    )
    columns = (
        Column("tag", _("Tag")),
        Column("source", _("Source")),
        Column("responses", _("Responses"), "count"),
        Column("reward", _("Mean reward"), ".2f"),
        Column("low", _("low"), ".2f"),
        Column("high", _("high"), ".2f"),
    )
    alt = _("Rewards by tag appear when prompts have tags.")
    if rows:
        best = max(rows, key=lambda row: float(row[3] or 0))
        alt = _(
            "Mean reward of the largest sources on the prompts of each tag, less the mean of each prompt; "
            "highest: %(source)s on %(tag)s with %(reward)s."
        ) % {"source": best[1], "tag": best[0], "reward": f"{best[3]:+.2f}"}
    return Figure("tags", _("Mean reward by tag and source"), alt, columns, rows, "matrix")
