"""The policy report as it is read: what every way of answering is worth, which to choose, and what is known least."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from annotate.models import PolicyReport, Project, Prompt
from annotate.progress.figures import Cell, Column, Figure
from annotate.progress.learned import shortened

Entry = Mapping[str, Any]
MOST_SHOWN = 30
NAMES: dict[str, str | Promise] = {
    "greedy": gettext_lazy("Best reward"),
    "averaged": gettext_lazy("Averaged (Alg. 3)"),
    "pessimistic": gettext_lazy("Best lower limit"),
    "frank_wolfe": gettext_lazy("Best mixture"),
}


@dataclass(frozen=True)
class Known:
    """A prompt whose responses the reward model can tell apart least."""

    prompt: Prompt
    width: float
    responses: int


@dataclass(frozen=True)
class Report:
    row: PolicyReport | None
    sentence: str
    tone: str
    figure: Figure
    learned_figure: Figure
    rivals: list[Entry]
    mixture: list[tuple[str, float]]
    widest: list[Known]


def report(project: Project) -> Report:
    row = PolicyReport.objects.filter(project=project).first()
    tone, sentence = recommendation(row)
    return Report(
        row=row,
        sentence=sentence,
        tone=tone,
        figure=figure_of(row, "sources"),
        learned_figure=figure_of(row, "policies"),
        rivals=[] if row is None else list(row.gaps.get("rivals", []))[:10],
        mixture=mixture_of(row),
        widest=widest_of(row),
    )


def recommendation(row: PolicyReport | None) -> tuple[str, str]:
    """Tone and sentence: which source to send traffic to, or from which others it cannot be told."""
    if row is None:
        return "", _("The report is made when the reward model has learned from its first judgments.")
    best = shortened(row.gaps.get("best") or "")
    if not best:
        return "", _("No response names its source, so there is nothing to choose between.")
    rivals = row.gaps.get("rivals", [])
    if not rivals:
        return "", _("%(best)s is the only source.") % {"best": best}
    ahead = [one for one in rivals if one["high"] < 0]
    if ahead:
        return "", contradicted(best, min(ahead, key=lambda one: one["ahead"]))
    open_ones = [one for one in rivals if one["low"] <= 0]
    if open_ones:
        return "", undecided(best, open_ones)
    nearest = min(rivals, key=lambda one: one["low"])
    return "good", _(
        "Send traffic to %(best)s: it is ahead of every other source, of %(next)s by %(ahead)s (%(low)s to %(high)s)."
    ) % {"best": best, "next": shortened(nearest["name"]), **shown(nearest)}


def contradicted(best: str, rival: Entry) -> str:
    """The best of all by its own prompts is behind another on the prompts that both answered."""
    turned = {"ahead": -rival["ahead"], "low": -rival["high"], "high": -rival["low"]}
    return _(
        "%(best)s has the best pessimistic value over all its prompts, but on the prompts that both answered "
        "%(next)s is ahead of it by %(ahead)s (%(low)s to %(high)s)."
    ) % {"best": best, "next": shortened(rival["name"]), **shown(turned)}


def undecided(best: str, rivals: list[Entry]) -> str:
    nearest = max(rivals, key=lambda one: one["high"] - one["ahead"] - one["ahead"])
    text = _(
        "%(best)s is the safest choice, but it cannot be told from %(next)s yet: the difference is %(ahead)s "
        "(%(low)s to %(high)s)."
    ) % {"best": best, "next": shortened(nearest["name"]), **shown(nearest)}
    others = len(rivals) - 1
    if others:
        text += " " + ngettext(
            "Nor from %(count)d other source.", "Nor from %(count)d other sources.", others
        ) % {"count": others}
    return text


def shown(one: Entry) -> dict[str, str]:
    return {name: f"{one[name]:+z.2f}" for name in ("ahead", "low", "high")}


def figure_of(row: PolicyReport | None, name: str) -> Figure:
    """Sources, or the policies that the reward model itself chooses by, with their intervals."""
    entries = (
        []
        if row is None
        else [one for one in row.policies if (one["kind"] == "source") == (name == "sources")]
    )
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (str(NAMES.get(one["name"], one["name"])) if one["kind"] != "source" else one["name"],
         one["prompts"], one["reward"], one["low"], one["high"], one["width"])
        for one in entries[:MOST_SHOWN]
    )  # fmt: skip
    columns = (
        Column("policy", _("Source") if name == "sources" else _("Policy")),
        Column("prompts", _("Prompts"), "count"),
        Column("reward", _("Value"), ".2f"),
        Column("low", _("pessimistic value"), ".2f"),
        Column("high", _("high"), ".2f"),
        Column("width", _("width"), ".3f"),
    )
    title = _("Always answering with one source") if name == "sources" else _("Choosing by the reward model")
    return Figure(f"policy-{name}", title, alt_of(rows), columns, rows, "list")


def alt_of(rows: tuple[tuple[Cell, ...], ...]) -> str:
    if not rows:
        return _("There is nothing to value yet.")
    best = max(rows, key=lambda row: float(row[3] or 0))
    return _("Values with 95%% intervals; the best lower limit is %(low)s, of %(name)s.") % {
        "low": f"{best[3]:.2f}",
        "name": shortened(str(best[0])),
    }


def mixture_of(row: PolicyReport | None) -> list[tuple[str, float]]:
    entries = [] if row is None else [one for one in row.policies if one["kind"] == "mixture"]
    return [(name, share) for one in entries for name, share in one.get("shares", [])]


def widest_of(row: PolicyReport | None) -> list[Known]:
    entries = {} if row is None else {one["prompt"]: one for one in row.widest}
    prompts = Prompt.objects.in_bulk(list(entries))
    return [
        Known(prompts[key], one["width"], one["responses"]) for key, one in entries.items() if key in prompts
    ]
