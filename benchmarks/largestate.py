"""Many features (d = 4,096: 128 MB in float64 a matrix): a judgment, a checkpoint taken, written beside, restored.

What the learn worker keeps of a project: three banks of one-pass estimators over the grid that this d allows. A
judgment of the active arm teaches two of them. ``taking_ms`` is what a checkpoint costs the learner; the writing is
done by a thread meanwhile, and ``learning_while_writing_ms`` is a judgment's time beside it.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from learner import store
from learner.estimators import state_digest
from learner.estimators.blocked import pack
from learner.log import ROLES, Entry, LogReader, State


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--dim", type=int, default=4096)
    parser.add_argument("--judgments", type=int, default=96)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Learn, take, write beside learning, restore, compare."""
    rng = np.random.default_rng(0)
    reader = LogReader(rng.normal(size=(512, args.dim)).astype(np.float32) / np.sqrt(args.dim))
    alone = learn(reader, rng, args.judgments)
    started = time.perf_counter()
    taken = {role: reader.state(role, quick=True) for role in ROLES}
    taking = time.perf_counter() - started
    with tempfile.TemporaryDirectory() as folder:
        spent: list[float] = []
        writer = threading.Thread(target=lambda: spent.append(written(taken, Path(folder))))
        writer.start()
        beside = learn(reader, rng, args.judgments // 2)
        writer.join()
        size = sum(path.stat().st_size for path in Path(folder).iterdir())
        started = time.perf_counter()
        other = LogReader(reader.features)
        other.restore({role: store.read_state(Path(folder) / role) for role in ROLES})
        restoring = time.perf_counter() - started
    same = all(state_digest(other.state(role)) == state_digest(pack(taken[role])) for role in ROLES)
    figures = {
        "dimension": args.dim,
        "members": sum(len(bank.members) for bank in reader.banks.values()),
        "learning_p50_ms": 1e3 * float(np.median(alone)),
        "learning_mean_ms": 1e3 * float(np.mean(alone)),
        "learning_while_writing_ms": 1e3 * float(np.mean(beside)),
        "taking_ms": 1e3 * taking,
        "writing_s": spent[0],
        "restoring_s": restoring,
        "checkpoint_mb": size / 1e6,
        "restored_to_the_same_bits": int(same),
    }
    return {"figures": figures, "rows": [figures]}


def learn(reader: LogReader, rng: np.random.Generator, count: int) -> list[float]:
    """Seconds of each of so many judgments of the active arm."""
    spent = []
    for step in range(reader.step + 1, reader.step + 1 + count):
        first, second = rng.choice(len(reader.features), 2, replace=False)
        started = time.perf_counter()
        reader.read(Entry(step, int(first), int(second), "first", "active"))
        spent.append(time.perf_counter() - started)
    return spent


def written(taken: dict[str, State], folder: Path) -> float:
    """Seconds of packing and writing the three states, as the background thread does."""
    started = time.perf_counter()
    for role, state in taken.items():
        store.write_state(folder / role, pack(state))
    return time.perf_counter() - started
