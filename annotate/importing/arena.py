"""Battles as LMSYS and its followers publish them: two models, what each said, and a winner."""

from __future__ import annotations

from typing import Any

from annotate.errors import TouchstoneError
from annotate.importing import conversations, texts
from annotate.importing.conversations import Message
from annotate.importing.rows import Options, Row, plain_response, prompt_in
from annotate.importing.strictjson import parse
from annotate.importing.votes import vote
from annotate.models import Answer

Json = dict[str, Any]
WINNERS = {
    "model_a": Answer.FIRST,
    "model_b": Answer.SECOND,
    "a": Answer.FIRST,
    "b": Answer.SECOND,
    "tie": Answer.TIE,
    "tie (bothbad)": Answer.BOTH_BAD,
    "both_bad": Answer.BOTH_BAD,
    "bothbad": Answer.BOTH_BAD,
}
ONE_HOT = {"winner_model_a": Answer.FIRST, "winner_model_b": Answer.SECOND, "winner_tie": Answer.TIE}


def is_arena(row: Json) -> bool:
    sides = {"conversation_a", "conversation_b"} <= row.keys() or {"response_a", "response_b"} <= row.keys()
    return sides and ("winner" in row or ONE_HOT.keys() <= row.keys())


def arena(row: Json, options: Options) -> Row:
    """The last answers of the two models to what they were both asked."""
    messages, a, b = sides(row)
    responses = [
        plain_response(text, source=texts.source_of(row.get(f"model_{side}"), f"model_{side}"))
        for side, text in (("a", a), ("b", b))
    ]
    judge = next(
        (row[name] for name in ("annotator", "judge", "judge_hash") if row.get(name) is not None), None
    )
    judged = {**row, "annotator": "/".join(map(str, judge)) if isinstance(judge, list) else judge}
    votes = [vote(judged, responses[0].digest, responses[1].digest, winner(row))]
    return Row(0, prompt_in(messages, row, "prompt_id"), responses, votes)


def winner(row: Json) -> str:
    if "winner" not in row:
        won = [answer for name, answer in ONE_HOT.items() if str(row[name]).lower() in ("1", "1.0", "true")]
        if len(won) != 1:
            raise TouchstoneError("not exactly one of the winner columns is 1.", code="answer")
        return won[0]
    answer = WINNERS.get(str(row["winner"]).strip().lower())
    if answer is None:
        words = f"winner is {str(row['winner'])[:40]!r}, not one of {', '.join(WINNERS)}."
        raise TouchstoneError(words, code="answer")
    return answer


def sides(row: Json) -> tuple[list[Message], str, str]:
    if "conversation_a" in row:
        a, b = row["conversation_a"], row["conversation_b"]
        if not isinstance(a, list) or not isinstance(b, list):
            raise TouchstoneError(f"conversation_a is {texts.kind(a)}, not a list.", code="type")
        return conversations.split(a, b)
    turns = [listed(row.get(name)) for name in ("prompt", "response_a", "response_b")]
    if all(isinstance(turn, list) for turn in turns):
        asked, a, b = turns
        return conversations.split(woven(asked, a), woven(asked, b))
    messages = conversations.prompt_messages(row.get("prompt"))
    a, b = (conversations.response_text(row[name], name) for name in ("response_a", "response_b"))
    return messages, a, b


def listed(value: Any) -> Any:
    """A list of turns that was written as JSON into a text cell."""
    if isinstance(value, str) and value.startswith("[") and value.endswith("]"):
        try:
            value = parse(value.encode("utf-8", "surrogatepass"))
        except TouchstoneError:
            return value
    return value


def woven(asked: list[Any], answered: list[Any]) -> list[Json]:
    """Questions and answers in turn, as one conversation."""
    if len(asked) != len(answered):
        raise TouchstoneError("there are not as many answers as questions.", code="conversation")
    if asked and isinstance(asked[0], dict):
        return [*asked, *answered]
    pairs = zip(asked, answered, strict=True)
    return [
        {"role": role, "content": text}
        for turn in pairs
        for role, text in zip(("user", "assistant"), turn, strict=True)
    ]
