"""Algorithm 5 on a torch module's own parameters: the Hessian by double backward (Pearlmutter)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from learner.errors import LearnerError
from learner.estimators.contract import Array
from learner.estimators.hessianfree import conjugate_gradient, damping
from learner.estimators.settings import Settings
from learner.estimators.state import Saved, State, check_header, entry, header

if TYPE_CHECKING:
    import torch


def hessian_product(loss: torch.Tensor, parameters: Sequence[torch.Tensor]) -> Callable[[Any], Any]:
    """v -> ``(d^2 loss / d theta^2) v`` over the flattened parameters; two backward passes' time a product.

    Parameters
    ----------
    loss : tensor
        A scalar with a graph that may be differentiated twice.
    parameters : sequence of tensors
        In the order in which v is flattened.

    Examples
    --------
    >>> import torch
    >>> x = torch.tensor([1.0, 2.0], requires_grad=True)
    >>> hessian_product((x[0] ** 2 * x[1]), [x])(torch.tensor([1.0, 0.0]))
    tensor([4., 2.])
    """
    import torch

    first = torch.autograd.grad(loss, parameters, create_graph=True)
    flat = torch.cat([part.reshape(-1) for part in first])

    def product(v: torch.Tensor) -> torch.Tensor:
        second = torch.autograd.grad(flat @ v, parameters, retain_graph=True, materialize_grads=True)
        return torch.cat([part.reshape(-1) for part in second])

    return product


class HessianFreeModule:
    """Newton steps on a reward network's parameters from preference batches (Algorithm 5).

    The gradient is the new batch's; the Hessian is that of the loss over *all* batches so far (or a
    uniform sample of `memory` of them, scaled up) plus ``(lambda + lambda_t) I``, so curvature
    accumulates as it does in `OnePass`. On a linear module it equals `HessianFree.learn_batch`.

    Parameters
    ----------
    module : torch.nn.Module
        Trained in place; all its parameters that require a gradient.
    reward : callable, optional
        Inputs of n responses -> rewards (n,); ``module(inputs)`` flattened if not given.
    total, steps, step_size, regularization, initial_damping, memory, seed
        As for `HessianFree`; `memory` counts batches. Precision and device are those of the module and its inputs.

    Raises
    ------
    LearnerError
        Nothing to train, constants out of range, labels outside [0, 1], an empty batch, a gradient that is not finite.

    Examples
    --------
    >>> import torch
    >>> linear = torch.nn.Linear(1, 1, bias=False)
    >>> _ = torch.nn.init.zeros_(linear.weight)
    >>> learner = HessianFreeModule(linear)
    >>> learner.learn_batch(torch.ones(1, 1), torch.zeros(1, 1), torch.ones(1))
    >>> round(linear.weight.item(), 3)
    0.4
    """

    def __init__(
        self,
        module: torch.nn.Module,
        reward: Callable[[Any], Any] | None = None,
        *,
        total: int = 10_000,
        steps: int = 3,
        step_size: float = 1.0,
        regularization: float = 1.0,
        initial_damping: float = 0.8,
        memory: int | None = None,
        seed: int = 0,
    ) -> None:
        self.module = module
        self.reward = reward if reward is not None else lambda inputs: module(inputs).reshape(-1)
        self.parameters = [part for part in module.parameters() if part.requires_grad]
        if not self.parameters:
            raise LearnerError("the module has no parameter that requires a gradient")
        Settings.practical(regularization, step_size)  # refuses what is not positive and finite
        if min(total, steps, 1 if memory is None else memory) < 1 or not 0 <= initial_damping < np.inf:
            raise LearnerError(
                f"total {total}, steps {steps} and memory {memory} are at least 1, damping {initial_damping} at least 0"
            )
        self.total, self.steps, self.step_size = total, steps, step_size
        self.regularization, self.initial_damping = regularization, initial_damping
        self.memory, self.seed = memory, seed
        self.judgments = self.batches = 0
        self._kept: list[tuple[Any, Any, Any]] = []

    def learn_batch(self, first: Any, second: Any, y: Any) -> None:
        """One step for n judgments: inputs of the first and second responses, labels (n,) in [0, 1].

        Costs K products over the batches kept, each about four forward passes of them.
        """
        import torch

        if not len(y):
            raise LearnerError("the batch is empty: y has length 0")
        if not bool(((y >= 0) & (y <= 1)).all()):
            raise LearnerError("y holds a value outside 0 to 1 (1/2 for a tie)")
        gradient = torch.autograd.grad(self._loss(first, second, y), self.parameters)
        flat = torch.cat([part.reshape(-1) for part in gradient])
        if not bool(torch.isfinite(flat).all()):
            raise LearnerError("the gradient of the batch is not finite")
        self._keep((first, second, y))
        direction = conjugate_gradient(self._product(), flat, self.steps)
        self._apply(direction)

    def predict(self, first: Any, second: Any) -> Array:
        """P(first preferred) of n pairs of inputs, as `learn_batch` takes them, shape (n,); a forward pass of each."""
        import torch

        with torch.no_grad():
            margins = self.reward(first) - self.reward(second)
        return np.asarray(torch.sigmoid(margins).cpu().numpy())

    def state(self) -> State:
        """Parameters, constants and the batches kept, as named arrays (copies). O(parameters + inputs kept).

        Raises
        ------
        LearnerError
            The inputs are not tensors: what a ``reward`` of one's own takes cannot be written down here.
        """
        if not all(hasattr(part, "detach") for batch in self._kept for part in batch):
            raise LearnerError("HessianFreeModule.state: the inputs kept are not tensors")
        memory = -1 if self.memory is None else self.memory
        counts = [self.judgments, self.batches, self.total, self.steps, memory, self.seed, len(self._kept)]
        state = header("HessianFreeModule", sum(part.numel() for part in self.parameters)) | {
            "steps": np.array(counts, dtype=np.int64),
            "constants": np.array([self.step_size, self.regularization, self.initial_damping]),
        }
        state |= {f"parameter.{i}": _array(part) for i, part in enumerate(self.parameters)}
        for i, batch in enumerate(self._kept):
            state |= {f"batch.{i}.{side}": _array(part) for side, part in enumerate(batch)}
        return state

    @classmethod
    def from_state(
        cls, state: Saved, module: torch.nn.Module, reward: Callable[[Any], Any] | None = None
    ) -> Self:
        """Learner that continues where `state` was taken, on a module of the same shape, whose parameters it sets."""
        import torch

        size = check_header(state, "HessianFreeModule")
        counts = [int(count) for count in entry(state, "steps", (7,))]
        step_size, regularization, initial_damping = (float(c) for c in entry(state, "constants", (3,)))
        learner = cls(
            module, reward, total=counts[2], steps=counts[3], step_size=step_size, regularization=regularization,
            initial_damping=initial_damping, memory=None if counts[4] < 0 else counts[4], seed=counts[5],
        )  # fmt: skip
        if sum(part.numel() for part in learner.parameters) != size:
            raise LearnerError(f"HessianFreeModule.from_state: the module does not have {size} parameters")
        with torch.no_grad():
            for i, part in enumerate(learner.parameters):
                part.copy_(torch.as_tensor(entry(state, f"parameter.{i}", tuple(part.shape))))
        learner.judgments, learner.batches = counts[:2]
        learner._kept = [learner._batch(state, i) for i in range(counts[6])]
        return learner

    def _batch(self, state: Saved, number: int) -> tuple[Any, Any, Any]:
        import torch

        names = [f"batch.{number}.{side}" for side in range(3)]
        parts = [np.array(entry(state, name, np.shape(state.get(name, 0.0)))) for name in names]
        first, second, y = (torch.as_tensor(part, device=self.parameters[0].device) for part in parts)
        return first, second, y

    def _loss(self, first: Any, second: Any, y: Any) -> torch.Tensor:
        import torch

        margins = self.reward(first) - self.reward(second)
        if margins.shape != y.shape:
            raise LearnerError(f"rewards of shape {tuple(margins.shape)} for y of shape {tuple(y.shape)}")
        return torch.nn.functional.binary_cross_entropy_with_logits(margins, y, reduction="sum")

    def _keep(self, batch: tuple[Any, Any, Any]) -> None:
        self.judgments += len(batch[2])
        self.batches += 1
        if self.memory is None or len(self._kept) < self.memory:
            self._kept.append(batch)
            return
        place = int(np.random.default_rng([self.seed, self.batches]).integers(self.batches))
        if place < self.memory:
            self._kept[place] = batch

    def _product(self) -> Callable[[Any], Any]:
        """Products with the accumulated, damped Hessian; one batch's graph is alive at a time."""
        scale = self.batches / len(self._kept)
        ridge = self.regularization + damping(self.judgments, self.total, self.initial_damping)

        def product(v: Any) -> Any:
            image = ridge * v
            for batch in self._kept:
                image = image + scale * hessian_product(self._loss(*batch), self.parameters)(v)
            return image

        return product

    def _apply(self, direction: Any) -> None:
        import torch

        with torch.no_grad():
            start = 0
            for part in self.parameters:
                piece = direction[start : start + part.numel()].reshape(part.shape)
                part.sub_(piece, alpha=self.step_size)
                start += part.numel()


def _array(tensor: Any) -> Array:
    """A copy on the processor."""
    return np.array(tensor.detach().cpu().numpy())
