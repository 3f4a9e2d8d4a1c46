"""Fine-tuning: what is trained, by which optimizer, when it stops, and what is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from learner.encoders import HuggingFaceEncoder
from learner.errors import LearnerError
from learner.finetuning import Pairs, Plan, RewardNetwork, Stopped, fine_tune, log_loss, split, tokenized
from tests.learner.models import WORDS, tiny_bert, tiny_llama

pytestmark = pytest.mark.mathematics


def judged(count: int = 60, seed: int = 0) -> Pairs:
    """Texts that differ in one word; the one with "moon" is preferred, of the others neither."""
    rng = np.random.default_rng(seed)
    first, second, y = [], [], []
    for _ in range(count):
        words = [list(rng.choice([w for w in WORDS if w != "moon"], size=6)) for _ in range(2)]
        has = int(rng.integers(3))
        if has < 2:
            words[has][int(rng.integers(6))] = "moon"
        first.append(" ".join(words[0]))
        second.append(" ".join(words[1]))
        y.append((1.0, 0.0, 0.5)[has])
    return Pairs(first, second, np.array(y), np.arange(count) // 3, np.zeros(count))


def encoder(folder: Path, make: Any = tiny_bert, pooling: Any = "mean") -> HuggingFaceEncoder:
    return HuggingFaceEncoder(make(folder), pooling, 32, "float32", normalize=False)


def go_on(done: int, total: int, sentence: str) -> bool:
    return True


@pytest.mark.parametrize(
    ("method", "optimizer", "make", "pooling"),
    [
        ("lora", "adamw", tiny_bert, "mean"),
        ("layers", "adamw", tiny_llama, "last"),
        ("layers", "hessian_free", tiny_bert, "mean"),
    ],
)
def test_training_lowers_the_validation_loss_and_writes_an_encoder(
    tmp_path: Path, method: Any, optimizer: Any, make: Any, pooling: Any
) -> None:
    start = encoder(tmp_path / "in", make, pooling)
    weight = 0.05 * np.random.default_rng(0).normal(size=32)
    epochs = 2 if optimizer == "hessian_free" else 6
    plan = Plan(
        method,
        layers=1,
        optimizer=optimizer,
        learning_rate=5e-3,
        epochs=epochs,
        batch=24,
        patience=6,
        validation=0.25,
    )
    outcome = fine_tune(start, weight, judged(120), plan, tmp_path / "out", go_on)
    assert outcome.improved
    assert outcome.best < outcome.start - 0.01
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pkl"))]
    after = HuggingFaceEncoder(tmp_path / "out", pooling, 32, "float32", normalize=False)
    assert after.digest != start.digest
    assert not np.allclose(after.encode(["moon and tide"]), start.encode(["moon and tide"]), atol=1e-4)


def test_it_starts_at_the_reward_of_the_frozen_encoder_and_a_tie_is_a_half(tmp_path: Path) -> None:
    start, pairs = encoder(tmp_path / "in"), judged(20)
    weight = np.random.default_rng(0).normal(size=32)
    offset = np.random.default_rng(1).normal(size=20)
    given = Pairs(pairs.first, pairs.second, pairs.y, pairs.prompt, offset)
    network = RewardNetwork(start, weight, Plan())
    found = log_loss(network, tokenized(start, given), given, np.arange(20), Plan())
    margins = (start.encode(pairs.first) - start.encode(pairs.second)).astype(float) @ weight + offset
    expected = np.mean(np.logaddexp(0, margins) - pairs.y * margins)
    assert found == pytest.approx(expected, abs=1e-4)


def test_only_the_last_layers_or_the_adapter_are_trained(tmp_path: Path) -> None:
    start = encoder(tmp_path / "in")
    layers = RewardNetwork(start, np.zeros(32), Plan("layers", layers=1))
    names = {name for name, part in layers.module.named_parameters() if part.requires_grad}
    assert {name.split(".layer.")[1][0] for name in names if ".layer." in name} == {"1"}
    adapter = RewardNetwork(start, np.zeros(32), Plan("lora"))
    names = {name for name, part in adapter.module.named_parameters() if part.requires_grad}
    assert all("lora" in name or name == "head.weight" for name in names)
    assert not [name for name in names if "pooler" in name]


def test_the_same_seed_gives_the_same_losses(tmp_path: Path) -> None:
    start = encoder(tmp_path / "in")
    plan = Plan(epochs=2, learning_rate=5e-3, seed=3)
    losses = [
        fine_tune(start, np.ones(32) / 9, judged(), plan, tmp_path / f"out{i}", go_on).epochs
        for i in range(2)
    ]
    assert losses[0] == losses[1]


def test_nothing_is_written_when_nothing_is_gained(tmp_path: Path) -> None:
    pairs = judged(40)
    coin = Pairs(pairs.first, pairs.second, np.full(40, 0.5), pairs.prompt, pairs.offset)
    outcome = fine_tune(encoder(tmp_path / "in"), np.zeros(32), coin, Plan(epochs=5), tmp_path / "out", go_on)
    assert not outcome.improved
    assert not (tmp_path / "out").exists()


def test_it_stops_when_the_validation_loss_no_longer_falls_and_when_told_to(tmp_path: Path) -> None:
    pairs = judged(40)
    coin = Pairs(pairs.first, pairs.second, np.full(40, 0.5), pairs.prompt, pairs.offset)
    outcome = fine_tune(
        encoder(tmp_path / "in"), np.ones(32), coin, Plan(epochs=50, learning_rate=0.3, patience=1), tmp_path / "a",
        go_on,
    )  # fmt: skip
    assert len(outcome.epochs) < 50
    with pytest.raises(Stopped):
        fine_tune(encoder(tmp_path / "b"), np.ones(32), judged(40), Plan(), tmp_path / "c", lambda *_: False)


def test_a_prompt_trains_or_validates_never_both() -> None:
    pairs = judged(90)
    training, validation = split(pairs, Plan())
    assert not set(pairs.prompt[training]) & set(pairs.prompt[validation])
    assert len(training) + len(validation) == 90
    assert len(validation) == 9
    with pytest.raises(LearnerError, match="20 judgments on 4 prompts"):
        split(judged(12), Plan())
