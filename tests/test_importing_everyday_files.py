"""Ada brings what spreadsheets and data frames really write: other column names, other encodings, empty cells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from annotate import importing
from annotate.importing import ImportResult, Options
from annotate.models import Judgment, Project, Prompt, Response


@pytest.fixture
def empty(db: None) -> Project:
    return Project.objects.create(name="Sky", slug="sky", seed="00" * 16)


def bring(project: Project, folder: Path, content: bytes, name: str, **columns: str) -> ImportResult:
    path = folder / name
    path.write_bytes(content)
    return importing.import_file(project, path, options=Options(columns=columns), report=folder / "bad.jsonl")


def reasons(result: ImportResult) -> dict[int, str]:
    assert result.report is not None
    rows = [json.loads(line) for line in result.report.read_text().splitlines()]
    return {row["row"]: row["reason"] for row in rows}


def lines_of(*rows: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


@pytest.mark.parametrize(
    ("name", "columns"),
    [("cands", {"responses": "cands"}), ("answers", {}), ("outputs", {}), ("generations", {})],
)
def test_a_list_of_responses_in_a_cell_is_read_whatever_its_column_is_called(
    name: str, columns: dict[str, str], empty: Project, tmp_path: Path
) -> None:
    table = f'prompt,{name}\nWhy?,"[""one"",""two""]"\n'.encode()
    assert bring(empty, tmp_path, table, "t.csv", **columns).bad == 0
    assert set(Response.objects.values_list("text", flat=True)) == {"one", "two"}


@pytest.mark.parametrize(
    "row",
    [
        {"response": "a"},
        {"responses": ["a", "b"]},
        {"response_1": "a", "response_2": "b"},
        {"chosen": "a", "rejected": "b"},
        {"response_a": "a", "response_b": "b", "winner": "model_a"},
        {"first": "a", "second": "b", "answer": "tie"},
        {"answer1": "a", "answer2": "b"},
    ],
    ids=lambda row: next(iter(row)),
)
def test_the_named_id_of_the_prompt_is_kept_in_every_shape(
    row: dict[str, Any], empty: Project, tmp_path: Path
) -> None:
    rows = lines_of({"prompt": "Why?", "pid": "p-7", **row})
    assert bring(empty, tmp_path, rows, "t.jsonl", id="pid").bad == 0
    assert Prompt.objects.get().external_id == "p-7"


def test_votes_that_name_ids_find_the_prompt_by_the_named_column(empty: Project, tmp_path: Path) -> None:
    pool = {
        "pid": "p-7",
        "prompt": "Why?",
        "responses": [{"id": "a", "text": "A."}, {"id": "b", "text": "B."}],
    }
    vote = {"pid": "p-7", "chosen_id": "b", "rejected_id": "a"}
    bring(empty, tmp_path, lines_of(pool), "pool.jsonl", id="pid")
    bring(empty, tmp_path, lines_of(vote), "votes.jsonl", id="pid")
    assert Judgment.objects.get().answer == "second"
