"""What careless annotators can do to the reward model, with and without weighing by reliability (PEERS 3.18)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import expit

from learner.log import Entry, LogReader
from learner.quality import fit_annotators

pytestmark = pytest.mark.mathematics
Array = npt.NDArray[Any]
HONEST, CARELESS, EACH = 6, 4, 150


def collected(rng: np.random.Generator, kind: str) -> tuple[Array, Array, list[tuple[int, int, int, float]]]:
    """Features, the true rewards' direction, and (first, second, annotator, side) of every judgment with its label."""
    features = rng.standard_normal((400, 8)).astype(np.float32)
    theta = rng.standard_normal(8)
    judgments = []
    for i in rng.permutation((HONEST + CARELESS) * EACH):
        who = int(i) // EACH
        first, second = (int(row) for row in rng.choice(400, 2, replace=False))
        left_is_first = rng.random() < 0.5
        p = expit(1.5 * float((features[first] - features[second]) @ theta))
        if who >= HONEST:
            p = 0.5 if kind == "random" else float(left_is_first)
        judgments.append((first, second, who, 1.0 if left_is_first else -1.0, float(rng.random() < p)))
    return features, theta, judgments


def learned(features: Array, judgments: list[Any], weights: dict[int, float]) -> Array:
    reader = LogReader(features)
    for step, (first, second, who, _side, y) in enumerate(judgments, start=1):
        answer = "first" if y else "second"
        reader.read(Entry(step, first, second, answer, "control", weight=weights.get(who, 1.0)))
    return reader.banks["production"].theta


def loss(features: Array, theta: Array, truth: Array) -> float:
    """Expected log-loss over random pairs, above the least possible, in nats."""
    z = features[:200] - features[200:]
    p, q = expit(1.5 * z @ truth), expit(z @ theta)
    return float(np.mean(p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))))


@pytest.mark.parametrize("kind", ["random", "left"])
def test_four_careless_annotators_of_ten_are_seen_and_bounded(kind: str) -> None:
    rng = np.random.default_rng(3)
    features, truth, judgments = collected(rng, kind)
    first, second, who, side, y = (np.array(column) for column in zip(*judgments, strict=True))
    model = fit_annotators(features[first] - features[second], y, who, side)
    seen = [
        rho.high < 0.6 or bias.low > 1 for rho, bias in zip(model.reliability, model.side_bias, strict=True)
    ]
    assert seen == [False] * HONEST + [True] * CARELESS
    alone = loss(features, learned(features, [one for one in judgments if one[2] < HONEST], {}), truth)
    harmed = loss(features, learned(features, judgments, {}), truth)
    bounded = loss(features, learned(features, judgments, model.weights()), truth)
    assert harmed > 2 * alone
    assert bounded < 0.5 * harmed
