"""Can the judgments be trusted: agreement, annotators' reliability and side bias, gold answers, times.

`agreement` asks whether annotators agree with each other, `annotators` how each of them answers given what
the preference model expects, `conduct` whether the answers were read at all. Nothing here accuses: every
figure has an interval, and few judgments give wide ones.
"""

from learner.quality.agreement import Agreement, agreement, agreement_by_annotator, orient
from learner.quality.annotators import AnnotatorModel, fit_annotators, gold_accuracy
from learner.quality.conduct import Conduct, conduct, longest_run, time_flags

__all__ = [
    "Agreement",
    "AnnotatorModel",
    "Conduct",
    "agreement",
    "agreement_by_annotator",
    "conduct",
    "fit_annotators",
    "gold_accuracy",
    "longest_run",
    "orient",
    "time_flags",
]
