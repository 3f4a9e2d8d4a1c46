"""Ada brings what spreadsheets and data frames really write: other column names, other encodings, empty cells."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from annotate import importing
from annotate.importing import ImportResult, Options, readers
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


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1"])
def test_a_table_in_another_encoding_says_how_to_save_it(
    encoding: str, empty: Project, tmp_path: Path
) -> None:
    table = "prompt,response\nWhy?,Because.\nPourquoi\u00e9?,Parce que.\n".encode(encoding)
    said = reasons(bring(empty, tmp_path, table, "t.csv"))
    assert said == {3: str(readers.NOT_UTF8)}
    assert "save it as UTF-8" in said[3]
    assert importing.preview(tmp_path / "t.csv").problems == [(3, said[3])]


def test_a_header_in_another_encoding_refuses_the_file(empty: Project, tmp_path: Path) -> None:
    table = "prompt,r\u00e9ponse\nWhy?,Because.\n".encode("latin-1")
    assert reasons(bring(empty, tmp_path, table, "t.csv")) == {1: str(readers.NOT_UTF8)}


@pytest.mark.parametrize("separator", [";", ",", "\t", "|"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "bom"])
def test_the_line_that_names_the_separator_is_no_header(
    separator: str, mark: bytes, empty: Project, tmp_path: Path
) -> None:
    rows = ["prompt,response", "Why?,Because.", "And,then,what"]
    table = f"sep={separator}\r\n" + "\r\n".join(row.replace(",", separator) for row in rows)
    result = bring(empty, tmp_path, mark + table.encode(), "t.csv")
    assert list(reasons(result)) == [3]
    assert Response.objects.get().text == "Because."


def test_columns_without_a_name_are_passed_over_and_lose_nothing_in_silence(
    empty: Project, tmp_path: Path
) -> None:
    table = b"prompt,response,,\nWhy?,Because.,,\nHow?,Slowly.\nWho?,He, said she,\n"
    said = reasons(bring(empty, tmp_path, table, "t.csv"))
    assert set(Response.objects.values_list("text", flat=True)) == {"Because.", "Slowly."}
    assert said == {4: "the row has 4 cells where the header has 2."}
    index = b",prompt,,response\n0,When?,,Now.\n"
    assert bring(empty, tmp_path, index, "index.csv").responses_added == 1
    assert importing.preview(tmp_path / "index.csv").columns == ["prompt", "response"]


@pytest.mark.parametrize(
    "row",
    [
        {"responses": ["a", None, "b", None]},
        {"response_1": "a", "response_2": None, "response_3": "b"},
        {"response_1": None, "responses": ["a", "b"]},
    ],
)
def test_nulls_among_responses_are_empty_cells(row: dict[str, Any], empty: Project, tmp_path: Path) -> None:
    assert bring(empty, tmp_path, lines_of({"prompt": "Why?", **row}), "t.jsonl").bad == 0
    assert list(Response.objects.order_by("pk").values_list("text", flat=True)) == ["a", "b"]


def test_a_data_frames_gold_and_times_are_read(empty: Project, tmp_path: Path) -> None:
    pair = {"chosen": "a", "rejected": "b"}
    rows = [{"prompt": f"Q {gold}", **pair, "gold": gold} for gold in (1.0, 0.0, float("nan"))]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "made.parquet")
    result = bring(empty, tmp_path, (tmp_path / "made.parquet").read_bytes(), "gold.parquet")
    assert (result.gold_added, result.judgments_added, result.bad) == (1, 2, 0)
    at = datetime(2024, 5, 1, 10, tzinfo=UTC)
    response = {"text": "a", "made": at, "seen": {"on": [at.date()]}}
    pq.write_table(
        pa.Table.from_pylist([{"prompt": "When?", "responses": [response]}]), tmp_path / "made.parquet"
    )
    assert bring(empty, tmp_path, (tmp_path / "made.parquet").read_bytes(), "times.parquet").bad == 0
    wanted = {"made": "2024-05-01T10:00:00+00:00", "seen": {"on": ["2024-05-01"]}}
    assert Response.objects.latest("pk").metadata == wanted
