"""What the dashboard's questions need of the learner, found when it measures: one document each, as rows.

calibration: the reliability curve · gain: the fitted curve and what the next judgments would bring · pool: widths and
sign flips over a fixed sample of pairs, and how they moved · winners: sources against each other · tags: rewards by
tag · certain: the pairs whose winner is surest, and those nobody could tell.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from django.db import transaction
from scipy.special import expit, ndtr

from annotate.models import Finding, Response
from learner import efficiency
from learner.log import LABELS, Entry
from learner.tasks.contests import by_tag, winners
from learner.tasks.states import ProjectState

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
NEXT = 100
SAMPLE = 2_000
EXAMPLES = 5
HISTORY = 60
BINS = 24
SNIPPET = 160
LEAST_HELD_OUT = 5


def findings(state: ProjectState, held_out: list[Entry]) -> dict[str, dict[str, Any]]:
    """Every document that can be written by now; nothing before the first judgment was learned from."""
    if not state.reader.counts["production"]:
        return {}
    found = {"winners": winners(state), "tags": by_tag(state)}
    pairs = sampled_pairs(state)
    if len(pairs):
        found |= {"pool": pool(state, pairs), "certain": certain(state, pairs)}
    elif state.urns[False].total:
        found["pool"] = {"pairs": 0, "left": state.urns[False].left, "history": history_of(state)}
    if len(held_out) >= LEAST_HELD_OUT:
        found |= held_out_findings(state, held_out)
    return found


def keep_findings(state: ProjectState, found: dict[str, dict[str, Any]]) -> None:
    """Put the documents in the place of the older ones."""
    rows = [
        Finding(project=state.project, name=name, step=state.step, data=data) for name, data in found.items()
    ]
    with transaction.atomic():
        Finding.objects.filter(project=state.project).exclude(name="rewards").delete()
        Finding.objects.bulk_create(rows)


def held_out_findings(state: ProjectState, held_out: list[Entry]) -> dict[str, dict[str, Any]]:
    z = np.array([state.reader.difference(entry.first, entry.second) for entry in held_out])
    y = np.array([LABELS[entry.answer] for entry in held_out])
    prompts = state.prompt[[entry.first for entry in held_out]]
    p = np.asarray(state.reader.banks["production"].predict(z), dtype=np.float64)
    return {"calibration": calibration(p, y, prompts), "gain": gain(state, z, y, prompts)}


def calibration(p: Array, y: Array, prompts: Rows) -> dict[str, Any]:
    """How sure the production estimator is now, and how often it is right then."""
    found = efficiency.calibration(p, y, clusters=prompts, rng=np.random.default_rng(0), draws=200)
    bins = [[finite(one.predicted), *limits(one.observed), one.count] for one in found.bins]
    return {"bins": bins, "ece": limits(found.ece), "floor": finite(found.floor), "held_out": len(y)}


def gain(state: ProjectState, z: Array, y: Array, prompts: Rows) -> dict[str, Any]:
    """The production curve, the power law through it, and the fall that the next judgments are expected to bring."""
    curve = state.reader.curves["production"]
    if not curve.counts:
        return {"counts": []}
    losses = np.array([efficiency.log_losses(expit(z @ theta), y) for theta in curve.thetas])
    points = efficiency.Curves(curve.counts, losses, prompts)
    rng = np.random.default_rng(0)
    expected = efficiency.expected_gain(points, NEXT, rng=rng)
    at = sorted({*curve.counts, *(curve.counts[-1] + NEXT * k for k in (1, 2, 4))})
    fitted = efficiency.fitted_curve(points, at, rng=np.random.default_rng(0))
    return {
        "more": NEXT,
        "gain": limits(expected),
        "measured": [[n, finite(value)] for n, value in zip(curve.counts, points.mean(), strict=True)],
        "fitted": [[n, *limits(one)] for n, one in zip(at, fitted, strict=False)],
        "last": curve.counts[-1],
    }


def sampled_pairs(state: ProjectState) -> npt.NDArray[np.int64]:
    """The same uniform sample of training pairs at every look, less those that were asked about, (n, 2)."""
    rows = np.flatnonzero(~state.evaluation & ~state.users)
    order = rows[np.argsort(state.prompt[rows], kind="stable")]
    _, starts, counts = np.unique(state.prompt[order], return_index=True, return_counts=True)
    weight = counts * (counts - 1.0)
    if not weight.sum():
        return np.zeros((0, 2), dtype=np.int64)
    rng = np.random.default_rng(0)
    where = rng.choice(len(counts), size=SAMPLE, p=weight / weight.sum())
    one = (rng.random(SAMPLE) * counts[where]).astype(np.int64)
    two = (one + 1 + (rng.random(SAMPLE) * (counts[where] - 1)).astype(np.int64)) % counts[where]
    pairs = np.sort(order[starts[where][:, None] + np.stack([one, two], axis=1)], axis=1)
    distinct = np.unique(pairs, axis=0)
    return distinct[[(int(a), int(b)) not in state.asked for a, b in distinct]]


def margins(state: ProjectState, pairs: Rows) -> tuple[Array, Array]:
    """z . theta and |z|_P of every pair."""
    bank = state.reader.banks["production"]
    z = state.reader.features[pairs[:, 0]].astype(np.float64) - state.reader.features[pairs[:, 1]]
    return np.asarray(z @ bank.theta, dtype=np.float64), np.asarray(bank.width(z), dtype=np.float64)


def pool(state: ProjectState, pairs: Rows) -> dict[str, Any]:
    """How much is left to learn: the widths of pairs nobody was asked about, and winners that may still change."""
    margin, width = margins(state, pairs)
    flips = efficiency.expected_sign_flips(width, margin)
    low, middle, high = np.quantile(width, [0.05, 0.5, 0.95])
    count, edges = np.histogram(width, bins=BINS, range=(0.0, float(width.max()) or 1.0))
    now = [state.reader.counts["production"], *map(finite, (float(low), float(middle), float(high), flips))]
    history = [row for row in history_of(state) if row[0] < now[0]]
    bins = [[finite(a), finite(b), int(n)] for a, b, n in zip(edges, edges[1:], count, strict=False)]
    return {
        "pairs": len(pairs),
        "flips": finite(flips),
        "widths": [finite(float(v)) for v in (low, middle, high)],
        "bins": bins,
        "history": thinned([*history, now]),
    }


def history_of(state: ProjectState) -> list[Any]:
    """What was found of the pool at earlier looks."""
    before = Finding.objects.filter(project=state.project, name="pool").values_list("data", flat=True).first()
    return list((before or {}).get("history", []))


def thinned(history: list[Any]) -> list[Any]:
    """At most sixty points: every other one of the older half goes."""
    while len(history) > HISTORY:
        half = len(history) // 2
        history = history[:half:2] + history[half:]
    return history


def certain(state: ProjectState, pairs: Rows) -> dict[str, Any]:
    """The pairs of the sample whose predicted winner is surest and least sure, from different prompts."""
    margin, width = margins(state, pairs)
    sure = ndtr(np.abs(margin) / np.maximum(width, 1e-12))
    order = np.argsort(-sure, kind="stable")
    most, least = (from_different_prompts(state, pairs, rows) for rows in (order, order[::-1]))
    texts = texts_of(state, pairs[[*most, *least]])
    numbers = (expit(margin), width, sure)

    def described(i: int) -> dict[str, Any]:
        first, second = (texts[int(row)] for row in pairs[i])
        predicted, wide, certainty = (finite(values[i]) for values in numbers)
        return {
            "prompt": first[2], "prompt_id": first[1], "first": first[3], "second": second[3],
            "ids": [first[0], second[0]], "predicted": predicted, "width": wide, "sure": certainty,
        }  # fmt: skip

    return {"most": [described(i) for i in most], "least": [described(i) for i in least]}


def from_different_prompts(state: ProjectState, pairs: Rows, order: Rows) -> list[int]:
    chosen: dict[int, int] = {}
    for i in order.tolist():
        chosen.setdefault(int(state.prompt[pairs[i, 0]]), i)
        if len(chosen) == EXAMPLES:
            break
    return list(chosen.values())


def texts_of(state: ProjectState, pairs: Rows) -> dict[int, tuple[int, int, str, str]]:
    """Key, prompt's key and the beginnings of both texts, by position."""
    rows = Response.objects.filter(project=state.project, position__in=np.unique(pairs).tolist())
    found = rows.values_list("position", "pk", "prompt_id", "prompt__text", "text")
    return {at: (pk, prompt, ask[:SNIPPET], text[:SNIPPET]) for at, pk, prompt, ask, text in found}


def limits(interval: efficiency.Interval) -> list[float | None]:
    """Value, low, high; what is unknown or unbounded is None, since JSON has no infinity."""
    return [finite(interval.estimate), finite(interval.low), finite(interval.high)]


def finite(value: float) -> float | None:
    """The number, or None."""
    return round(float(value), 6) if math.isfinite(value) else None
