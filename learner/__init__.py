"""Touchstone's mathematics: one-pass reward modelling, pair selection, policies, honest efficiency statistics.

Everything here works without the site: ``from learner import OnePass``. Names are imported on first use,
so ``import learner`` costs nothing and the web process never loads torch.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

# Torch's threads wait for each other asleep: on processors that others use too, waiting busily takes what the other
# thread needs (measured on 2 cores at load 3: encoding 2.8 times as fast). Read once, when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_PUBLIC = {
    "OnePass": "learner.estimators",
    "OnePassBank": "learner.estimators",
    "BatchMLE": "learner.estimators",
    "ImplicitOMD": "learner.estimators",
    "SGD": "learner.estimators",
    "HessianFree": "learner.estimators",
    "HessianFreeModule": "learner.estimators",
    "Preference": "learner.estimators",
    "Settings": "learner.estimators",
    "state_digest": "learner.estimators",
    "best_of": "learner.policies",
    "best_of_policy": "learner.policies",
    "frank_wolfe": "learner.policies",
    "pessimistic_value": "learner.policies",
    "source_policies": "learner.policies",
    "DEPLOYMENT_RULES": "learner.selection",
    "deployment_pair": "learner.selection",
    "RULES": "learner.selection",
    "PairScores": "learner.scores",
    "FeaturePipeline": "learner.features",
    "ENCODERS": "learner.encoders",
    "LearnerError": "learner.errors",
}
__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    """Import a public name from the module that holds it, when it is first asked for."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'learner' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
