"""Several picks in a row by any rule, with pairs in flight, exclusions and a random reserve: the dense reference."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from learner.errors import LearnerError
from learner.selection.candidates import Candidates, Pick, State, check_shares
from learner.selection.rules import RULES, Rule, Uniform, WithinPrompt


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
    so later picks differ from it; nothing of ``state`` changes. PairScores returns the same picks faster, over the same
    candidates: it caps and filters by default, `Candidates.within_prompts` only when told to.

    Parameters
    ----------
    pending : response rows of pairs in flight; they count towards the cap and are not picked again
    avoid : pairs not to be picked now (one annotator's earlier pairs)
    per_prompt_cap : at most this many pending and picked pairs a prompt
    random_reserve : share of picks drawn uniformly instead

    Raises
    ------
    LearnerError
        When no pair at all can be picked; fewer than ``count`` are returned when they run out. A cap below 1, a
        reserve outside 0 to 1.

    >>> pool = Candidates.within_prompts(np.diag([3.0, 2.0, 1.0]), [0, 0, 0])
    >>> state = State(np.zeros(3), np.eye(3))
    >>> [(p.first, p.second) for p in choose("d_optimal", state, pool, np.random.default_rng(0), count=2)]
    [(0, 1), (0, 2)]
    """
    check_shares(per_prompt_cap, random_reserve, "choose")
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
    """One pick by the rule, or with probability ``share`` a uniform one; the pick's probability covers both ways."""
    chosen: Rule = rule_named(rule) if isinstance(rule, str) else rule
    if share <= 0 or isinstance(chosen, Uniform):
        return chosen(state, left, rng)
    if rng.random() < share:
        pick = Uniform()(state, left, rng)
        own = _own_probability(chosen, state, left, pick, rng)
    else:
        pick = chosen(state, left, rng)
        own = pick.probability
    return replace(pick, probability=mixed(share, len(left), own))


def mixed(share: float, left: int, own: float | None) -> float | None:
    """Probability of a pair that a rule picks with ``own``, when ``share`` of the picks are uniform over ``left``."""
    return None if own is None else share / left + (1 - share) * own


def same_pair(one: Pick, other: Pick) -> bool:
    """Whether two picks name the same responses, whichever way round."""
    return {one.first, one.second} == {other.first, other.second}


def _own_probability(
    rule: Rule, state: State, left: Candidates, pick: Pick, rng: np.random.Generator
) -> float | None:
    """With which probability the rule itself picks this pair: it does so at all if it is the best where it looks."""
    if not isinstance(rule, WithinPrompt):
        own = rule(state, left, rng)
    else:
        prompt = left.prompt[(left.first == pick.first) & (left.second == pick.second)]
        inside = left.only(left.prompt == prompt[0])
        own = rule.within(state, inside, rng, 1 / len(np.unique(left.prompt)))
    return own.probability if own.probability is None or same_pair(own, pick) else 0.0


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
