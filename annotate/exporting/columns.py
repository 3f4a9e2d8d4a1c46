"""The columns of every kind of export, with one type each: what Parquet's schema and the card say."""

from __future__ import annotations

import pyarrow as pa

Columns = dict[str, pa.DataType]
TEXT, NUMBER, COUNT, TRUTH = pa.string(), pa.float64(), pa.int64(), pa.bool_()
MESSAGES = pa.list_(pa.struct([("role", TEXT), ("content", TEXT)]))
TAGS = pa.list_(TEXT)
RESPONSES = pa.list_(
    pa.struct([("id", TEXT), ("text", TEXT), ("source", TEXT), ("utility", NUMBER), ("metadata", TEXT)])
)
ABOUT: Columns = {
    "p_chosen": NUMBER,
    "p_chosen_low": NUMBER,
    "p_chosen_high": NUMBER,
    "decided_by": TEXT,
    "votes": COUNT,
    "agreement": NUMBER,
    "margin": NUMBER,
    "width": NUMBER,
    "arm": TEXT,
    "probability": NUMBER,
    "split": TEXT,
    "prompt_id": TEXT,
    "chosen_id": TEXT,
    "rejected_id": TEXT,
    "chosen_source": TEXT,
    "rejected_source": TEXT,
    "tags": TAGS,
}


def pair_columns(conversational: bool) -> Columns:
    text = MESSAGES if conversational else TEXT
    return {"prompt": text, "chosen": text, "rejected": text} | ABOUT


def implicit_columns(conversational: bool) -> Columns:
    return {"chosen": MESSAGES, "rejected": MESSAGES} | ABOUT


def unpaired_columns(conversational: bool) -> Columns:
    text = MESSAGES if conversational else TEXT
    counts = {"label": TRUTH, "wins": COUNT, "comparisons": COUNT}
    ids = dict.fromkeys(("source", "split", "prompt_id", "response_id"), TEXT)
    return {"prompt": text, "completion": text} | counts | ids | {"tags": TAGS}


def vote_columns(conversational: bool) -> Columns:
    texts = "first second prompt_id first_id second_id first_source second_source split"
    given = "answer annotator strength criteria rationale flags lead_time created_at current"
    past = (
        "replaced_at replaced_reason shown_left step judgment comparison arm arm_probability rule gold_answer"
    )
    chosen = "pair_probability probability score width predicted estimator_step"
    counts = {"strength", "step", "judgment", "comparison", "estimator_step"}
    numbers = {
        "lead_time",
        "arm_probability",
        "pair_probability",
        "probability",
        "score",
        "width",
        "predicted",
    }
    types: Columns = dict.fromkeys(counts, COUNT) | dict.fromkeys(numbers, NUMBER) | {"current": TRUTH}
    columns: Columns = {"prompt": MESSAGES if conversational else TEXT}
    columns |= {name: types.get(name, TEXT) for name in texts.split()} | {"tags": TAGS}
    return columns | {name: types.get(name, TEXT) for name in f"{given} {past} {chosen}".split()}


def pool_columns(conversational: bool) -> Columns:
    prompt = MESSAGES if conversational else TEXT
    return {"id": TEXT, "prompt": prompt, "tags": TAGS, "split": TEXT, "responses": RESPONSES}
