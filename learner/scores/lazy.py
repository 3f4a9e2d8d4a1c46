"""The largest score of all pairs without rescoring them: stale scores bound from above, a short-list is kept fresh.

A judgment lowers every squared width: q_i -= c (z_i.u)^2, and moves every margin by at most a computable drift. So a
score taken earlier, with the margin moved in its favour by an allowance, is an upper bound until the drift exceeds the
allowance. The short-list holds the pairs with the largest bounds, their differences gathered; one pass over it makes
it current. When its best beats every bound outside, it is the argmax; outsiders that might beat it are fetched; when
they are too many, all pending updates are applied to all pairs as one matrix product (a flush) and the short-list is
drawn anew. Everything kept per pair is float32; the few pairs within rounding of the best are settled in float64.

Float32 errors of a squared width grow with the square of the pair's span, so they are measured relative to it on a few
pairs, and what is allowed for everywhere is that of the widest pair. Where pairs far wider than usual may be picked,
that would hide all others: the arithmetic is float64 there, and a flush computes squared widths from P itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learner.scores.pairs import Form, PairSpace, by_matrix, by_updates, far_apart
from learner.scores.shortlist import ShortList, about_largest, empty_list
from learner.selection import Scored
from learner.selection.candidates import TIE, Doubles, Floats, Rows

_LISTED = 1024  # pairs kept fresh
_MOST_PENDING = 512  # judgments absorbed before a flush, whatever the bounds say
_FEW_PENDING = 16  # up to here a flush costs little more than looking at the margins alone
# Outsiders looked at one by one before a flush is cheaper, as a share of the rows that a sweep reads.
_LAZY = 0.3
_PROBES = 48
_SAFETY = 8.0  # measured float32 error of probed pairs, times this, is allowed for everywhere
_ROUNDING = np.float32(3e-6)  # relative error of a score evaluated in float32
_LOWEST = np.finfo(np.float32).min
NONE = np.zeros(0, np.int64)
MANY = 1 << 62  # outsiders: too many to list, or uncounted


@dataclass(frozen=True)
class Best:
    """The argmax: pair number, score and squared width, in float64."""

    id: int
    score: float
    squared_width: float


class LazyArgmax:
    """Exact argmax of a ``Scored`` rule over a ``PairSpace``, kept under rank-one updates.

    Memory: 9 bytes a pair (squared width and bound in float32, one flag), 10 while pairs are looked through; a copy
    shares them. Time of ``best``: O(L d) for the short-list of L pairs, and now and then a flush of O(sweep);
    ``absorb`` is O(d).
    """

    _keeps = True  # what is known of each pair, by writing it

    def __init__(self, space: PairSpace, rule: Scored, radius: float, may_pick: NDArray[np.bool_],
                 scratch: tuple[Floats, Floats], longest: float) -> None:  # fmt: skip
        self.space, self.rule, self.radius = space, rule, radius
        self._open, self._q, self._bound, self._longest = may_pick, *scratch, longest
        self._short, self._highest, self._slack, self._drift = empty_list(space.dimension), -np.inf, 0.0, 0.0
        self._widest = space.widest(may_pick)
        self._exactly = far_apart(space, self._widest)
        self._real: type[np.floating[Any]] = np.float64 if self._exactly else np.float32
        self._fetched = 0  # outsiders looked at since the last flush
        self._answer: Best | None = None  # of the last call, until something changes
        # Drift and updates of the last interval: how far the next allowance reaches.
        self._history = (0.12, 0)
        self.flushes = 0

    def reset(self, theta: Doubles, covariance: Doubles) -> None:
        """Score every pair anew. O(sweep with a matrix)."""
        self.theta, self._covariance, self._answer = theta.copy(), covariance.copy(), None
        self._directions = np.zeros((_MOST_PENDING, self.space.dimension))
        self._falls = np.zeros(_MOST_PENDING)
        self._pending, self._rebound_at = 0, 0
        self._history = (0.12 if theta.any() else 1.0, 0)  # all margins 0: a wide allowance costs nothing
        self._rescore()

    def absorb(self, u: Doubles, c: float, theta: Doubles) -> None:
        """Note that P fell by c u u^T and theta moved. O(d)."""
        if self._pending == len(self._falls):
            self._flush()
        self._directions[self._pending], self._falls[self._pending] = u, c
        self._pending += 1
        self.theta, self._answer = theta, None

    def fork(self) -> LazyArgmax:
        """A copy to imagine on, where theta stays: it shares what is kept per pair and never writes it. O(L + T d)."""
        from learner.scores.imagining import Imagined  # which is this class but for what it keeps

        return Imagined(self)

    def withdraw(self, ids: Rows) -> None:
        """Never return these pairs again (from this copy). O(L) a pair."""
        self._answer = None
        self._short.alive[np.isin(self._short.ids, ids)] = False
        self._open[ids] = False
        self._hide(ids)

    def times(self, z: Doubles) -> Doubles:
        """P z for one difference or a matrix of them (n, d), in float64. O(n d^2)."""
        u, c = self._updates()
        return np.asarray(z @ self._covariance - (z @ u.T * c) @ u)

    def squared_widths(self, z: Doubles) -> Doubles:
        """z^T P z of each row, in float64. O(n d^2)."""
        u, c = self._updates()
        return np.asarray(np.einsum("nd,nd->n", z @ self._covariance, z) - (z @ u.T) ** 2 @ c)

    def best(self) -> Best | None:
        """The pair with the largest score now, ties to the smallest number; None when none is left."""
        if self._answer is None:
            self._answer = self._search()
        return self._answer

    def _search(self) -> Best | None:
        renewed = not self._keeps
        while True:
            self._freshen()
            if self._drifted():
                self._follow()
                continue
            upper, floor = self._standing()
            count, outsiders = self._outsiders(floor)
            if not count:
                return self._settle(self._short.ids[upper >= floor])
            affordable = self._fetched + count <= self._budget()
            if affordable and count <= _LISTED // 2:
                self._admit(outsiders, upper)
            elif affordable and not renewed:
                self._renew(outsiders)
                renewed = True
            elif self._flush_helps():
                self._flush(tight=not self._pending)
                renewed = not self._keeps
            elif count <= 16 * _LISTED:
                return self._settle(np.concatenate([outsiders, self._short.ids[upper >= floor]]))
            else:
                return self._scan()

    def _flush_helps(self) -> bool:
        return bool(self._pending) or self._allowance > 0

    def _budget(self) -> float:
        """Outsiders that may be looked at one by one before a flush is cheaper."""
        return max(_LISTED, _LAZY * len(self.space.features))

    def _updates(self) -> tuple[Doubles, Doubles]:
        return self._directions[: self._pending], self._falls[: self._pending]

    def _freshen(self) -> None:
        """Bring the short-list up to date: one pass over it for the new updates and the margins together."""
        short, new = self._short, slice(self._short.applied, self._pending)
        along = short.along(np.vstack([self._directions[new], self.theta]).astype(self._real))
        short.q -= self._falls[new].astype(self._real) @ along[:-1] ** 2
        self._margin = along[-1]
        short.applied = self._pending

    def _drifted(self) -> bool:
        if self.rule.margin == "ignored":
            return False
        move = self.theta - self._theta_then
        self._drift = self._longest * float(np.linalg.norm(move))
        return self._drift > self._allowance

    def _standing(self) -> tuple[Floats, float]:
        """Upper bounds of the short-list, and a score that its best surely reaches."""
        short, blur = self._short, self._blur(self._longest)
        upper = self.rule.bound(short.q + self._slack, self._margin, blur, self.radius)
        upper = np.where(short.alive, upper + _ROUNDING * np.abs(upper), -np.inf)
        if not short.alive.any():
            return upper, float(_LOWEST)
        i = int(np.argmax(upper))
        size = abs(float(self._margin[i]))
        least = np.array([max(size - blur, 0) if self.rule.margin == "rises" else size + blur])
        q = np.maximum(short.q[i : i + 1].astype(np.float64) - self._slack, 0)
        floor = float(self.rule.score(q, least, self.radius)[0])
        floor = min(floor - float(_ROUNDING) * abs(floor), float(upper[i]))  # float32 may underflow
        return upper, max(floor, float(_LOWEST))

    def _blur(self, length: float) -> float:
        """Rounding error of the margin of a difference, or of two that a difference is taken of, so long."""
        eps = float(np.finfo(self._real).eps) * float(np.sqrt(self.space.dimension))
        return 8 * eps * float(np.linalg.norm(self.theta)) * length

    def _outsiders(self, floor: float) -> tuple[int, Rows]:
        """How many pairs off the short-list have bounds that reach the floor, and which, unless they are too many.

        O(N) comparisons when the largest bound does.
        """
        if self._highest < floor:
            return 0, NONE
        reach = self._bound >= np.float32(floor)
        if np.count_nonzero(reach) > max(self._budget(), 16 * _LISTED):
            return MANY, NONE
        ids = np.flatnonzero(reach)
        return len(ids), ids

    def _admit(self, ids: Rows, upper: Floats) -> None:
        """Put outsiders on the short-list; when it has doubled, its lower half leaves with bounds as of now."""
        if len(self._short.ids) + len(ids) > 2 * _LISTED:
            order = np.argpartition(-upper, _LISTED)
            kept, left = order[:_LISTED], order[_LISTED:]
            left = left[self._short.alive[left]]
            bound = self._bounded(self._short.q[left], self._margin[left])
            self._bound[self._short.ids[left]] = bound
            self._highest = max(self._highest, float(bound.max(initial=-np.inf)))
            self._short.keep(kept)
        z, q = self._current(ids)
        self._short.join(ids, z, q)
        self._hide(ids)

    def _renew(self, ids: Rows) -> None:
        """Give these outsiders bounds as of now, without touching the others. O(n d T)."""
        for begin in range(0, len(ids), _LISTED):
            part = ids[begin : begin + _LISTED]
            z, q = self._current(part)
            self._bound[part] = self._bounded(q, z @ self.theta.astype(self._real))
        self._highest = float(self._bound.max(initial=-np.inf))

    def _current(self, ids: Rows) -> tuple[Floats, Floats]:
        self._fetched += len(ids)
        z, q = self._gathered(ids, self._q[ids])
        if self._exactly:
            return z, q
        u, c = self._updates()
        return z, q - c.astype(np.float32) @ (u.astype(np.float32) @ z.T) ** 2

    def _gathered(self, ids: Rows, q: Floats) -> tuple[Floats, Floats]:
        """Differences of pairs, and squared widths: those given, or in float64 those of now."""
        if not self._exactly:
            return self.space.differences(ids).astype(np.float32, copy=False), q
        z = exact_differences(self.space, ids)
        return z, self.squared_widths(z)

    def _bounded(self, q: Floats, margin: Floats) -> Floats:
        """Bounds of pairs seen now that hold until the drift since the last sweep exceeds the allowance."""
        return self._above(q, margin, self._allowance + self._drift)

    def _above(self, q: Floats, margin: Floats, drift: float) -> Floats:
        """Largest score of pairs with these float32 values while margins move by at most this drift."""
        reach = drift + self._blur(self._widest)
        bound = self.rule.bound(np.maximum(q, 0) + np.float32(self._slack), margin, reach, self.radius)
        return np.asarray(bound + _ROUNDING * np.abs(bound))

    def _hide(self, ids: Rows) -> None:
        stood = float(np.max(self._bound[ids], initial=-np.inf))
        self._bound[ids] = -np.inf
        if stood >= self._highest:
            self._highest = float(self._bound.max(initial=-np.inf))

    def _settle(self, ids: Rows) -> Best | None:
        """Decide among the pairs within rounding of the best, in float64."""
        if not len(ids):
            return None
        ids = np.sort(ids)
        q, score = np.zeros(len(ids)), np.zeros(len(ids))
        for begin in range(0, len(ids), _LISTED):
            part = slice(begin, begin + _LISTED)
            z = exact_differences(self.space, ids[part])
            q[part] = self.squared_widths(z)
            score[part] = self.rule.score(q[part], z @ self.theta, self.radius)
        i = int(np.argmax(score >= score.max() - TIE * abs(score.max())))
        return Best(int(ids[i]), float(score[i]), float(q[i]))

    def _scan(self) -> Best | None:
        """Settle among all pairs when thousands tie within float32: one sweep in float64."""
        form, best = by_matrix(self.times(np.eye(self.space.dimension))), -np.inf
        leaders: list[
            tuple[float, int]
        ] = []  # of each block: a score that ties with the best so far, smallest id
        allowed = self._may_pick()
        for where, q, m in self.space.sweep(form, self.theta, np.float64):
            score = np.where(allowed[where], self.rule.score(q, m, self.radius), -np.inf)
            best = max(best, float(score.max()))
            places = np.flatnonzero(score >= best - TIE * abs(best))
            if len(places) and best > -np.inf:
                ids = places + where.start if isinstance(where, slice) else where[places]
                leaders.append((float(score[places[0]]), int(ids.min())))
        tied = [number for score, number in leaders if score >= best - TIE * abs(best)]
        return self._settle(np.array(sorted(tied)[:1], np.int64))

    def _may_pick(self) -> NDArray[np.bool_]:
        return self._open

    def _follow(self) -> None:
        """Renew the bounds where margins have drifted too far: a flush, or one look at the margins alone."""
        if self._pending <= _FEW_PENDING or 2 * self._fetched > self._budget():
            self._flush()
            return
        self._history, self._rebound_at = (self._drift, self._pending - self._rebound_at), self._pending
        self._resweep(None, self._reach())
        self._bound[self._short.ids] = -np.inf
        self._highest = float(self._bound.max(initial=-np.inf))

    def _flush(self, tight: bool = False) -> None:
        """Apply all pending updates to all pairs and draw the short-list anew. O(sweep with min(T, d) directions)."""
        u, c = self._updates()
        self._history = (self._drift, self._pending - self._rebound_at)
        if self._pending >= (1 if self._exactly else self.space.dimension):
            self._rescore()
            return
        form = by_updates(u.astype(np.float32), c.astype(np.float32)) if self._pending else None
        self._fold()
        self._resweep(form, 0.0 if tight else self._reach())
        self.flushes += 1
        self._draw()
        if self._error() * _SAFETY > self._slack:
            self._rescore()

    def _fold(self) -> None:
        u, c = self._updates()
        if self._pending:
            self._covariance = self._covariance - (u.T * c) @ u
        self._pending, self._rebound_at = 0, 0

    def _reach(self) -> float:
        drift, updates = self._history
        return 1.5 * drift * float(np.sqrt(max(1.0, 32 / max(updates, 1)))) + 1e-6

    def _resweep(self, form: Form | None, allowance: float) -> None:
        """q -= form, and bounds that hold while margins move less than the allowance."""
        self._allowance, self._theta_then, self._drift = allowance, self.theta, 0.0
        for where, fall, margin in self.space.sweep(form, self.theta.astype(self._real), self._real):
            q = self._q[where]
            if form is not None:
                q = self._q[where] = q - fall
            self._bound[where] = np.where(self._open[where], self._above(q, margin, allowance), -np.inf)

    def _rescore(self) -> None:
        """Squared widths from P itself, float32 error measured anew, then bounds and short-list."""
        self._fold()
        self.flushes += 1
        for where, q, _ in self.space.sweep(by_matrix(self._covariance.astype(self._real)), None, self._real):
            self._q[where] = q
        self._slack = 2 * _SAFETY * self._measured(self._probed(None)) + self._rounding()
        self._rebound()
        while (error := self._error()) * _SAFETY > self._slack:
            self._slack = 2 * _SAFETY * error
            self._rebound()

    def _rebound(self) -> None:
        self._resweep(None, self._reach())
        self._draw()

    def _error(self) -> float:
        """Float32 error of the widest pair's squared width, by probes from the short-list and from everywhere."""
        return self._measured(np.concatenate([self._probed(self._short.ids), self._probed(None)]))

    def _rounding(self) -> float:
        """Least slack, whatever is measured: rounding of the widest pair's squared width, |P| bounded by its norm."""
        eps = float(np.finfo(self._real).eps)
        if self._exactly:
            eps *= _SAFETY * float(np.sqrt(self.space.dimension))
        return eps * self._widest**2 * float(np.linalg.norm(self._covariance, np.inf))

    def _probed(self, ids: Rows | None) -> Rows:
        """A fixed, evenly spread sample (no randomness: replaying gives the same state)."""
        total = self.space.size if ids is None else len(ids)
        places = np.unique(np.linspace(0, max(total - 1, 0), min(_PROBES, total)).astype(np.int64))
        return places if ids is None else ids[places]

    def _measured(self, ids: Rows) -> float:
        if not len(ids):
            return 0.0
        exact = np.einsum("nd,nd->n", (z := exact_differences(self.space, ids)) @ self._covariance, z)
        return self._widened(ids, exact - self._q[ids])

    def _widened(self, ids: Rows, errors: Doubles) -> float:
        """The largest error of these pairs relative to their squared spans, for the widest pair."""
        if self._exactly:  # too small to be seen beside the rounding of what is kept
            return 0.0
        spans = np.asarray(self.space.spans(ids), np.float64)
        seen = spans > 0  # a pair of one response twice has no error
        share = self._widest / spans[seen]
        return float(np.max(np.abs(errors[seen]) * share**2, initial=0.0))

    def _draw(self) -> None:
        """Short-list: about the L largest bounds, found by a threshold read off a sample."""
        ids = about_largest(self._bound, _LISTED)
        self._short = ShortList(ids, *self._gathered(ids, self._q[ids]))
        self._bound[ids] = -np.inf
        self._highest, self._fetched = float(self._bound.max(initial=-np.inf)), 0


def exact_differences(space: PairSpace, ids: Rows) -> Doubles:
    """z of each pair in float64, subtracted in float64."""
    first, second = space.rows(ids)
    if len(second) and second[0] < 0:
        return np.asarray(space.differences(ids), np.float64)
    features = space.features
    return np.asarray(features[first], np.float64) - features[second]
