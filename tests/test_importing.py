"""Ada imports a file: whatever shape it has, what is good comes in once, and what is bad is named."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from annotate import draws, importing, serving, statements
from annotate.errors import TouchstoneError
from annotate.importing import ImportResult, Options, chunk, files, lines, readers
from annotate.importing.texts import canonical, digest
from annotate.models import Answer, Arm, Comparison, Judgment, Lease, Project, Prompt, Response, User
from tests.test_architecture import ROOT
from tests.test_many_annotators_at_once import database_url

POOL = {"id": "p1", "prompt": "Why is the sky blue?", "responses": ["Scattering.", "It reflects the sea."]}


@pytest.fixture
def empty(db: None) -> Project:
    return Project.objects.create(name="Sky", slug="sky", seed="00" * 16)


@pytest.fixture
def bells(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    rung: list[tuple[object, ...]] = []
    monkeypatch.setattr(files, "ring", lambda *what: rung.append(what))
    return rung


@pytest.fixture
def bring(empty: Project, tmp_path: Path) -> Callable[..., ImportResult]:
    """Import rows, lines or bytes, and keep the report beside the file."""

    def bring(content: Any, name: str = "file.jsonl", **how: Any) -> ImportResult:
        path = tmp_path / name
        path.write_bytes(as_bytes(content))
        how.setdefault("report", tmp_path / "bad.jsonl")
        return importing.import_file(empty, path, **how)

    return bring


def as_bytes(content: Any) -> bytes:
    if isinstance(content, bytes):
        return content
    rows = content if isinstance(content, list) else [content]
    return b"\n".join(row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows) + b"\n"


def named(result: ImportResult) -> dict[int, str]:
    """The report: row number to the code of its reason."""
    assert result.report is not None
    found = [json.loads(line) for line in result.report.read_text().splitlines()]
    assert all(row["reason"].endswith(".") for row in found)
    return {row["row"]: row["code"] for row in found}


@pytest.mark.parametrize("most", [1, 3, 500])
def test_rows_are_stored_alike_however_many_a_statement_takes(
    bring: Callable[..., ImportResult], empty: Project, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """Keys ascend with positions, and each object has its row's key, time and documents."""
    monkeypatch.setattr(statements, "MOST_ROWS", most)
    rows = [{"prompt": f"Why {n}?", "tags": ["sky"], "responses": [f"a {n}", f"b {n}"]} for n in range(60)]
    bring([*rows, {"prompt": "Why 0?", "responses": [{"text": "c", "id": "c1", "shade": "blue"}]}])
    stored = list(empty.responses.order_by("id"))
    assert [row.position for row in stored] == list(range(121))
    assert [row.prompt.text for row in stored[:-1]] == [f"Why {n // 2}?" for n in range(120)]
    assert (stored[-1].metadata, stored[-1].external_id) == ({"shade": "blue"}, "c1")
    assert {(*prompt.tags, prompt.created_at) for prompt in empty.prompts.all()} == {
        ("sky", stored[0].created_at)
    }


def votes(project: Project) -> list[tuple[str, str, str, str]]:
    """Every vote as (first's text, second's text, answer, annotator), in order."""
    rows = Judgment.objects.filter(project=project).order_by("id")
    columns = ("comparison__first__text", "comparison__second__text", "answer", "imported_annotator")
    return list(rows.values_list(*columns))


def choice(project: Project) -> tuple[str, str, str]:
    """Of the only vote: prompt, chosen text, other text."""
    row = Judgment.objects.select_related(
        "comparison__prompt", "comparison__first", "comparison__second"
    ).get()
    pair = (row.comparison.first.text, row.comparison.second.text)
    chosen, other = pair if row.answer == Answer.FIRST else pair[::-1]
    return row.comparison.prompt.text, chosen, other


# --- Pools ---------------------------------------------------------------------------------------------------


def test_a_pool_becomes_prompts_and_responses_at_dense_positions(
    bring: Callable[..., ImportResult], empty: Project, bells: list[Any]
) -> None:
    result = bring([POOL, {"prompt": "And red?", "responses": ["Dusk.", "Dust.", "Fire."], "tags": ["sky"]}])
    assert (result.read, result.prompts_added, result.responses_added, result.bad) == (2, 2, 5, 0)
    responses = Response.objects.filter(project=empty)
    assert list(responses.order_by("pk").values_list("position", flat=True)) == [0, 1, 2, 3, 4]
    assert list(Prompt.objects.values_list("position", "response_count", "tags")) == [
        (0, 2, []),
        (1, 3, ["sky"]),
    ]
    assert (empty.prompt_count, empty.response_count, empty.largest_prompt) == (2, 5, 3)
    assert bells == [("embed", empty.pk)]


def test_responses_keep_source_utility_and_what_else_they_bring(
    bring: Callable[..., ImportResult], bells: list[Any]
) -> None:
    response = {"id": 7, "content": "Rayleigh.", "model": "m-1", "quality": 0.5, "p_win": 0.9, "tokens": 12}
    bring({"prompt": "Why blue?", "responses": [response, {"text": "Sea.", "utility": "2.5"}]})
    first, second = Response.objects.order_by("position")
    assert (first.external_id, first.source, first.utility) == ("7", "m-1", 0.5)
    assert first.metadata == {"p_win": 0.9, "tokens": 12}
    assert second.utility == 2.5


def test_a_named_field_is_the_utility_and_a_probability_becomes_its_logit(
    bring: Callable[..., ImportResult], bells: list[Any]
) -> None:
    rows = {"prompt": "Why?", "responses": [{"text": "a", "p": 0.5}, {"text": "b", "p": 0.88079708}]}
    bring(rows, options=Options(utility_field="p", utility_scale="logit"))
    assert [round(u, 5) for u in Response.objects.order_by("position").values_list("utility", flat=True)] == [
        0,
        2,
    ]


def test_the_same_file_again_changes_nothing(
    bring: Callable[..., ImportResult], empty: Project, bells: list[Any]
) -> None:
    bring(POOL)
    before = list(Response.objects.values())
    result = bring(POOL)
    assert (result.prompts_added, result.responses_added, result.duplicates, result.repeats) == (0, 0, 1, 2)
    assert list(Response.objects.values()) == before
    assert len(bells) == 1


def test_more_responses_for_a_prompt_are_added_to_it(
    bring: Callable[..., ImportResult], empty: Project, bells: list[Any]
) -> None:
    bring([POOL, {"prompt": "And red?", "responses": ["Dusk."]}])
    bring({"prompt": POOL["prompt"], "responses": ["Scattering.", "Ozone.", "Paint."]})
    prompt = Prompt.objects.get(text=POOL["prompt"])
    assert prompt.response_count == prompt.responses.count() == 4
    assert list(Response.objects.order_by("pk").values_list("position", flat=True)) == [0, 1, 2, 3, 4]
    assert (empty.prompt_count, empty.response_count, empty.largest_prompt) == (2, 5, 4)


def test_texts_that_look_the_same_are_the_same(bring: Callable[..., ImportResult], bells: list[Any]) -> None:
    bring(
        [
            {"prompt": "Caf\u00e9?\r\nWhy?", "responses": ["Yes."]},
            {"prompt": " Cafe\u0301?\nWhy? ", "responses": ["Yes.\n"]},
        ]
    )
    assert Prompt.objects.count() == Response.objects.count() == 1
    assert Prompt.objects.get().text == "Caf\u00e9?\r\nWhy?", "the text is stored as it was given"


def test_a_text_and_a_conversation_of_one_message_are_the_same_prompt(
    bring: Callable[..., ImportResult], bells: list[Any]
) -> None:
    bring(
        [
            POOL,
            {"prompt": [{"role": "user", "content": POOL["prompt"]}], "responses": ["Scattering.", "New."]},
        ]
    )
    assert Prompt.objects.get().messages is None
    assert Response.objects.count() == 3


def test_a_conversation_keeps_its_messages_and_has_a_text(
    bring: Callable[..., ImportResult], bells: list[Any]
) -> None:
    talk = [
        {"role": "system", "content": "Be brief."},
        {"from": "human", "value": "Hi"},
        {"from": "gpt", "value": "Hello!"},
        {"role": "user", "content": [{"type": "text", "text": "Why blue?"}]},
    ]
    bring({"messages": talk, "completions": [[{"role": "assistant", "content": "Scattering."}], "Sea."]})
    prompt = Prompt.objects.get()
    assert prompt.text == "System: Be brief.\n\nUser: Hi\n\nAssistant: Hello!\n\nUser: Why blue?"
    assert [m["role"] for m in prompt.conversation] == ["system", "user", "assistant", "user"]
    assert prompt.responses.count() == 2


def test_evaluation_prompts_are_drawn_by_content(
    bring: Callable[..., ImportResult], empty: Project, bells: list[Any]
) -> None:
    bring([{"prompt": f"Question {i}", "responses": ["a", "b"]} for i in range(300)])
    flags = {prompt.digest: prompt.is_evaluation for prompt in Prompt.objects.all()}
    assert flags == {digest: draws.is_evaluation_prompt(empty, digest) for digest in flags}
    assert 10 <= sum(flags.values()) <= 60


def test_rows_with_one_response_each_and_numbered_columns_come_together(
    bring: Callable[..., ImportResult], bells: list[Any]
) -> None:
    table = "prompt,response,source\nWhy?,Because.,m1\nWhy?,Just so.,m2\n"
    bring(table.encode(), "long.csv")
    bring(b'prompt;response_1;response_2\nHow?;Slowly.;Fast, and "well"\n', "wide.csv")
    assert (
        Prompt.objects.get(text="Why?").response_count == Prompt.objects.get(text="How?").response_count == 2
    )


@pytest.mark.parametrize(
    "form", ["jsonl", "jsonl.gz", "json", "pretty.json", "csv", "csv.gz", "parquet", "bom", "unnamed"]
)
def test_every_format_brings_the_same(
    form: str, bring: Callable[..., ImportResult], bells: list[Any], tmp_path: Path
) -> None:
    rows = [
        {
            "id": f"p{i}",
            "prompt": f"Q {i}: ünï, “quoted”\nand more?",
            "responses": [f"A {i}", f"=B {i}"],
            "tags": ["x"],
        }
        for i in range(20)
    ]
    result = bring(written(rows, form, tmp_path), "data" if form == "unnamed" else f"data.{form}")
    assert (result.read, result.prompts_added, result.responses_added, result.bad) == (20, 20, 40, 0)
    prompt = Prompt.objects.get(external_id="p7")
    assert (prompt.text, prompt.tags) == (rows[7]["prompt"], ["x"])
    assert [r.text for r in prompt.responses.order_by("position")] == ["A 7", "=B 7"]


def written(rows: list[dict[str, Any]], form: str, folder: Path) -> bytes:
    plain = as_bytes(rows)
    if form.startswith("csv"):
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows({**row, "responses": json.dumps(row["responses"]), "tags": "x"} for row in rows)
        plain = text.getvalue().encode()
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), folder / "made.parquet")
        return (folder / "made.parquet").read_bytes()
    plain = {"json": json.dumps(rows).encode(), "pretty.json": json.dumps(rows, indent=2).encode()}.get(
        form, plain
    )
    plain = b"\xef\xbb\xbf" + plain if form == "bom" else plain
    return gzip.compress(plain) if form.endswith(".gz") else plain


# --- Pairs already labelled -----------------------------------------------------------------------------------

SKY = "Why is the sky blue?"
HUMAN = f"\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: {SKY}\n\nAssistant:"
ASKED = [{"role": "user", "content": SKY}]


def answer(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


PAIRS = {
    "explicit prompt": {"prompt": SKY, "chosen": "Scattering.", "rejected": "The sea."},
    "explicit conversation": {
        "prompt": ASKED,
        "chosen": [answer("Scattering.")],
        "rejected": [answer("The sea.")],
    },
    "implicit conversation": {
        "chosen": [*ASKED, answer("Scattering.")],
        "rejected": [*ASKED, answer("The sea.")],
    },
    "UltraFeedback": {
        "prompt": SKY,
        "chosen": [*ASKED, answer("Scattering.")],
        "rejected": [*ASKED, answer("The sea.")],
        "score_chosen": 8.0,
    },
    "implicit text": {"chosen": f"{SKY} Scattering.", "rejected": f"{SKY} The sea."},
    "arena": {
        "question_id": "q1",
        "model_a": "m1",
        "model_b": "m2",
        "winner": "model_b",
        "conversation_a": [*ASKED, answer("The sea.")],
        "conversation_b": [*ASKED, answer("Scattering.")],
    },
    "arena table": {
        "prompt": json.dumps([SKY]),
        "response_a": json.dumps(["Scattering."]),
        "response_b": json.dumps(["The sea."]),
        "winner_model_a": 1,
        "winner_model_b": 0,
        "winner_tie": 0,
    },
    "Label Studio": {
        "id": 1,
        "data": {"prompt": SKY, "answer1": "The sea.", "answer2": "Scattering."},
        "annotations": [
            {"completed_by": 3, "result": [{"type": "pairwise", "value": {"selected": "right"}}]}
        ],
    },
    "Label Studio, flat": {
        "prompt": SKY,
        "answer1": "Scattering.",
        "answer2": "The sea.",
        "comparison": "left",
    },
    "own votes": {"prompt": SKY, "first": "The sea.", "second": "Scattering.", "answer": "second"},
}


@pytest.mark.parametrize("shape", PAIRS)
def test_every_shape_of_a_labelled_pair_is_one_imported_vote(
    shape: str, bring: Callable[..., ImportResult], empty: Project, bells: list[Any]
) -> None:
    result = bring(PAIRS[shape])
    assert (result.prompts_added, result.responses_added, result.judgments_added, result.bad) == (1, 2, 1, 0)
    assert choice(empty) == (SKY, "Scattering.", "The sea.")
    comparison = Comparison.objects.get()
    assert (comparison.arm, comparison.rule, comparison.state) == (Arm.IMPORTED, "imported", "done")
    assert (comparison.wanted, comparison.taken, comparison.judged) == (1, 1, 1)
    judgment = Judgment.objects.get()
    assert (judgment.lease, judgment.annotator, judgment.absorbed_step) == (None, None, None)
    assert bells == [("embed", empty.pk), ("absorb", empty.pk)]


def test_hh_rlhf_transcripts_are_split_at_the_last_answer(
    bring: Callable[..., ImportResult], empty: Project, bells: list[Any]
) -> None:
    bring({"chosen": f"{HUMAN} Scattering. Light bends.", "rejected": f"{HUMAN} Scattering is a myth."})
    text, chosen, other = choice(empty)
    assert text == f"User: Hi\n\nAssistant: Hello.\n\nUser: {SKY}"
    assert (chosen, other) == ("Scattering. Light bends.", "Scattering is a myth.")


@pytest.mark.parametrize(
    ("winner", "stored"),
    [("tie", "tie"), ("tie (bothbad)", "both_bad"), ("both_bad", "both_bad"), ("model_a", "first")],
)
def test_arena_winners_keep_their_meaning(
    winner: str, stored: str, bring: Callable[..., ImportResult], empty: Project, bells: list[Any]
) -> None:
    bring({**PAIRS["arena"], "winner": winner, "judge": "arena_user_9"})
    assert votes(empty) == [("The sea.", "Scattering.", stored, "arena_user_9")]


def test_votes_that_name_ids_find_what_the_pool_brought(
    bring: Callable[..., ImportResult], empty: Project, bells: list[Any]
) -> None:
    pool = {
        "id": "p1",
        "prompt": SKY,
        "responses": [{"id": "a", "text": "Sea."}, {"id": "b", "text": "Light."}],
    }
    bring(pool, "pool.jsonl")
    vote = {"prompt_id": "p1", "chosen_id": "b", "rejected_id": "a", "annotator": "w1"}
    tie = {"prompt_id": "p1", "a_id": "b", "b_id": "a", "annotator": "w2"}
    result = bring([vote, tie, {**vote, "chosen_id": "zz"}, {**vote, "prompt_id": "p9"}], "pairs.jsonl")
    assert votes(empty) == [("Sea.", "Light.", "second", "w1"), ("Sea.", "Light.", "tie", "w2")]
    assert named(result) == {3: "reference", 4: "reference"}


def test_an_id_of_a_text_that_was_there_already_still_leads_to_it(
    bring: Callable[..., ImportResult], empty: Project, bells: list[Any]
) -> None:
    twin = [{"id": "a", "text": "Sea."}, {"id": "b", "text": "Light."}, {"id": "c", "text": " Sea. "}]
    bring({"id": "p1", "prompt": SKY, "responses": twin}, "pool.jsonl")
    bring({"prompt_id": "p1", "chosen_id": "c", "rejected_id": "b"}, "pairs.jsonl")
    assert votes(empty) == [("Sea.", "Light.", "first", "")]


def test_several_votes_on_a_pair_are_several_judgments_of_one_comparison(
    bring: Callable[..., ImportResult], empty: Project, bells: list[Any]
) -> None:
    pair = PAIRS["explicit prompt"]
    flipped = {"prompt": SKY, "chosen": pair["rejected"], "rejected": pair["chosen"]}
    bring([{**pair, "annotator": "w1"}, {**flipped, "annotator": "w2"}], "one.jsonl")
    again = bring([{**pair, "annotator": "w3"}, {**pair, "annotator": "w1"}], "two.jsonl")
    assert [(row[2], row[3]) for row in votes(empty)] == [("first", "w1"), ("second", "w2"), ("first", "w3")]
    comparison = Comparison.objects.get()
    assert (comparison.wanted, comparison.taken, comparison.judged) == (3, 3, 3)
    assert (again.judgments_added, again.duplicates) == (1, 1)


def test_an_annotator_who_says_both_is_believed_once_and_named(
    bring: Callable[..., ImportResult], empty: Project, bells: list[Any]
) -> None:
    pair = PAIRS["explicit prompt"]
    flipped = {"prompt": SKY, "chosen": pair["rejected"], "rejected": pair["chosen"], "annotator": "w1"}
    assert named(bring([{**pair, "annotator": "w1"}, flipped])) == {2: "contradiction"}
    assert votes(empty) == [("Scattering.", "The sea.", "first", "w1")]


def test_votes_from_outside_never_mix_with_an_arm(
    bring: Callable[..., ImportResult], empty: Project, bells: list[Any]
) -> None:
    lease = given_a_pair(bring, empty)
    serving.close(lease, lease.Outcome.SKIPPED, timezone.now())
    assert named(bring(PAIRS["explicit prompt"])) == {1: "asked_here"}
    assert not Judgment.objects.exists()


def given_a_pair(bring: Callable[..., ImportResult], project: Project) -> Lease:
    """A lease on the only pair of the pool."""
    bring({"prompt": SKY, "responses": ["Scattering.", "The sea."]})
    [lease] = serving.leases_for(project, User.objects.create(username="ben"))
    return lease


@pytest.mark.parametrize(
    ("vote", "arm"), [({"annotator": "w1"}, Arm.IMPORTED), ({"gold": True}, Arm.GOLD)], ids=["vote", "gold"]
)
@pytest.mark.parametrize("waits", [Arm.ACTIVE, Arm.CONTROL, Arm.EVALUATION])
def test_a_pair_that_only_waits_in_the_queue_takes_votes_and_leaves_it(
    vote: dict[str, Any], arm: str, waits: str, bring: Callable[..., ImportResult], empty: Project
) -> None:
    bring({"prompt": SKY, "responses": ["Scattering.", "The sea.", "Dust."]})
    sky, sea, dust = Response.objects.order_by("pk")
    for draw, second in enumerate((sea, dust)):
        Comparison.objects.create(
            project=empty, prompt=sky.prompt, first=sky, second=second, arm=waits, draw=draw
        )
    result = bring({**PAIRS["explicit prompt"], **vote})
    assert (result.bad, result.judgments_added, result.gold_added) == (0, arm == "imported", arm == "gold")
    found = Comparison.objects.order_by("second")
    assert list(found.values_list("arm", "draw")) == [(arm, None), (waits, 1)]


def test_a_gold_pair_waits_for_everyone_and_is_no_judgment(
    bring: Callable[..., ImportResult], bells: list[Any]
) -> None:
    gold = {**PAIRS["own votes"], "gold": True}
    result = bring([gold, gold, {**gold, "answer": "first"}, {**gold, "gold": "perhaps"}, PAIRS["own votes"]])
    assert (result.gold_added, result.judgments_added, result.duplicates) == (1, 0, 1)
    assert named(result) == {3: "contradiction", 4: "type", 5: "asked_here"}
    comparison = Comparison.objects.get()
    assert (comparison.arm, comparison.gold_answer, comparison.state) == (Arm.GOLD, "second", "open")
    assert (comparison.taken, comparison.wanted) == (0, serving.EVERYBODY)


def test_a_vote_keeps_how_it_was_given(bring: Callable[..., ImportResult], bells: list[Any]) -> None:
    details = {"strength": 2, "lead_time": 4.5, "rationale": "Correct.", "created_at": "2024-05-01T10:00:00Z"}
    bring({**PAIRS["own votes"], **details, "criteria": '{"truth": "second"}', "flags": ["hard"]})
    judgment = Judgment.objects.get()
    assert (judgment.strength, judgment.lead_time, judgment.rationale) == (2, 4.5, "Correct.")
    assert (judgment.criteria, judgment.flags) == ({"truth": "second"}, ["hard"])
    assert judgment.created_at.isoformat() == "2024-05-01T10:00:00+00:00"


def test_own_votes_that_were_taken_back_bring_no_judgment(
    bring: Callable[..., ImportResult], bells: list[Any]
) -> None:
    result = bring({**PAIRS["own votes"], "current": False})
    assert (result.responses_added, result.judgments_added) == (2, 0)


# --- Files and rows that are wrong ----------------------------------------------------------------------------

GOOD = json.dumps(POOL).encode()
HOSTILE: dict[str, tuple[bytes, str]] = {
    "not JSON": (b'{"prompt": "x", ', "json"),
    "a raw NUL": (b'{"prompt": "a\0b", "responses": ["y"]}', "json"),
    "an escaped NUL": (b'{"prompt": "a\\u0000b", "responses": ["y"]}', "nul"),
    "a NUL in an id": (b'{"prompt": "a", "id": "\\u0000", "responses": ["y"]}', "nul"),
    "a NUL in metadata": (b'{"prompt": "a", "responses": [{"text": "y", "z": {"k": "\\u0000"}}]}', "nul"),
    "a lone surrogate": (b'{"prompt": "a\\ud800b", "responses": ["y"]}', "encoding"),
    "a lone surrogate in a tag": (b'{"prompt": "a", "tags": ["\\udfff"], "responses": ["y"]}', "encoding"),
    "not UTF-8": (b'{"prompt": "caf\xe9", "responses": ["y"]}', "encoding"),
    "a key twice": (b'{"prompt": "a", "prompt": "b", "responses": ["y"]}', "duplicate_key"),
    "a key twice inside": (b'{"prompt": "a", "responses": [{"text": "y", "text": "z"}]}', "duplicate_key"),
    "NaN": (b'{"prompt": "a", "responses": [{"text": "y", "utility": NaN}]}', "number"),
    "Infinity": (b'{"prompt": "a", "responses": [{"text": "y", "z": -Infinity}]}', "number"),
    "a number beyond floats": (b'{"prompt": "a", "responses": [{"text": "y", "utility": 1e999}]}', "number"),
    "an infinite number in metadata": (
        b'{"prompt": "a", "responses": [{"text": "y", "z": 1e999}]}',
        "number",
    ),
    "a number of 5,000 digits": (
        b'{"prompt": "a", "id": ' + b"9" * 5000 + b', "responses": ["y"]}',
        "number",
    ),
    "depth 100,000": (b'{"prompt": "a", "responses": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nesting"),
    "depth 100": (
        b'{"prompt": "a", "responses": [{"text": "y", "z": ' + b"[" * 100 + b"]" * 100 + b"}]}",
        "nesting",
    ),
    "150,000 lists": (b'{"prompt": "a", "responses": [' + b"[]," * 150_000 + b"[]]}", "nesting"),
    "a list": (b'["prompt", "responses"]', "type"),
    "a number": (b"42", "type"),
    "null": (b"null", "type"),
    "a prompt that is a number": (b'{"prompt": 5, "responses": ["y"]}', "type"),
    "a prompt that is an object": (b'{"prompt": {"a": 1}, "responses": ["y"]}', "type"),
    "no prompt": (b'{"responses": ["y"]}', "shape"),
    "no fields": (b"{}", "shape"),
    "an empty prompt": (b'{"prompt": " \\n ", "responses": ["y"]}', "empty"),
    "no responses": (b'{"prompt": "a", "responses": []}', "empty"),
    "responses that are a text": (b'{"prompt": "a", "responses": "y"}', "type"),
    "an empty response": (b'{"prompt": "a", "responses": ["y", ""]}', "empty"),
    "responses that are all null": (b'{"prompt": "a", "responses": [null]}', "empty"),
    "a response without text": (b'{"prompt": "a", "responses": [{"source": "m"}]}', "type"),
    "a text of 2 million characters": (
        b'{"prompt": "' + b"x" * 2_000_000 + b'", "responses": ["y"]}',
        "long",
    ),
    "an id of 300 characters": (b'{"prompt": "a", "id": "' + b"x" * 300 + b'", "responses": ["y"]}', "long"),
    "a utility that is a word": (
        b'{"prompt": "a", "responses": [{"text": "y", "utility": "good"}]}',
        "number",
    ),
    "a utility that is true": (b'{"prompt": "a", "responses": [{"text": "y", "utility": true}]}', "number"),
    "tags that are a number": (b'{"prompt": "a", "tags": 5, "responses": ["y"]}', "type"),
    "an unknown role": (
        b'{"prompt": [{"role": "root", "content": "x"}], "responses": ["y"]}',
        "conversation",
    ),
    "an image": (
        b'{"prompt": [{"role": "user", "content": [{"type": "image"}]}], "responses": ["y"]}',
        "type",
    ),
    "a prompt that ends with the assistant": (
        b'{"prompt": [{"role": "assistant", "content": "x"}], "responses": ["y"]}',
        "conversation",
    ),
    "the same text twice": (b'{"prompt": "a", "chosen": "y", "rejected": " y"}', "same"),
    "an unknown winner": (b'{"prompt": "a", "response_a": "x", "response_b": "y", "winner": "c"}', "answer"),
    "two winners": (
        b'{"prompt":"a","response_a":"x","response_b":"y","winner_model_a":1,"winner_model_b":1,"winner_tie":0}',
        "answer",
    ),
    "strength of a tie": (
        b'{"prompt": "a", "first": "x", "second": "y", "answer": "tie", "strength": 1}',
        "number",
    ),
    "strength 9": (b'{"prompt": "a", "chosen": "x", "rejected": "y", "strength": 9}', "number"),
    "a negative lead time": (b'{"prompt": "a", "chosen": "x", "rejected": "y", "lead_time": -1}', "number"),
    "a time that is none": (
        b'{"prompt": "a", "chosen": "x", "rejected": "y", "created_at": "yesterday"}',
        "time",
    ),
    "dialogues that part early": (
        b'{"chosen": "Human: a\\n\\nAssistant: b\\n\\nHuman: c\\n\\nAssistant: d",'
        b' "rejected": "Human: a\\n\\nAssistant: x\\n\\nHuman: y\\n\\nAssistant: z"}',
        "conversation",
    ),
    "nothing in common": (b'{"chosen": "abc", "rejected": "xyz"}', "empty"),
}


def test_every_kind_of_bad_row_is_named_and_nothing_else_is_lost(
    bring: Callable[..., ImportResult], empty: Project, bells: list[Any]
) -> None:
    rows, wanted = [], {}
    for i, (bad, code) in enumerate(HOSTILE.values()):
        rows += [json.dumps({"prompt": f"Good {i}", "responses": ["a", "b"]}).encode(), bad]
        wanted[2 * i + 2] = code
    result = bring(b"\n".join(rows) + b"\n")
    assert named(result) == wanted
    assert (result.prompts_added, result.bad) == (len(HOSTILE), len(HOSTILE))
    assert set(Prompt.objects.values_list("text", flat=True)) == {f"Good {i}" for i in range(len(HOSTILE))}


def test_bad_elements_of_a_json_array_are_named_and_the_others_come_in(
    bring: Callable[..., ImportResult], bells: list[Any]
) -> None:
    bad = [row for name, (row, _) in HOSTILE.items() if name not in ("not JSON",)]
    body = (
        b"[\n"
        + b",\n".join([GOOD, *bad, b'{"prompt": "unquoted}', b'{"prompt": "Last", "responses": ["z"]}'])
        + b"\n]"
    )
    result = bring(body, "array.json")
    assert (result.bad, result.prompts_added) == (len(bad) + 1, 1)
    other = bring(
        b"["
        + b",".join([b'{"prompt": "x" "y"}', GOOD, b"7", b'{"prompt": "Last", "responses": ["z"]}'])
        + b"]",
        "b.json",
    )
    assert named(other) == {1: "json", 3: "type"}
    assert Prompt.objects.filter(text="Last").exists()


def test_a_line_that_is_too_long_is_passed_over_in_bounded_memory(
    bring: Callable[..., ImportResult], bells: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "LONGEST_ROW", 1 << 16)
    long = b'{"prompt": "' + b"x" * (1 << 20) + b'", "responses": ["y"]}'
    later = b'{"prompt": "Later", "responses": ["z"]}'
    for name, body in (
        ("a.jsonl", b"\n".join([GOOD, long, later])),
        ("a.json", b"[" + b",".join([GOOD, long, later]) + b"]"),
    ):
        assert named(bring(body, name)) == {2: "long"}
    assert Prompt.objects.count() == 2
    table = b"prompt,response\nA?,b\nlong," + b"x" * (1 << 20) + b"\nC?,d\n"
    assert named(bring(table, "a.csv")) == {3: "long"}
    assert Prompt.objects.filter(text="C?").exists()


def test_a_gzip_bomb_ends_with_a_sentence(
    bring: Callable[..., ImportResult], bells: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "LARGEST_UNPACKED", 8 << 20)
    result = bring(gzip.compress(GOOD + b"\n" + b" " * (64 << 20)), "bomb.jsonl.gz")
    assert named(result) == {2: "bomb"}
    assert Prompt.objects.count() == 1


def test_a_gzip_file_that_ends_early_keeps_what_was_whole(
    bring: Callable[..., ImportResult], bells: list[Any]
) -> None:
    rows = [
        json.dumps({"prompt": f"{os.urandom(64).hex()}", "responses": ["a"]}).encode() for _ in range(400)
    ]
    packed = gzip.compress(b"\n".join(rows))
    result = bring(packed[: len(packed) // 2], "cut.jsonl.gz")
    assert 100 < Prompt.objects.count() == result.prompts_added < 300
    assert set(named(result).values()) <= {"damaged", "json"}


def test_bad_rows_of_a_table_are_named_by_the_spreadsheets_numbers(
    bring: Callable[..., ImportResult], bells: list[Any]
) -> None:
    table = b'prompt,response\nA?,one\nB?,two,three\n,four\nC?,caf\xe9\nD?,"fi\nve"\nE?,six\0\n"F"?,seven\nG?,eight\n'
    assert named(bring(table, "t.csv")) == {3: "csv", 4: "shape", 5: "encoding", 7: "nul", 8: "csv"}
    assert list(Prompt.objects.values_list("text", flat=True)) == ["A?", "D?", "G?"]


def test_parquet_rows_that_are_wrong_are_named(
    bring: Callable[..., ImportResult], bells: list[Any], tmp_path: Path
) -> None:
    rows = [
        {"prompt": "A?", "response": "one", "utility": 1.0},
        {"prompt": None, "response": "two", "utility": float("nan")},
        {"prompt": "C?", "response": "a\0b", "utility": 0.0},
        {"prompt": "D?", "response": "four", "utility": float("inf")},
        {"prompt": "E?", "response": "five", "utility": float("nan")},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    assert named(bring((tmp_path / "x.parquet").read_bytes(), "x.parquet")) == {
        2: "shape",
        3: "nul",
        4: "number",
    }
    assert list(Response.objects.values_list("text", "utility")) == [("one", 1.0), ("five", None)]


def test_a_parquet_file_with_a_column_beyond_memory_is_refused_before_it_is_unpacked(
    bring: Callable[..., ImportResult], bells: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "LARGEST_CHUNK", 1 << 20)
    long = [{"prompt": f"Q {i}", "response": f"{i} " + "x" * 100_000} for i in range(20)]
    pq.write_table(pa.Table.from_pylist(long), tmp_path / "x.parquet", compression="zstd")
    assert named(bring((tmp_path / "x.parquet").read_bytes(), "x.parquet")) == {1: "bomb"}
    pq.write_table(pa.Table.from_pylist(long), tmp_path / "x.parquet", row_group_size=4)
    assert bring((tmp_path / "x.parquet").read_bytes(), "x.parquet").prompts_added == 20


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"PK\x03\x04zip", "zip archive"),
        (b"\x28\xb5\x2f\xfdzstd", "zstandard"),
        ("{}".encode("utf-16"), "UTF-16"),
        (b"PAR1 is not enough", "damaged"),
        (b"\x1f\x8bnot gzip", "cannot be read"),
        (gzip.compress(b"", mtime=0), "empty"),
    ],
)
def test_a_file_that_is_something_else_is_refused_in_a_sentence(
    content: bytes, words: str, bring: Callable[..., ImportResult]
) -> None:
    with pytest.raises(TouchstoneError, match=words):
        bring(content, "file.bin")


def test_a_database_error_nobody_foresaw_costs_one_row(
    bring: Callable[..., ImportResult], bells: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    write = chunk.write

    def refuse(project_id: int, rows: list[Any]) -> chunk.Tally:
        if any(row.prompt.messages[0]["content"] == "Q 3" for row in rows):
            raise ValueError("unforeseen")
        return write(project_id, rows)

    monkeypatch.setattr(chunk, "write", refuse)
    result = bring([{"prompt": f"Q {i}", "responses": ["a"]} for i in range(9)])
    assert named(result) == {4: "database"}
    assert Prompt.objects.count() == 8
    assert list(Response.objects.order_by("pk").values_list("position", flat=True)) == list(range(8))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["prompt", "responses", "chosen", "rejected", "text", "role", "content", "winner"]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_no_json_whatsoever_breaks_an_import(bring: Callable[..., ImportResult], value: Any) -> None:
    result = bring([json.dumps(value).encode(), GOOD])
    assert result.read == 2
    assert Prompt.objects.filter(text=POOL["prompt"]).exists()


@given(st.text(), st.text())
def test_two_texts_have_one_digest_exactly_if_they_are_canonically_equal(a: str, b: str) -> None:
    assert (digest(a) == digest(b)) == (canonical(a) == canonical(b))
    assert canonical(canonical(a)) == canonical(a)


# --- Progress, resuming, concurrency --------------------------------------------------------------------------


def test_progress_reaches_the_end_of_the_file(bring: Callable[..., ImportResult], bells: list[Any]) -> None:
    told: list[tuple[int, int, int]] = []
    bring(
        [{"prompt": f"Q {i}", "responses": ["a"]} for i in range(1200)],
        progress=lambda result, *where: told.append((result.read, *where)),
    )
    at_once = files.CHUNK_ROWS[connection.vendor]
    assert [rows for rows, _, _ in told] == [*range(at_once, 1200, at_once), 1200]
    assert told[-1][1] == told[-1][2] > 0


def test_an_import_can_be_stopped_and_taken_up_again(
    bring: Callable[..., ImportResult], empty: Project, bells: list[Any]
) -> None:
    rows = [{"prompt": f"Q {i}", "responses": ["a"]} for i in range(1500)]
    result = bring(rows, progress=lambda result, *_: result.read < 1000)
    assert (result.cancelled, result.prompts_added, Prompt.objects.count()) == (True, 1000, 1000)
    result = bring(rows, before=result.as_json())
    assert (result.cancelled, result.prompts_added, result.read, result.duplicates) == (False, 1500, 1500, 0)


def test_an_import_taken_up_again_names_every_bad_row_once(
    bring: Callable[..., ImportResult], empty: Project, bells: list[Any]
) -> None:
    rows = [{"prompt": f"Q {i}", "responses": ["a"] if i % 100 else []} for i in range(1500)]
    stopped = bring(rows, progress=lambda *_: False)
    result = bring(rows, before=stopped.as_json())
    assert list(named(result)) == list(range(1, 1500, 100))
    assert len((result.report or Path()).read_text().splitlines()) == result.bad == 15


@pytest.mark.django_db(transaction=True)
def test_two_imports_at_once_share_the_positions_out(
    empty: Project, tmp_path: Path, bells: list[Any]
) -> None:
    def run(name: str) -> None:
        path = tmp_path / name
        rows = [{"prompt": f"{name if i % 2 else 'both'} {i}", "responses": ["a", name]} for i in range(600)]
        path.write_bytes(as_bytes(rows))
        try:
            importing.import_file(Project.objects.get(pk=empty.pk), path)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(name,)) for name in ("x.jsonl", "y.jsonl")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    empty.refresh_from_db()
    assert (empty.prompt_count, empty.response_count, empty.largest_prompt) == (900, 2100, 3)
    positions = Response.objects.order_by("pk").values_list("position", flat=True)
    assert list(positions) == list(range(2100))
    counts = {prompt.pk: prompt.response_count for prompt in Prompt.objects.all()}
    assert counts == {pk: Response.objects.filter(prompt=pk).count() for pk in counts}


@pytest.mark.django_db(transaction=True)
def test_an_import_that_was_killed_is_run_again_and_ends_in_the_same_state(
    empty: Project, tmp_path: Path, bells: list[Any]
) -> None:
    path = tmp_path / "file.jsonl"
    path.write_bytes(as_bytes([{"prompt": f"Q {i}", "responses": ["a", "b"]} for i in range(20_000)]))
    environment = os.environ | {"DATABASE_URL": database_url(), "CELERY_BROKER_URL": "memory://"}
    command = [sys.executable, str(ROOT / "manage.py"), "import_data", str(path), "--project", empty.slug]
    child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while Prompt.objects.count() < 1000 and time.monotonic() < deadline:
        time.sleep(0.01)
    child.kill()
    child.wait()
    stored = Prompt.objects.count()
    assert 1000 <= stored < 20_000
    result = importing.import_file(empty, path)
    assert (result.prompts_added, result.duplicates) == (20_000 - stored, stored)
    assert list(Prompt.objects.order_by("position").values_list("text", flat=True)) == [
        f"Q {i}" for i in range(20_000)
    ]
    assert list(Response.objects.order_by("pk").values_list("position", flat=True)) == list(range(40_000))


# --- The command ----------------------------------------------------------------------------------------------


def test_the_command_makes_the_project_and_its_status_says_that_rows_were_bad(
    db: None, tmp_path: Path, bells: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "pool.jsonl"
    path.write_bytes(as_bytes([POOL]))
    call_command("import_data", str(path), project="Blue skies")
    assert Project.objects.get(slug="blue-skies").response_count == 2
    path.write_bytes(as_bytes([POOL, b"{"]))
    with pytest.raises(SystemExit) as stop:
        call_command("import_data", str(path), project="blue-skies", report=tmp_path / "bad.jsonl")
    assert stop.value.code == 1
    assert "1 bad rows were skipped (json 1)" in capsys.readouterr().out
    assert json.loads((tmp_path / "bad.jsonl").read_text())["row"] == 2


def test_the_command_says_in_a_sentence_what_is_wrong_with_a_file(db: None, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="cannot be read"):
        call_command("import_data", str(tmp_path / "nowhere.jsonl"), project="x")


def test_a_preview_says_what_a_file_would_bring_and_stores_nothing(empty: Project, tmp_path: Path) -> None:
    path = tmp_path / "mixed.jsonl"
    path.write_bytes(as_bytes([POOL, {"q": "Why?", "chosen": "a", "rejected": "b"}, b"{", {"x": 1}]))
    found = importing.preview(path, Options(columns={"prompt": "q"}))
    assert found.kind.format == "jsonl"
    assert found.shapes == {"prompts with responses": 1, "pairs with chosen and rejected": 1}
    assert (found.prompts, found.responses, found.votes) == (2, 4, 1)
    assert [number for number, _ in found.problems] == [3, 4]
    assert found.columns == ["id", "prompt", "responses", "q", "chosen", "rejected", "x"]
    assert found.samples[0]["responses"] == [("", "Scattering."), ("", "It reflects the sea.")]
    assert not Prompt.objects.exists()


def test_columns_can_be_named(bring: Callable[..., ImportResult], bells: list[Any]) -> None:
    bring({"q": "Why?", "outs": ["a", "b"]}, options=Options(columns={"prompt": "q", "responses": "outs"}))
    assert Prompt.objects.get().response_count == 2
