"""What an export holds: for each kind its columns, and the rows that fill them.

Columns have one type each, so that every format, ``datasets`` and pyarrow read the same table: if one prompt of an
export is a conversation, all its prompts are written as messages.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from django.utils.translation import gettext_noop

from annotate.exporting.columns import (
    Columns,
    implicit_columns,
    pair_columns,
    pool_columns,
    unpaired_columns,
    vote_columns,
)
from annotate.exporting.labels import Label, Weigh, label, one
from annotate.exporting.pages import Asked, Filters, asked, pool
from annotate.models import Answer, Judgment, Project, Prompt, Response

Row = dict[str, Any]
LEFT_OUT = {
    "tie": gettext_noop("undecided (ties)"),
    "both_bad": gettext_noop("both bad"),
    "filtered": gettext_noop("below the filters' votes or agreement"),
    "even": gettext_noop("responses chosen exactly as often as not"),
}


@dataclass
class Export:
    """One export while it runs: what was asked for, and what was left out on the way."""

    project: Project
    filters: Filters = field(default_factory=Filters)
    weigh: Weigh = one
    conversational: bool = False
    rows: int = 0
    left_out: dict[str, int] = field(default_factory=lambda: dict.fromkeys(LEFT_OUT, 0))

    def prompt(self, prompt: Prompt) -> Any:
        return plain(prompt.conversation) if self.conversational else prompt.text

    def answer(self, response: Response) -> Any:
        return [said(response)] if self.conversational else response.text

    def decided(self) -> Iterator[tuple[Asked, Label]]:
        """The comparisons with a label; those without one are counted, never passed over in silence."""
        for row in asked(self.project, self.filters):
            found = label(
                row.judgments, self.weigh, row.comparison.settled_answer or row.comparison.gold_answer
            )
            if found.votes == 0:
                continue
            if found.votes < self.filters.min_votes or found.agreement < self.filters.min_agreement:
                self.left_out["filtered"] += 1
            elif found.is_decided:
                yield row, found
            else:
                self.left_out[found.answer] += 1


def plain(messages: list[dict[str, Any]]) -> list[dict[str, str]]:
    return [{"role": message["role"], "content": message["content"]} for message in messages]


def said(response: Response) -> dict[str, str]:
    return {"role": "assistant", "content": response.text}


def split_of(prompt: Prompt) -> str:
    return "test" if prompt.is_evaluation else "train"


def chosen_first(row: Asked, found: Label) -> tuple[Response, Response]:
    return (row.first, row.second) if found.answer == Answer.FIRST else (row.second, row.first)


def about(row: Asked, found: Label) -> Row:
    """The columns beside the texts: how sure the label is, and how the pair came to be asked."""
    comparison = row.comparison
    chosen, rejected = chosen_first(row, found)
    return {
        "p_chosen": found.p_chosen,
        "p_chosen_low": found.low,
        "p_chosen_high": found.high,
        "decided_by": decided_by(row),
        "votes": found.votes,
        "agreement": found.agreement,
        "margin": found.margin,
        "width": comparison.width,
        "arm": comparison.arm,
        "probability": choice_probability(row),
        "split": split_of(row.prompt),
        "prompt_id": row.prompt.external_id,
        "chosen_id": chosen.external_id,
        "rejected_id": rejected.external_id,
        "chosen_source": chosen.source,
        "rejected_source": rejected.source,
        "tags": row.prompt.tags,
    }


def decided_by(row: Asked) -> str:
    if row.comparison.settled_answer:
        return "reviewer"
    return "gold" if row.comparison.gold_answer else "votes"


def choice_probability(row: Asked) -> float | None:
    """With which probability this pair was chosen; unknown where its arm's rule is not a draw."""
    pair = row.comparison.probability
    return None if pair is None else row.comparison.arm_probability * pair


def trl(export: Export) -> Iterator[Row]:
    """TRL's preference shape with an explicit prompt."""
    for row, found in export.decided():
        chosen, rejected = chosen_first(row, found)
        texts = {
            "prompt": export.prompt(row.prompt),
            "chosen": export.answer(chosen),
            "rejected": export.answer(rejected),
        }
        yield texts | about(row, found)


def trl_implicit(export: Export) -> Iterator[Row]:
    """TRL's preference shape with an implicit prompt: each side is the whole conversation."""
    for row, found in export.decided():
        prompt = plain(row.prompt.conversation)
        chosen, rejected = chosen_first(row, found)
        yield {"chosen": [*prompt, said(chosen)], "rejected": [*prompt, said(rejected)]} | about(row, found)


def trl_unpaired(export: Export) -> Iterator[Row]:
    """TRL's unpaired shape: a response is good if it was chosen more often than not; even is left out."""
    page: dict[int, Record] = {}
    prompt: Prompt | None = None
    for row, found in export.decided():
        if prompt and row.prompt.pk != prompt.pk:
            yield from unpaired(export, prompt, page)
            page = {}
        prompt = row.prompt
        for response, won in zip(chosen_first(row, found), (1, 0), strict=True):
            page.setdefault(response.pk, Record(response)).count(won)
    if prompt:
        yield from unpaired(export, prompt, page)


@dataclass
class Record:
    """How often a response was chosen, in how many comparisons."""

    response: Response
    wins: int = 0
    comparisons: int = 0

    def count(self, won: int) -> None:
        self.wins += won
        self.comparisons += 1


def unpaired(export: Export, prompt: Prompt, page: dict[int, Record]) -> Iterator[Row]:
    for record in page.values():
        if record.wins * 2 == record.comparisons:
            export.left_out["even"] += 1
            continue
        yield {
            "prompt": export.prompt(prompt),
            "completion": export.answer(record.response),
            "label": record.wins * 2 > record.comparisons,
            "wins": record.wins,
            "comparisons": record.comparisons,
            "source": record.response.source,
            "split": split_of(prompt),
            "prompt_id": prompt.external_id,
            "response_id": record.response.external_id,
            "tags": prompt.tags,
        }


def votes(export: Export) -> Iterator[Row]:
    """Every judgment as it was given, those that were undone or edited included (``current`` is false)."""
    for row in asked(export.project, export.filters):
        for judgment in row.judgments:
            yield pair_of(export, row) | vote_of(export, judgment) | chosen_how(row)


def pair_of(export: Export, row: Asked) -> Row:
    return {
        "prompt": export.prompt(row.prompt),
        "first": row.first.text,
        "second": row.second.text,
        "prompt_id": row.prompt.external_id,
        "first_id": row.first.external_id,
        "second_id": row.second.external_id,
        "first_source": row.first.source,
        "second_source": row.second.source,
        "split": split_of(row.prompt),
        "tags": row.prompt.tags,
    }


def vote_of(export: Export, judgment: Judgment) -> Row:
    return {
        "answer": judgment.answer,
        "annotator": pseudonym(export.project, judgment),
        "strength": judgment.strength,
        "criteria": json.dumps(judgment.criteria, ensure_ascii=False),
        "rationale": judgment.rationale,
        "flags": json.dumps(judgment.flags, ensure_ascii=False),
        "lead_time": judgment.lead_time,
        "created_at": judgment.created_at.isoformat(),
        "current": judgment.replaced_at is None,
        "replaced_at": judgment.replaced_at.isoformat() if judgment.replaced_at else "",
        "replaced_reason": judgment.replaced_reason,
        "shown_left": shown_left(judgment),
        "step": judgment.absorbed_step,
        "judgment": judgment.pk,
    }


def chosen_how(row: Asked) -> Row:
    comparison = row.comparison
    return {
        "comparison": comparison.pk,
        "arm": comparison.arm,
        "arm_probability": comparison.arm_probability,
        "rule": comparison.rule,
        "gold_answer": comparison.gold_answer,
        "pair_probability": comparison.probability,
        "probability": choice_probability(row),
        "score": comparison.score,
        "width": comparison.width,
        "predicted": comparison.predicted,
        "estimator_step": comparison.estimator_step,
    }


def shown_left(judgment: Judgment) -> str:
    """Which response was on the left; unknown for imported votes."""
    if judgment.lease is None:
        return ""
    return "second" if judgment.lease.swapped else "first"


def pseudonym(project: Project, judgment: Judgment) -> str:
    """The same name for the same person within a project, and nothing that leads back to them."""
    who = (
        f"user {judgment.annotator_id}"
        if judgment.annotator_id
        else f"imported {judgment.imported_annotator}"
    )
    if who == "imported ":
        return ""
    return "annotator-" + hmac.digest(project.seed.encode(), f"pseudonym/{who}".encode(), "sha256").hex()[:12]


def pool_rows(export: Export) -> Iterator[Row]:
    """Prompts with all their responses: what an import reads back."""
    for prompt, responses in pool(export.project, export.filters):
        yield {
            "id": prompt.external_id,
            "prompt": export.prompt(prompt),
            "tags": prompt.tags,
            "split": split_of(prompt),
            "responses": [
                {
                    "id": response.external_id,
                    "text": response.text,
                    "source": response.source,
                    "utility": response.utility,
                    "metadata": json.dumps(response.metadata, ensure_ascii=False),
                }
                for response in responses
            ],
        }


@dataclass(frozen=True)
class Kind:
    """A kind of export: the shape of its rows, and in words what it is for."""

    rows: Callable[[Export], Iterator[Row]]
    columns: Callable[[bool], Columns]
    words: str
    always_conversational: bool = False


KINDS = {
    "trl": Kind(
        trl, pair_columns, "prompt, chosen and rejected: TRL's preference shape with an explicit prompt"
    ),
    "trl_conversational": Kind(trl, pair_columns, "the same, always as lists of messages", True),
    "trl_implicit": Kind(trl_implicit, implicit_columns, "chosen and rejected as whole conversations", True),
    "trl_unpaired": Kind(
        trl_unpaired, unpaired_columns, "prompt, completion and whether it is good (for KTO)"
    ),
    "votes": Kind(votes, vote_columns, "every judgment, with how its pair was chosen and shown"),
    "pool": Kind(pool_rows, pool_columns, "prompts with their responses: what an import reads"),
}
