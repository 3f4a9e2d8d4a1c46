"""The label-efficiency, deployment and paper benchmarks run from files and report the keys they promise."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.__main__ import main, names, table

DIMENSION = 5


@pytest.fixture
def pool(tmp_path: Path) -> dict[str, Path]:
    """24 prompts with 6 responses whose utility is linear in their embedding, as files."""
    rng = np.random.default_rng(0)
    raw = rng.standard_normal((24, 6, DIMENSION))
    ids = [f"p{p}.r{r}" for p in range(24) for r in range(6)]
    chance = 1 / (1 + np.exp(-2 * raw[..., 0]))
    with gzip.open(tmp_path / "pool.jsonl.gz", "wt") as lines:
        for p in range(24):
            responses = [
                {"id": f"p{p}.r{r}", "text": "word " * (1 + (p + r) % 4), "chance": chance[p, r]}
                for r in range(6)
            ]
            lines.write(json.dumps({"id": f"p{p}", "prompt": f"Prompt {p}", "responses": responses}) + "\n")
    with (tmp_path / "votes.jsonl").open("w") as lines:
        for p in range(24):
            for r in range(5):
                pair = [f"p{p}.r{r}", f"p{p}.r{r + 1}"]
                better = int(chance[p, r + 1] > chance[p, r])
                lines.write(json.dumps({"chosen_id": pair[better], "rejected_id": pair[1 - better]}) + "\n")
    np.savez(tmp_path / "raw.npz", ids=np.array(ids), E=raw.reshape(-1, DIMENSION))
    return {
        "pool": tmp_path / "pool.jsonl.gz",
        "votes": tmp_path / "votes.jsonl",
        "raw": tmp_path / "raw.npz",
    }


def report(name: str, pool: dict[str, Path], *options: str) -> dict[str, Any]:
    path = pool["pool"].parent / "report.json"
    base = ["--pool", str(pool["pool"]), "--embeddings", str(pool["raw"]), "--dimensions", str(DIMENSION)]
    assert main([name, "--json", str(path), *base, *options]) == 0
    read: dict[str, Any] = json.loads(path.read_text())
    assert read["benchmark"] == name and read["rows"]
    return read


DRAWN = ("--utility", "chance", "--utility-is", "probability")


def test_every_benchmark_of_the_issue_can_be_named() -> None:
    assert {"update", "selection", "efficiency", "deployment", "paper"} <= set(names())


def test_efficiency_learns_from_drawn_answers_in_every_variant(pool: dict[str, Path]) -> None:
    options = ("--rules", "random,d_optimal,drts", "--budget", "50", "--seeds", "3", *DRAWN)
    figures = report("efficiency", pool, *options, "--variants", "clean,flipped,junk,duplicates")["figures"]
    assert figures["log_loss_random_at_50"] < 0.65 and figures["accuracy_d_optimal_at_50"] > 0.65
    assert figures["labels_saved_random_at_25_low"] <= figures["labels_saved_random_at_25_high"]
    assert figures["flipped_log_loss_random_at_50"] > figures["log_loss_random_at_50"]
    assert min(figures[f"area_behind_best_{rule}"] for rule in ("random", "d_optimal", "drts")) == 0.0


def test_efficiency_asks_only_about_pairs_with_votes(pool: dict[str, Path]) -> None:
    options = ("--rules", "random,d_optimal", "--budget", "40", "--seeds", "2", "--all-folds")
    figures = report("efficiency", pool, *options, "--pairs", str(pool["votes"]))["figures"]
    assert figures["accuracy_d_optimal_at_25"] > 0.55


def test_the_same_run_gives_the_same_figures(pool: dict[str, Path]) -> None:
    options = ("--rules", "random,d_optimal", "--budget", "25", "--seeds", "2", *DRAWN)
    assert report("efficiency", pool, *options)["figures"] == report("efficiency", pool, *options)["figures"]


def test_choosing_the_answer_leaves_less_regret_than_drawing_it(pool: dict[str, Path]) -> None:
    figures = report("deployment", pool, "--rounds", "100", "--candidates", "5", "--seeds", "3", *DRAWN)[
        "figures"
    ]
    assert figures["regret_optimistic_high"] < figures["regret_random_low"]


def test_the_papers_table_has_its_published_numbers_beside_it(pool: dict[str, Path]) -> None:
    options = (
        "--labels",
        "64",
        "--stream",
        "200",
        "--rounds",
        "40",
        "--candidates",
        "4",
        "--seeds",
        "2",
        *DRAWN,
    )
    rows = report("paper", pool, *options)["rows"]
    active = {row["method"]: row for row in rows if row["experiment"] == "active"}
    assert active["Active-OMD"]["published"].startswith("70.43") and "published" not in active["default"]
    assert {row["experiment"] for row in rows} == {"passive", "active", "deployment"}


def test_a_table_lines_its_columns_up() -> None:
    lines = table([{"a": 1, "b": 0.123456}, {"a": 100, "c": "x"}]).splitlines()
    assert len({len(line) for line in lines}) == 1 and "0.1235" in lines[1]
