"""The short-list of ``LazyArgmax``: pairs whose differences are gathered and whose squared widths are kept current."""

from __future__ import annotations

import copy

import numpy as np

from learner.scores.pairs import Where
from learner.selection.candidates import Floats, Rows

_BLOCK = 1 << 16


class ShortList:
    """Pairs kept current: their numbers, differences, squared widths and whether they may still be picked."""

    def __init__(self, ids: Rows, z: Floats, q: Floats) -> None:
        self.ids, self.z, self.q = ids, z, q
        self.alive = np.ones(len(ids), dtype=bool)
        self.applied = 0  # pending updates already taken into q
        self._room = z

    def fork(self) -> ShortList:
        """A copy that shares the differences."""
        other = copy.copy(self)
        other.alive, other.q, other._room = self.alive.copy(), self.q.copy(), self.z
        return other

    def join(self, ids: Rows, z: Floats, q: Floats) -> None:
        """Add these pairs. O(n d), and O(L d) when room has to be made."""
        held = len(self.ids)
        if held + len(ids) > len(self._room):
            self._room = np.empty((max(2 * held, held + len(ids), 64), z.shape[1]), self.z.dtype)
            self._room[:held] = self.z
        self._room[held : held + len(ids)] = z
        self.z = self._room[: held + len(ids)]
        self.ids, self.q = np.concatenate([self.ids, ids]), np.concatenate([self.q, q])
        self.alive = np.concatenate([self.alive, np.ones(len(ids), bool)])

    def keep(self, places: Rows) -> None:
        """Drop all others."""
        self.ids, self.z, self.q = self.ids[places], self.z[places], self.q[places]
        self.alive, self._room = self.alive[places], self.z

    def along(self, directions: Floats) -> Floats:
        """z.u for each of a few directions (T, d), as (T, L): one by one, which is faster than a thin product."""
        if len(directions) > 6:
            return np.asarray(directions @ self.z.T)
        return np.array([self.z @ direction for direction in directions])


def empty_list(dimension: int) -> ShortList:
    """A list of no pairs."""
    nothing = np.zeros(0, np.float32)
    return ShortList(np.zeros(0, np.int64), np.zeros((0, dimension), np.float32), nothing)


class Largest:
    """About the n largest of values that come in blocks, each with its number and a value beside it. O(n) memory."""

    def __init__(self, wanted: int) -> None:
        self.ids, self._values, self.beside = np.zeros(0, np.int64), *np.zeros((2, 0), np.float32)
        self.rest = -np.inf  # no value that was passed over is larger
        self._wanted = wanted

    def add(self, where: Where, values: Floats, beside: Floats) -> None:
        """Look at the values of the pairs that are there."""
        places = np.flatnonzero(values > self.rest)
        if not len(places):
            return
        ids = places + where.start if isinstance(where, slice) else where[places]
        self.ids = np.concatenate([self.ids, ids])
        self._values = np.concatenate([self._values, values[places]])
        self.beside = np.concatenate([self.beside, beside[places]])
        if len(self.ids) > 2 * self._wanted:
            self.cut()

    def cut(self) -> None:
        """Keep no more than are wanted."""
        if len(self.ids) <= self._wanted:
            return
        kept = np.argpartition(-self._values, self._wanted - 1)[: self._wanted]
        self.ids, self._values, self.beside = self.ids[kept], self._values[kept], self.beside[kept]
        self.rest = float(self._values.min())


def places_in(where: Where, ids: Rows) -> tuple[Rows, Rows]:
    """Which pairs of a block are among these sorted numbers: their places in the block and among the numbers.

    >>> places_in(slice(10, 20), np.array([3, 12, 15, 20]))
    (array([2, 5]), array([1, 2]))
    """
    if isinstance(where, slice):
        begin, end = np.searchsorted(ids, [where.start, where.stop])
        return ids[begin:end] - where.start, np.arange(begin, end)
    places = np.flatnonzero(np.isin(where, ids))
    return places, np.searchsorted(ids, where[places])


def about_largest(values: Floats, wanted: int) -> Rows:
    """Places of about as many of the largest values as wanted, by a threshold read off a sample. O(N)."""
    if len(values) > 8 * wanted:
        sample = values[:: max(1, len(values) // 65536)]
        rank = max(1, round(len(sample) * wanted / len(values)))
        threshold = np.partition(sample, len(sample) - rank)[len(sample) - rank]
        reach = values >= threshold
        if threshold > -np.inf and wanted // 2 <= np.count_nonzero(reach) <= 3 * wanted // 2:
            return np.flatnonzero(reach)
        del reach
    largest = Largest(wanted)
    for begin in range(0, len(values), _BLOCK):
        block = values[begin : begin + _BLOCK]
        largest.add(slice(begin, begin + len(block)), block, block)
    largest.cut()
    return np.sort(largest.ids)
