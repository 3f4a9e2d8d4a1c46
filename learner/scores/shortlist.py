"""The short-list of ``LazyArgmax``: pairs whose differences are gathered and whose squared widths are kept current."""

from __future__ import annotations

import copy

import numpy as np

from learner.selection.candidates import Floats, Rows


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
            self._room = np.empty((max(2 * held, held + len(ids), 64), z.shape[1]), np.float32)
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


def about_largest(values: Floats, wanted: int) -> Rows:
    """Places of about as many of the largest values as wanted, by a threshold read off a sample. O(N)."""
    if len(values) > 8 * wanted:
        sample = values[:: max(1, len(values) // 65536)]
        rank = max(1, round(len(sample) * wanted / len(values)))
        threshold = np.partition(sample, len(sample) - rank)[len(sample) - rank]
        if threshold > -np.inf:
            ids = np.flatnonzero(values >= threshold)
            if wanted // 2 <= len(ids) <= 3 * wanted // 2:
                return ids
    usable = np.flatnonzero(values > -np.inf)
    if len(usable) <= wanted:
        return usable
    return np.sort(usable[np.argpartition(-values[usable], wanted)[:wanted]])
