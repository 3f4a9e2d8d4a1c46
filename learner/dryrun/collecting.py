"""One arm of label collection: a rule chooses, the data answer, a bank of one-pass estimators learns.

Every rule gets the same budget, the same answers to the same pairs, the same held-out judgments, and the same
tuning: a fixed share of its labels is drawn uniformly from all pairs, and lambda is chosen on those alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from learner.efficiency import hits, log_losses
from learner.estimators import OnePassBank
from learner.scores import PairScores
from learner.selection.candidates import kept_pairs

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
GRID = (0.3, 1.0, 3.0, 10.0, 30.0)
NORM_CAP, NEAR_DUPLICATE = 0.95, 0.05
UNCAPPED = {
    "random": "random",
    "max_uncertainty_uncapped": "max_uncertainty",
    "d_optimal_uncapped": "d_optimal",
}


@dataclass(frozen=True)
class Task:
    """What an arm works on: pairs that may be asked about with their answers, and held-out judgments."""

    features: Floats
    prompt: Rows
    first: Rows
    second: Rows
    answer: Floats
    test_z: Floats
    test_answer: Floats
    test_prompt: Rows
    eligible: NDArray[np.bool_]
    complete: bool  # every within-prompt pair of eligible responses may be asked about


@dataclass(frozen=True)
class Settings:
    """The same for every arm."""

    budget: int
    checkpoints: tuple[int, ...]
    reserve: float = 0.1
    lambda_prior: float = 0.3
    grid: tuple[float, ...] = GRID


@dataclass(frozen=True)
class Run:
    """Held-out log-losses and hits at every checkpoint, (C, n), and lambda in use, (C,)."""

    losses: Floats
    hits: Floats
    regularization: Floats


class Uniform:
    """Uniform draws without repetition from the pairs that a mask allows."""

    def __init__(self, allowed: NDArray[np.bool_], rng: np.random.Generator) -> None:
        self._order = rng.permutation(np.flatnonzero(allowed))
        self._next = 0

    def draw(self, used: set[int]) -> int:
        """The next pair that was not used yet."""
        while int(self._order[self._next]) in used:
            self._next += 1
        return int(self._order[self._next])


class Chooser:
    """The next pair by a rule, as a number into the task's pairs; uniform rules need no scores."""

    def __init__(self, task: Task, rule: str, seed: int) -> None:
        self.task, self._rng = task, np.random.default_rng([seed, 2])
        everything = np.ones(len(task.first), dtype=bool)
        self.reserve = Uniform(everything, np.random.default_rng([seed, 1]))
        self._uniform: Uniform | None = None
        if rule in ("random", "random_capped"):
            mask = everything if rule == "random" else _kept(task)
            self._uniform = Uniform(mask, np.random.default_rng([seed, 3]))
            return
        cap, near = (None, None) if rule in UNCAPPED else (NORM_CAP, NEAR_DUPLICATE)
        name = UNCAPPED.get(rule, rule)
        self.scores = PairScores(
            task.features, task.prompt, rule=name, norm_cap=cap, near_duplicate=near, eligible=task.eligible
        )
        pairs = zip(task.first.tolist(), task.second.tolist(), strict=True)
        self._number = {pair: i for i, pair in enumerate(pairs)}
        if not task.complete:
            self._exclude_unanswered()

    def _exclude_unanswered(self) -> None:
        for prompt in np.unique(self.task.prompt[self.task.eligible]):
            rows = np.flatnonzero((self.task.prompt == prompt) & self.task.eligible).tolist()
            for i, one in enumerate(rows):
                for two in rows[i + 1 :]:
                    if (one, two) not in self._number:
                        self.scores.exclude(one, two)

    @property
    def scored(self) -> bool:
        """Whether scores have to follow the learner."""
        return self._uniform is None

    def follow(self, bank: OnePassBank) -> None:
        """Score all pairs anew: another member of the bank is in use."""
        if self._uniform is None:
            self.scores.reset(bank.theta, bank.covariance)

    def pick(self, used: set[int]) -> int:
        """The pair to ask about."""
        if self._uniform is not None:
            return self._uniform.draw(used)
        chosen = self.scores.pick(1, rng=self._rng)[0]
        return self._number[min(chosen.first, chosen.second), max(chosen.first, chosen.second)]

    def close(self, number: int) -> None:
        """Do not ask about this pair again."""
        if self._uniform is None:
            self.scores.exclude(int(self.task.first[number]), int(self.task.second[number]))


def _norms(task: Task) -> Floats:
    return np.asarray(np.linalg.norm(task.features[task.first] - task.features[task.second], axis=1))


def _kept(task: Task) -> NDArray[np.bool_]:
    return kept_pairs(_norms(task), NORM_CAP, NEAR_DUPLICATE)


def new_bank(dimension: int, settings: Settings) -> OnePassBank:
    """A bank that starts at lambda 1: ln lambda has a normal prior there, worth prior ln(lambda)^2 nats."""
    return OnePassBank(dimension, settings.grid, prior=settings.lambda_prior, ledger=False)


def collect(
    task: Task, rule: str, seed: int, settings: Settings, watch: Callable[[], None] | None = None
) -> Run:
    """Let ``rule`` spend the budget and evaluate at every checkpoint. One pick a label.

    ``watch`` is called after every label; what it raises ends the run.
    """
    bank = new_bank(task.features.shape[1], settings)
    chooser = Chooser(task, rule, seed)
    chooser.follow(bank)
    used: set[int] = set()
    due = 0.0
    losses, right, chosen_lambda = [], [], []
    for label in range(1, min(settings.budget, len(task.first)) + 1):
        due += settings.reserve
        tuning = due >= 1.0 - 1e-9
        due -= tuning
        number = chooser.reserve.draw(used) if tuning else chooser.pick(used)
        used.add(number)
        chooser.close(number)
        _learn(task, number, bank, chooser, tuning)
        if watch is not None:
            watch()
        if label in settings.checkpoints:
            p = bank.predict(task.test_z)
            losses.append(log_losses(p, task.test_answer))
            right.append(hits(p, task.test_answer))
            chosen_lambda.append(bank.regularization)
    return Run(np.array(losses), np.array(right), np.array(chosen_lambda))


def _learn(task: Task, number: int, bank: OnePassBank, chooser: Chooser, tuning: bool) -> None:
    z = task.features[task.first[number]] - task.features[task.second[number]]
    y, before = float(task.answer[number]), bank.selected
    if tuning:
        bank.observe(z, y)
    update = bank.learn_one(z, y)
    if bank.selected != before:
        chooser.follow(bank)
    elif update is not None and chooser.scored:
        chooser.scores.absorb(update.u, update.c, bank.theta)
