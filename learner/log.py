"""Reading a project's judgment log: the production estimator and the two arm estimators, entry by entry.

The log is the truth: estimators are functions of it. Reading the same entries in the same order from the same
start gives the same bits, so a state is a checkpoint plus the replay of what follows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from learner.errors import LearnerError
from learner.estimators import OnePassBank, Update
from learner.estimators.bank import GRID

Array = npt.NDArray[np.float64]
State = dict[str, npt.NDArray[np.generic]]

ROLES = ("production", "active", "control")
TRAINS = {
    "active": ("production", "active"),
    "control": ("production", "control"),
    "imported": ("production",),
    "deployment": ("production",),
}
"""Which estimators learn from an arm. Evaluation and gold judgments train none."""

CHECKPOINTS = (25, 50, 75, 100, 150, 200, 300, 400, 600, 800)
LAMBDA_PRIOR = 0.3  # keeps the first few control judgments from choosing lambda: docs/benchmarks.md
LEDGER, WHOLE_GRID = 512, 2048  # the largest d with H beside P, and with every lambda of the grid
LABELS = {"first": 1.0, "second": 0.0, "tie": 0.5}


def is_checkpoint(judgments: int) -> bool:
    """Whether curves are read at this count: the list above, then every doubling of its last four. O(1).

    Examples
    --------
    >>> [n for n in range(1, 1700) if is_checkpoint(n)][-4:]
    [600, 800, 1200, 1600]
    """
    while judgments > CHECKPOINTS[-1] and judgments % 2 == 0:
        judgments //= 2
    return judgments in CHECKPOINTS


def members(dimension: int) -> tuple[tuple[float, ...], bool]:
    """The grid of lambda and whether H is kept beside P, for an estimator of this dimension. O(1).

    A member holds d^2 numbers, twice with H; 128 MB at d = 4,096. The drift that H repairs is 1e-14 after 8,192
    judgments, so it goes first; then the grid is halved to its middle.

    Examples
    --------
    >>> [(len(grid), ledger) for grid, ledger in map(members, (32, 1024, 4096))]
    [(5, True), (5, False), (2, False)]
    """
    return (GRID if dimension <= WHOLE_GRID else GRID[1:4:2]), dimension <= LEDGER


@dataclass(frozen=True)
class Entry:
    """One judgment of the log: the rows of its two responses, the answer, its arm, and its annotator's weight."""

    step: int
    first: int
    second: int
    answer: str
    arm: str
    evaluation: bool = False
    weight: float = 1.0


@dataclass
class Curve:
    """The parameters that an estimator had at each checkpoint count, to be measured on held-out judgments."""

    counts: list[int] = field(default_factory=list)
    thetas: list[Array] = field(default_factory=list)


class LogReader:
    """Banks of one-pass estimators, one a role, that read one log. Cost: O(d^2) per member and entry.

    Parameters
    ----------
    features : (M, d) array, the rows of the live feature version
    regularizations : the grid of lambda; every estimator has the same grid and is tuned in the same way, by
        progressive log-loss on the control judgments (each predicted before it is learned from); by default as many
        as memory and time allow for d (`members`)
    roles : which estimators to keep; each is the same whatever others are kept beside it

    Raises
    ------
    LearnerError
        An entry out of order or of a response without features.

    Examples
    --------
    >>> reader = LogReader(np.eye(4, dtype=np.float32))
    >>> _ = reader.read(Entry(1, 0, 1, "first", "active"))
    >>> reader.counts
    {'production': 1, 'active': 1, 'control': 0}
    """

    def __init__(
        self,
        features: npt.NDArray[np.float32],
        regularizations: tuple[float, ...] | None = None,
        roles: tuple[str, ...] = ROLES,
    ) -> None:
        self.features = features
        d = features.shape[1]
        grid, ledger = members(d)
        self.banks = {
            role: OnePassBank(d, regularizations or grid, prior=LAMBDA_PRIOR, ledger=ledger) for role in roles
        }
        self.curves = {role: Curve() for role in roles}
        self.step = 0

    @property
    def counts(self) -> dict[str, int]:
        """Judgments that each estimator has learned from."""
        return {role: bank.judgments for role, bank in self.banks.items()}

    def difference(self, first: int, second: int) -> Array:
        """z = phi(x, a) - phi(x, a') of two rows, (d,)."""
        if not (0 <= first < len(self.features) and 0 <= second < len(self.features)):
            raise LearnerError(f"rows {first} and {second} are not among the {len(self.features)} features")
        z: Array = self.features[first].astype(np.float64) - self.features[second].astype(np.float64)
        return z

    def read(self, entry: Entry) -> Update | None:
        """Read one entry; the production estimator's update is returned for the scores, None if it did not move."""
        if entry.step <= self.step:
            raise LearnerError(f"the log is read in order: step {entry.step} came after {self.step}")
        self.step = entry.step
        trained = () if entry.evaluation or entry.answer not in LABELS else TRAINS.get(entry.arm, ())
        roles = [role for role in trained if role in self.banks]
        if not roles:
            return None
        z, y = self.difference(entry.first, entry.second), LABELS[entry.answer]
        if entry.arm == "control":
            for bank in self.banks.values():
                bank.observe(z, y, entry.weight)
        updates = {role: self.banks[role].learn_one(z, y, entry.weight) for role in roles}
        for role in roles:
            self._mark(role)
        return updates.get("production")

    def read_all(self, entries: Iterable[Entry]) -> list[Update]:
        """Read entries in order; the production estimator's updates."""
        return [update for update in map(self.read, entries) if update is not None]

    def _mark(self, role: str) -> None:
        bank = self.banks[role]
        if is_checkpoint(bank.judgments):
            self.curves[role].counts.append(bank.judgments)
            self.curves[role].thetas.append(np.array(bank.theta, dtype=np.float64))

    def state(self, role: str, *, quick: bool = False) -> State:
        """Everything that one estimator needs to go on from here, as named arrays; ``quick`` as in OnePass."""
        curve = self.curves[role]
        d = self.features.shape[1]
        bank = self.banks[role].state(quick=quick)
        state: State = {f"bank.{name}": np.asarray(value) for name, value in bank.items()}
        state["step"] = np.array(self.step, dtype=np.int64)
        state["curve.counts"] = np.array(curve.counts, dtype=np.int64)
        state["curve.thetas"] = np.array(curve.thetas, dtype=np.float64).reshape(len(curve.counts), d)
        return state

    def parameters(self, role: str) -> State:
        """What one estimator predicts with, without the d x d matrices behind it; another log shows in it. O(d)."""
        bank = self.banks[role]
        state: State = {"step": np.array(self.step, dtype=np.int64), "losses": bank.losses.copy()}
        for index, member in enumerate(bank.members):
            state |= {f"{index}.theta": member.theta, f"{index}.mean": member.theta_mean}
            state[f"{index}.log_det"] = np.array([member.log_det, member.judgments])
        return state

    def restore(self, states: Mapping[str, Mapping[str, npt.ArrayLike]]) -> None:
        """Go back to saved states, one for each role, all of the same step."""
        steps = {role: int(np.asarray(states[role]["step"])) for role in self.banks}
        if len(set(steps.values())) != 1:
            raise LearnerError(f"the saved states are of different steps: {steps}")
        for role in self.banks:
            saved = {name: np.asarray(value) for name, value in states[role].items()}
            bank = {
                name.removeprefix("bank."): value for name, value in saved.items() if name.startswith("bank.")
            }
            self.banks[role] = OnePassBank.from_state(bank)
            self.curves[role] = Curve(
                [int(n) for n in saved["curve.counts"]], [np.array(theta) for theta in saved["curve.thetas"]]
            )
        self.step = next(iter(steps.values()))
