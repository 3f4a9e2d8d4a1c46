"""Rows understood: one function for each shape that a row may have, and the order in which they are tried."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from django.utils.translation import gettext_noop

from annotate.errors import TouchstoneError
from annotate.importing import conversations, texts
from annotate.importing.arena import arena, is_arena
from annotate.importing.labelstudio import is_label_studio, label_studio
from annotate.importing.readers import json_value
from annotate.importing.rows import (
    Options,
    Row,
    plain_response,
    prompt_in,
    response_in,
    responses_in,
)
from annotate.importing.votes import answer_of, vote
from annotate.models import Answer

Json = dict[str, Any]
PROMPTS = ("prompt", "messages", "instruction", "question")
LISTS = ("responses", "completions", "candidates", "answers", "outputs", "generations")
CARRIED = ("source", "model", "utility", "quality", "label", "metadata")
SINGLES = ("response", "completion", "text", "output", "answer")


def understand(number: int, value: Any, options: Options) -> Row:
    """The row as what it brings, or an error that names what is wrong with it."""
    if not isinstance(value, dict):
        raise TouchstoneError(f"the row is {texts.kind(value)}, not an object.", code="type")
    value = renamed(value, options)
    for _, fits, read in SHAPES:
        if fits(value):
            row = read(value, options)
            row.number = number
            return row
    fields = ", ".join(sorted(map(str, value))[:8])[:120] or "none"
    raise TouchstoneError(f"no known shape has these fields: {fields}.", code="shape")


def renamed(value: Json, options: Options) -> Json:
    """The row with the columns that the person named, read as ours are, beside those it has."""
    named = {
        ours: json_value(ours, value[theirs]) for ours, theirs in options.columns.items() if theirs in value
    }
    if "id" in named:
        named.setdefault("prompt_id", named["id"])  # as rows of single responses and of votes call it
    return value | named


def shape_of(value: Json, options: Options) -> str:
    """The name of the shape a row would be read as; empty if none."""
    value = renamed(value, options)
    return next((name for name, fits, _ in SHAPES if fits(value)), "")


def prompt_of(row: Json) -> list[conversations.Message]:
    name = next((name for name in PROMPTS if row.get(name) is not None), "prompt")
    if name == "instruction" and isinstance(row.get("input"), str) and row["input"].strip():
        return conversations.prompt_messages(f"{row[name]}\n\n{row['input']}", name)
    return conversations.prompt_messages(row.get(name), name)


def has_prompt(row: Json) -> bool:
    return any(row.get(name) is not None for name in PROMPTS)


def is_pool(row: Json) -> bool:
    return has_prompt(row) and any(name in row for name in LISTS)


def pool(row: Json, options: Options) -> Row:
    """A prompt and a list of its responses."""
    name = next(name for name in LISTS if name in row)
    return Row(0, prompt_in(prompt_of(row), row), responses_in(row[name], options))


def is_single(row: Json) -> bool:
    return has_prompt(row) and any(name in row for name in SINGLES)


def single(row: Json, options: Options) -> Row:
    """A prompt and one response; rows of the same prompt come together (a long table, TRL's unpaired shape)."""
    name = next(name for name in SINGLES if name in row)
    value: Json = {key: row[key] for key in CARRIED if key in row}
    if options.utility_field in row:
        value[options.utility_field] = row[options.utility_field]
    value |= {"text": row[name], "id": row.get("response_id")}
    return Row(0, prompt_in(prompt_of(row), row, "prompt_id"), [response_in(value, name, options)])


def is_pair(row: Json) -> bool:
    return "chosen" in row and "rejected" in row


def pair(row: Json, options: Options) -> Row:
    """A preferred and another response: with the prompt beside them, or each with the prompt before it."""
    chosen, rejected = row["chosen"], row["rejected"]
    implicit = not has_prompt(row) or (is_conversation(chosen) and is_conversation(rejected))
    if implicit:
        messages, chosen, rejected = conversations.split(chosen, rejected)
    else:
        messages = prompt_of(row)
        chosen = conversations.response_text(chosen, "chosen")
        rejected = conversations.response_text(rejected, "rejected")
    responses = [
        plain_response(text, *(texts.name_of(row.get(f"{name}_{part}"), part) for part in ("id", "model")))
        for name, text in (("chosen", chosen), ("rejected", rejected))
    ]
    votes = [vote(row, responses[0].digest, responses[1].digest, Answer.FIRST)]
    return Row(0, prompt_in(messages, row, "prompt_id"), responses, votes)


def is_conversation(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 1


def is_own_vote(row: Json) -> bool:
    return has_prompt(row) and {"first", "second", "answer"} <= row.keys()


def own_vote(row: Json, options: Options) -> Row:
    """A vote as Touchstone exports it; one that was undone or edited brings its responses only."""
    answer = answer_of(row["answer"])
    responses = [
        plain_response(
            conversations.response_text(row[side], side),
            texts.name_of(row.get(f"{side}_id"), f"{side}_id"),
            texts.source_of(row.get(f"{side}_source"), f"{side}_source"),
        )
        for side in ("first", "second")
    ]
    votes = [vote(row, responses[0].digest, responses[1].digest, answer)] if is_current(row) else []
    return Row(0, prompt_in(prompt_of(row), row, "prompt_id"), responses, votes)


def is_current(row: Json) -> bool:
    return str(row.get("current", True)).lower() not in ("false", "0")


def is_by_id(row: Json) -> bool:
    return "prompt_id" in row and (
        {"chosen_id", "rejected_id"} <= row.keys() or {"a_id", "b_id"} <= row.keys()
    )


def by_id(row: Json, options: Options) -> Row:
    """A vote on responses that are stored already, named by the ids they were imported with."""
    names = ("chosen_id", "rejected_id") if "chosen_id" in row else ("a_id", "b_id")
    prompt_id, a, b = (texts.name_of(row.get(name), name) for name in ("prompt_id", *names))
    if not (prompt_id and a and b):
        raise TouchstoneError(f"prompt_id, {names[0]} or {names[1]} is empty.", code="empty")
    answer = Answer.FIRST if "chosen_id" in row else answer_of(row.get("answer", "tie"))
    return Row(0, None, votes=[vote(row, a, b, answer)], prompt_id=prompt_id)


WIDE = re.compile(r"(?:response|answer|completion|output)_?\d+\Z")


def is_wide(row: Json) -> bool:
    return has_prompt(row) and any(numbered(row))


def numbered(row: Json) -> list[str]:
    """Names of the numbered columns that hold something; a null is an empty cell."""
    return [name for name, value in row.items() if WIDE.match(name) and value is not None]


def wide(row: Json, options: Options) -> Row:
    """A prompt and its responses in numbered columns."""
    found = [response_in(row[name], name, options) for name in numbered(row)]
    return Row(0, prompt_in(prompt_of(row), row), found)


SHAPES: list[tuple[str, Callable[[Json], bool], Callable[[Json, Options], Row]]] = [
    (gettext_noop("votes exported by Touchstone"), is_own_vote, own_vote),
    (gettext_noop("pairs with chosen and rejected"), is_pair, pair),
    (gettext_noop("arena battles"), is_arena, arena),
    (gettext_noop("Label Studio tasks"), is_label_studio, label_studio),
    (gettext_noop("votes that name ids"), is_by_id, by_id),
    (gettext_noop("prompts with responses"), is_pool, pool),
    (gettext_noop("prompts with responses in numbered columns"), is_wide, wide),
    (gettext_noop("prompts with one response a row"), is_single, single),
]
