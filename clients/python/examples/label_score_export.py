"""Label, score, export, load: run it with TOUCHSTONE_URL, TOUCHSTONE_TOKEN and a project's slug.

The "annotator" here prefers the longer response, so that the example runs by itself; put yours in its place.
Needs `datasets` beside the client.
"""

# %% Connect
from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from datasets import Dataset, load_dataset
from touchstone_client import Client, Lease, RewardFunction, best_of_n

LABELS = 30


def main() -> None:
    slug = sys.argv[1]
    with Client(os.environ["TOUCHSTONE_URL"], os.environ["TOUCHSTONE_TOKEN"]) as client:
        upload(client, slug)
        label(client, slug)
        wait_until_learned(client, slug)
        use_rewards(client, slug)
        check_trl(exported(client, slug))
        efficiency = client.label_efficiency(slug)
        say(f"Label efficiency: {efficiency.sentence or 'too early to say.'}")


# %% Bring prompts with responses
def upload(client: Client, slug: str) -> None:
    facts = ["the moon pulls it", "rivers carry minerals into it", "the wind moves it", "it is very deep"]
    rows = [
        {
            "prompt": f"Name {n} facts about the sea.",
            "responses": ["; ".join(facts[: k + 1]) + f" ({n})." for k in range(4)],
        }
        for n in range(1, 13)
    ]
    added = client.upload(slug, rows, progress=lambda sent: say(f"{sent} rows sent"))
    say(f"{added.prompts_added} prompts and {added.responses_added} responses are new.")


# %% Answer pairs
def label(client: Client, slug: str) -> None:
    for _ in range(LABELS):
        found = client.next(slug)
        if not found.leases:
            say(f"No pair: {found.nothing}")
            return
        lease, began = found.leases[0], time.monotonic()
        client.judge(slug, lease, preferred(lease), lead_time=time.monotonic() - began)


def preferred(lease: Lease) -> str:
    return "left" if len(lease.left) >= len(lease.right) else "right"


# %% Wait for the reward model
def wait_until_learned(client: Client, slug: str) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        state = client.estimator(slug)
        if state.production and state.production.judgments and not state.waiting:
            say(f"Step {state.production.step}, lambda {state.production.regularization}.")
            return
        time.sleep(0.3)
    raise SystemExit("Nothing was learned in two minutes; is a worker running?")


# %% Rewards in training loops
def use_rewards(client: Client, slug: str) -> None:
    reward_func = RewardFunction(client, slug)
    prompts = ["Name 5 facts about the sea."] * 2
    rewards = reward_func(
        prompts=prompts, completions=["It is deep.", "the moon pulls it; the wind moves it (5)."]
    )
    say(f"{reward_func.__name__}: {rewards}")
    drafts = iter(["It is.", "the moon pulls it; rivers carry minerals into it (5).", "Water.", "Deep."])
    text, best = best_of_n(client, slug, prompts[0], lambda: next(drafts), n=4)
    say(f"Best of {len(best.rewards)}: {text}")


# %% Export, load with datasets, check what TRL's DPOTrainer and RewardTrainer ask of a preference dataset
def exported(client: Client, slug: str) -> Dataset:
    with TemporaryDirectory() as folder:
        files = client.export(slug, folder, kind="trl", format="jsonl")
        direct = client.download(slug, Path(folder) / "direct.jsonl")
        data = next(file for file in files if file.suffix == ".jsonl")
        if data.read_bytes() != direct.read_bytes():
            raise SystemExit("The job's file and the stream differ.")
        return load_dataset("json", data_files=str(data), split="train", cache_dir=folder).with_format(None)


def check_trl(dataset: Dataset) -> None:
    rows: list[dict[str, Any]] = [dict(row) for row in dataset]
    if not rows or not {"prompt", "chosen", "rejected"} <= set(rows[0]):
        raise SystemExit("An explicit-prompt preference dataset has prompt, chosen and rejected.")
    for row in rows:
        kinds = {is_conversation(row[name]) for name in ("prompt", "chosen", "rejected")}
        if len(kinds) != 1 or row["chosen"] == row["rejected"]:
            raise SystemExit(f"All three are texts, or all three are conversations, and two differ: {row}")
    say(f"{len(rows)} preferences, as TRL reads them.")


def is_conversation(value: Any) -> bool:
    if isinstance(value, list) and value and all({"role", "content"} <= set(message) for message in value):
        return True
    if isinstance(value, str) and value:
        return False
    raise SystemExit(f"Neither a text nor a conversation: {value!r}")


def say(words: str) -> None:
    sys.stdout.write(words + "\n")


if __name__ == "__main__":
    main()
