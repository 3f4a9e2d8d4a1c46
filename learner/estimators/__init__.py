"""Estimators of the reward: one interface, checked by one contract test."""

from learner.estimators.bank import OnePassBank
from learner.estimators.batch import BatchMLE
from learner.estimators.contract import Estimator, Update
from learner.estimators.hessianfree import HessianFree, conjugate_gradient, damping
from learner.estimators.likelihood import Preference
from learner.estimators.network import HessianFreeModule
from learner.estimators.omd import SGD, ImplicitOMD
from learner.estimators.onepass import OnePass
from learner.estimators.settings import Settings
from learner.estimators.state import state_digest

__all__ = [
    "SGD",
    "BatchMLE",
    "Estimator",
    "HessianFree",
    "HessianFreeModule",
    "ImplicitOMD",
    "OnePass",
    "OnePassBank",
    "Preference",
    "Settings",
    "Update",
    "conjugate_gradient",
    "damping",
    "state_digest",
]
