"""Several picks in a row by any rule, with pairs in flight, exclusions and a random reserve: the dense reference."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from learner.errors import LearnerError
from learner.selection.candidates import Candidates, Pick, State
from learner.selection.rules import RULES, Rule, Uniform


def choose(
    rule: str | Rule,
    state: State,
    candidates: Candidates,
    rng: np.random.Generator,
    *,
    count: int = 1,
    pending: Sequence[tuple[int, int]] = (),
    avoid: Iterable[tuple[int, int]] = (),
    per_prompt_cap: int | None = None,
    random_reserve: float = 0.0,
) -> list[Pick]:
    """Choose up to ``count`` pairs one after another, rescoring every candidate each time. O(count N d^2).

    Each pair in flight (``pending``) and each pick takes its rank-one term at the current theta out of a copy of P,
    so later picks differ from it; nothing of ``state`` changes. PairScores returns the same picks faster.

    Parameters
    ----------
    pending : response rows of pairs in flight; they count towards the cap and are not picked again
    avoid : pairs not to be picked now (one annotator's earlier pairs)
    per_prompt_cap : at most this many pending and picked pairs a prompt
    random_reserve : share of picks drawn uniformly instead

    Raises
    ------
    LearnerError
        When no pair at all can be picked; fewer than ``count`` are returned when they run out.

    >>> pool = Candidates.within_prompts(np.diag([3.0, 2.0, 1.0]), [0, 0, 0])
    >>> state = State(np.zeros(3), np.eye(3))
    >>> [(p.first, p.second) for p in choose("d_optimal", state, pool, np.random.default_rng(0), count=2)]
    [(0, 1), (0, 2)]
    """
    picked: list[Pick] = []
    counts: dict[int, int] = {}
    left = _without(candidates, [*avoid])
    for first, second in pending:
        state, left = _take(state, candidates, left, (first, second), counts, per_prompt_cap)
    while len(picked) < count and len(left):
        pick = reserve_or(rule, state, left, rng, random_reserve)
        picked.append(pick)
        state, left = _take(state, candidates, left, (pick.first, pick.second), counts, per_prompt_cap)
    if not picked and count:
        raise LearnerError(f"choose: no eligible pair is left of {len(candidates)}")
    return picked


def reserve_or(
    rule: str | Rule, state: State, left: Candidates, rng: np.random.Generator, share: float
) -> Pick:
    """One pick by the rule, or with probability ``share`` a uniform one; the probability covers both ways."""
    chosen: Rule = rule_named(rule) if isinstance(rule, str) else rule
    if share <= 0 or isinstance(chosen, Uniform):
        return chosen(state, left, rng)
    if rng.random() < share:
        uniform, regular = Uniform()(state, left, rng), chosen(state, left, rng)
        same = {uniform.first, uniform.second} == {regular.first, regular.second}
        own = (1 - share) * regular.probability if same else 0.0
        return replace(uniform, probability=share * uniform.probability + own)
    regular = chosen(state, left, rng)
    return replace(regular, probability=(1 - share) * regular.probability + share / len(left))


def rule_named(name: str) -> Rule:
    """The rule of this name, or a LearnerError that lists the names."""
    if name not in RULES:
        raise LearnerError(f"selection: no rule named {name!r}; there are {', '.join(RULES)}")
    return RULES[name]


def _take(
    state: State,
    pool: Candidates,
    left: Candidates,
    pair: tuple[int, int],
    counts: dict[int, int],
    cap: int | None,
) -> tuple[State, Candidates]:
    first, second = pair
    difference = np.asarray(pool.features[first], np.float64) - pool.features[second]
    left = _without(left, [pair])
    prompts = pool.prompt[(pool.first == first) | (pool.second == first)]
    if cap is not None and len(prompts):
        name = int(prompts[0])
        counts[name] = counts.get(name, 0) + 1
        if counts[name] >= cap:
            left = left.only(left.prompt != name)
    return state.after(difference), left


def _without(candidates: Candidates, pairs: Sequence[tuple[int, int]]) -> Candidates:
    places = [i for first, second in pairs if (i := candidates.place(first, second)) is not None]
    keep = np.ones(len(candidates), dtype=bool)
    keep[places] = False
    return candidates.only(keep)
