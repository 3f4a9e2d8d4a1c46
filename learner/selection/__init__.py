"""Which pair to ask about next: one pure function per rule; selecting never learns.

``RULES`` holds the collection rules (ALGORITHMS.md section 4), ``DEPLOYMENT_RULES`` those for answering a user
(section 5). To add a rule, write one score ``f(squared_width, margin, radius)`` in ``rules.py`` and one entry here.
"""

from __future__ import annotations

from learner.selection.candidates import Candidates, Pick, State, kept_pairs
from learner.selection.choosing import choose
from learner.selection.deployment import DEPLOYMENT_RULES, deployment_pair
from learner.selection.rules import RULES, Rule, Scored, Uniform, WithinPrompt

__all__ = [
    "DEPLOYMENT_RULES",
    "RULES",
    "Candidates",
    "Pick",
    "Rule",
    "Scored",
    "State",
    "Uniform",
    "WithinPrompt",
    "choose",
    "deployment_pair",
    "kept_pairs",
]
