"""Step 3 of Algorithm 1: the nearest point of the ball |theta| <= B in the norm of H~."""

from __future__ import annotations

from typing import Any

from learner.errors import LearnerError
from learner.estimators.arrays import Ops

MAX_STEPS = 100


def project(ops: Ops, covariance: Any, theta: Any, bound: float) -> Any:
    """Argmin over ``|x| <= B`` of ``(x - theta)^T H~ (x - theta)``, exact to rounding.

    The minimiser is ``x(nu) = (H~ + nu I)^-1 H~ theta = (I + nu P~)^-1 theta`` with ``nu >= 0`` such that
    ``|x(nu)| = B``, so P~ alone serves and neither H~ nor eigenvalues are needed. ``1/|x(nu)| - 1/B`` is
    increasing, concave and nearly straight, so Newton from ``nu = 0`` climbs to its root without
    overshooting, in about five Cholesky factorisations. Rescaling theta to length B is another point.

    Parameters
    ----------
    ops : Ops
        Array operations of the estimator.
    covariance : array, shape (d, d)
        ``P~ = H~^-1``, lower triangle.
    theta : array, shape (d,)
        Point to project.
    bound : float
        B > 0.

    Returns
    -------
    array, shape (d,)
        theta itself if it lies in the ball. Cost O(d^3) per Newton step otherwise.

    Examples
    --------
    >>> import numpy as np
    >>> from learner.estimators.arrays import ops_for
    >>> point = project(ops_for("float64", "cpu"), np.diag([1.0, 0.01]), np.array([2.0, 1.0]), 1.0)
    >>> point.round(3)
    array([0.315, 0.949])
    """
    point, nu = theta, 0.0
    length = ops.dot(point, point) ** 0.5
    tolerance = 8 * ops.precise * bound
    for _ in range(MAX_STEPS):
        if length <= bound + tolerance:
            return point
        solve = ops.solver(ops.shifted(covariance, nu))
        slope = ops.dot(point, solve(ops.symv(covariance, point)))
        nu += (length - bound) * length * length / (bound * slope)
        point = ops.solver(ops.shifted(covariance, nu))(theta)
        length = ops.dot(point, point) ** 0.5
    raise LearnerError(f"projection onto |theta| <= {bound} did not converge from |theta'| = {length}")
