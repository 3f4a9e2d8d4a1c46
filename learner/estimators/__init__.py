"""Estimators of the reward: one interface, checked by one contract test."""

from learner.estimators.bank import OnePassBank
from learner.estimators.contract import Estimator, Update
from learner.estimators.likelihood import Preference
from learner.estimators.onepass import OnePass
from learner.estimators.settings import Settings
from learner.estimators.state import state_digest

__all__ = ["Estimator", "OnePass", "OnePassBank", "Preference", "Settings", "Update", "state_digest"]
