"""A copy of ``LazyArgmax`` to imagine answers on, which writes nothing per pair.

Where the original would flush, it sweeps past all pairs, takes those with the largest bounds and remembers one number
that bounds all others: it does not live long enough to need more of them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from learner.scores import lazy
from learner.scores.lazy import MANY, NONE, LazyArgmax, exact_differences
from learner.scores.pairs import Form, Where, by_matrix, by_updates
from learner.scores.shortlist import Largest, ShortList, places_in
from learner.selection.candidates import Doubles, Floats, Rows


class Imagined(LazyArgmax):
    """What ``LazyArgmax.fork`` gives: theta stays, squared widths fall, pairs are withdrawn from this copy only.

    Memory: O(L d + T d) of its own. Time as there, but a sweep keeps nothing, so that one follows whenever the best of
    the short-list has fallen to the largest bound outside.
    """

    _keeps = False

    def __init__(self, original: LazyArgmax) -> None:
        vars(self).update(vars(original))
        self._short = original._short.fork()
        self._withdrawn = NONE  # what is kept of these pairs does not count
        self._shares_updates = True
        self._listed_at = -1  # updates after which this copy drew a short-list of its own

    def absorb(self, u: Doubles, c: float, theta: Doubles) -> None:
        """Note that P fell by c u u^T; theta must be that of the original. O(d)."""
        if self._shares_updates or self._pending == len(self._falls):
            self._make_room()
        super().absorb(u, c, theta)

    def _make_room(self) -> None:
        room, (u, c) = 2 * self._pending + 16, self._updates()
        self._directions, self._falls = np.zeros((room, self.space.dimension)), np.zeros(room)
        self._directions[: self._pending], self._falls[: self._pending] = u, c
        self._shares_updates = False

    def withdraw(self, ids: Rows) -> None:
        """Never return these pairs again from this copy. O(L) a pair."""
        self._answer = None
        self._short.alive[np.isin(self._short.ids, ids)] = False
        self._hide(ids)

    def _hide(self, ids: Rows) -> None:
        self._withdrawn = np.concatenate([self._withdrawn, ids])

    def _gone(self) -> Rows:
        """Withdrawn pairs, in order: all hidden ones but those that are on the short-list instead."""
        return np.setdiff1d(self._withdrawn, self._short.ids[self._short.alive])

    def _may_pick(self) -> NDArray[np.bool_]:
        allowed = self._open.copy()
        allowed[self._gone()] = False
        return allowed

    def _budget(self) -> float:
        return (
            2 * lazy._LISTED
        )  # what is fetched stays: without writing bounds nothing can leave the short-list

    def _outsiders(self, floor: float) -> tuple[int, Rows]:
        if self._listed_at >= 0:
            return (0 if self._highest < floor else MANY), NONE
        count, ids = super()._outsiders(floor)
        ids = ids[~np.isin(ids, self._withdrawn)]
        return (count if count == MANY else len(ids)), ids

    def _admit(self, ids: Rows, upper: Floats) -> None:
        self._short.join(ids, *self._current(ids))
        self._hide(ids)

    def _flush_helps(self) -> bool:
        return self._listed_at != self._pending

    def _flush(self, tight: bool = False) -> None:
        """The pairs with the largest bounds now, and one bound of all others. O(sweep), O(L) memory."""
        self._withdrawn = self._gone()
        largest, error = self._leading()
        while error * lazy._SAFETY > self._slack:
            self._slack = 2 * lazy._SAFETY * error
            largest, error = self._leading()
        self._short = ShortList(largest.ids, *self._gathered(largest.ids, largest.beside))
        self._short.applied = self._listed_at = self._pending
        self._highest, self._fetched = largest.rest, 0

    def _leading(self) -> tuple[Largest, float]:
        """The largest bounds of all pairs with their squared widths, and the float32 error of some and of probes."""
        largest, probes = Largest(2 * lazy._LISTED), self._probed(None)
        found = np.zeros(len(probes), np.float32)
        for where, q, margin in self._swept():
            bound = np.where(self._open[where], self._above(q, margin, 0.0), np.float32(-np.inf))
            bound[places_in(where, self._withdrawn)[0]] = -np.inf
            largest.add(where, bound, q)
            place, number = places_in(where, probes)
            found[number] = q[place]
        largest.cut()
        some = self._probed(np.arange(len(largest.ids)))
        ids, q = np.append(probes, largest.ids[some]), np.append(found, largest.beside[some])
        exact = self.squared_widths(exact_differences(self.space, ids))
        return largest, self._widened(ids, exact - q)

    def _swept(self) -> Iterator[tuple[Where, Floats, Floats]]:
        """Squared widths and margins of all pairs now, the kept ones left as they are."""
        form, whole = self._form()
        for where, value, margin in self.space.sweep(form, self.theta.astype(self._real), self._real):
            if whole:
                yield where, value, margin
            else:
                yield where, self._q[where] if form is None else self._q[where] - value, margin

    def _form(self) -> tuple[Form | None, bool]:
        """What a sweep gives: squared widths themselves, or what is to be taken off the kept ones."""
        if self._exactly or self._pending >= self.space.dimension:
            return by_matrix(self.times(np.eye(self.space.dimension)).astype(self._real)), True
        u, c = self._updates()
        return (by_updates(u.astype(np.float32), c.astype(np.float32)) if self._pending else None), False
