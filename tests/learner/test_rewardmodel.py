"""The exported reward model: the score of a standard class is the reward, or the export says why not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from touchstone_client import RewardModel

from learner.encoders import HuggingFaceEncoder, load_encoder
from learner.errors import LearnerError
from learner.features import FeaturePipeline
from learner.rewardmodel import LinearReward, export, scores
from tests.learner.models import tiny_bert, tiny_llama, tiny_roberta

pytestmark = pytest.mark.mathematics
WORDS = "the tide turns because moon pulls sea and wind blows over sand while gulls cry"


def texts(count: int = 13) -> list[str]:
    rng = np.random.default_rng(5)
    words = WORDS.split()
    return [" ".join(rng.choice(words, size=int(rng.integers(1, 30)))) for _ in range(count)]


def fitted(encoder: Any, columns: bool = False) -> tuple[FeaturePipeline, np.ndarray]:
    """A pipeline fitted to real output, and parameters whose rewards spread by about 1."""
    rng = np.random.default_rng(0)
    raw = encoder.encode(texts(40))
    extra = rng.normal(size=(40, 2)) if columns else None
    pipeline = FeaturePipeline.fit(raw, np.repeat(np.arange(10), 4), extra, rng=rng, dimensions=6)
    return pipeline, rng.normal(size=pipeline.dimension)


@pytest.mark.parametrize("normalize", [True, False])
def test_minilm_leaves_as_bert_for_sequence_classification(tmp_path: Path, normalize: bool) -> None:
    encoder = load_encoder("all-MiniLM-L6-v2", dtype="float32", normalize=normalize)
    pipeline, theta = fitted(encoder)
    done = export(encoder, LinearReward.of(pipeline, theta), tmp_path, texts())
    assert done.architecture == "BertForSequenceClassification"
    rewards = pipeline.transform(encoder.encode(texts())).astype(float) @ theta
    assert rewards.std() > 0.1
    assert np.allclose(scores(tmp_path, texts()) + done.offset, rewards, atol=1e-4)
    assert done.offset == 0


@pytest.mark.parametrize("make", [tiny_bert, tiny_roberta])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_bert_like_models_leave_with_mean_and_first_token(tmp_path: Path, make: Any, pooling: Any) -> None:
    encoder = HuggingFaceEncoder(make(tmp_path / "in"), pooling, 64, "float32", normalize=False)
    pipeline, theta = fitted(encoder)
    done = export(encoder, LinearReward.of(pipeline, theta), tmp_path / "out", texts())
    rewards = pipeline.transform(encoder.encode(texts())).astype(float) @ theta
    assert np.allclose(scores(tmp_path / "out", texts(), batch=1) + done.offset, rewards, atol=1e-4)


@pytest.mark.parametrize("pads_with_end", [True, False])
def test_a_causal_model_leaves_with_a_linear_head_on_its_last_token(
    tmp_path: Path, pads_with_end: bool
) -> None:
    encoder = HuggingFaceEncoder(
        tiny_llama(tmp_path / "in", pads_with_end), "last", 64, "float32", normalize=False
    )
    pipeline, theta = fitted(encoder)
    done = export(encoder, LinearReward.of(pipeline, theta), tmp_path / "out", texts())
    assert done.architecture == "LlamaForSequenceClassification"
    rewards = pipeline.transform(encoder.encode(texts())).astype(float) @ theta
    found = scores(tmp_path / "out", texts(), batch=5)
    assert np.allclose(found + done.offset, rewards, atol=1e-4)
    assert np.allclose(np.diff(found), np.diff(rewards), atol=2e-4)


def test_text_columns_are_the_rest_of_the_reward() -> None:
    encoder = load_encoder("hashing", dimension=32)
    pipeline, theta = fitted(encoder, columns=True)
    reward = LinearReward.of(pipeline, theta)
    raw, columns = encoder.encode(texts()), np.random.default_rng(1).normal(size=(13, 2))
    whole = pipeline.transform(raw, columns).astype(float) @ theta
    assert np.allclose(reward(raw) + columns @ reward.columns, whole, atol=1e-5)


def test_the_client_composes_and_scores_a_causal_model_as_the_encoder_does(tmp_path: Path) -> None:
    encoder = HuggingFaceEncoder(tiny_llama(tmp_path / "in"), "last", 64, "float32", normalize=False)
    pipeline, theta = fitted(encoder)
    export(encoder, LinearReward.of(pipeline, theta), tmp_path / "out", texts())
    items = [(prompt * 40, answer * 9) for prompt, answer in zip(texts(), reversed(texts()), strict=True)]
    raw = encoder.encode([encoder.compose(*item) for item in items])
    ours = pipeline.transform(raw).astype(float) @ theta
    assert np.allclose(RewardModel.load(tmp_path / "out").score(items), ours, atol=1e-4)


@pytest.mark.parametrize(
    ("make", "pooling", "said"),
    [
        (tiny_llama, "last", "turned off"),
        (tiny_bert, "cls", "turned off"),
        (tiny_llama, "mean", "no standard"),
    ],
)
def test_what_no_standard_class_computes_is_refused(
    tmp_path: Path, make: Any, pooling: Any, said: str
) -> None:
    encoder = HuggingFaceEncoder(make(tmp_path / "in"), pooling, 64, "float32")
    pipeline, theta = fitted(encoder)
    with pytest.raises(LearnerError, match=said):
        export(encoder, LinearReward.of(pipeline, theta), tmp_path / "out", texts())


def test_a_model_that_does_not_agree_is_not_given_away(tmp_path: Path) -> None:
    encoder = HuggingFaceEncoder(tiny_bert(tmp_path / "in"), "mean", 64, "float32", normalize=False)
    pipeline, theta = fitted(encoder)
    with pytest.raises(LearnerError, match="differ by up to"):
        export(encoder, LinearReward.of(pipeline, theta), tmp_path / "out", texts(), tolerance=1e-12)
