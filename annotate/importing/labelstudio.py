"""Tasks of Label Studio's pairwise template, with or without annotations, in its JSON and its flat exports."""

from __future__ import annotations

from typing import Any

from annotate.errors import TouchstoneError
from annotate.importing import conversations, texts
from annotate.importing.rows import Options, Row, Vote, plain_response, prompt_in
from annotate.importing.votes import vote
from annotate.models import Answer

Json = dict[str, Any]
SELECTED = {"left": Answer.FIRST, "right": Answer.SECOND, "tie": Answer.TIE, "both": Answer.TIE}
FLAT = ("comparison", "pairwise", "pw", "preference")


def is_label_studio(row: Json) -> bool:
    data = row.get("data", row)
    return isinstance(data, dict) and {"prompt", "answer1", "answer2"} <= data.keys()


def label_studio(row: Json, options: Options) -> Row:
    """A task's two answers, and a vote for each annotation that chose between them."""
    data = row.get("data", row)
    messages = conversations.prompt_messages(data["prompt"])
    responses = [
        plain_response(
            conversations.response_text(data[name], name),
            source=texts.source_of(
                data.get(f"{name}_model", data.get(f"model{name[-1]}")), f"model of {name}"
            ),
        )
        for name in ("answer1", "answer2")
    ]
    a, b = (response.digest for response in responses)
    votes = annotated(row, a, b) if data is not row else flat(row, a, b)
    return Row(0, prompt_in(messages, {"id": row.get("id"), "tags": data.get("tags")}), responses, votes)


def annotated(task: Json, a: str, b: str) -> list[Vote]:
    annotations = task.get("annotations") or []
    if not isinstance(annotations, list) or not all(isinstance(part, dict) for part in annotations):
        raise TouchstoneError("annotations are not a list of objects.", code="type")
    votes = []
    for annotation in annotations:
        selected = choice(annotation)
        if selected and not annotation.get("was_cancelled"):
            votes.append(vote(about(annotation), a, b, answer_of(selected)))
    return votes


def choice(annotation: Json) -> Any:
    """What the pairwise control of an annotation says; None if it has none."""
    results = annotation.get("result")
    if not isinstance(results, list):
        return None
    values = [
        part.get("value") for part in results if isinstance(part, dict) and part.get("type") == "pairwise"
    ]
    return next((value.get("selected") for value in values if isinstance(value, dict)), None)


def flat(row: Json, a: str, b: str) -> list[Vote]:
    selected = next((row[name] for name in FLAT if row.get(name)), None)
    if isinstance(selected, dict):
        selected = selected.get("selected")
    return [vote(about(row), a, b, answer_of(selected))] if selected else []


def answer_of(selected: Any) -> str:
    answer = SELECTED.get(selected) if isinstance(selected, str) else None
    if answer is None:
        words = f"selected is {str(selected)[:40]!r}, not one of {', '.join(SELECTED)}."
        raise TouchstoneError(words, code="answer")
    return answer


def about(annotation: Json) -> Json:
    who = annotation.get("completed_by", annotation.get("annotator"))
    if isinstance(who, dict):
        who = who.get("email", who.get("id"))
    return {name: annotation.get(name) for name in ("lead_time", "created_at")} | {"annotator": who}
