"""Honest label efficiency: is choosing pairs better than drawing them at random, and how sure is that?

`losses` scores predictions, `arms` compares two arms on the same evaluation judgments, `sequence` makes
claims that survive being watched all day, `planning` says what a claim needs and whether more labels pay.
ALGORITHMS section 6; every statistic comes with an interval.
"""

from learner.efficiency.arms import (
    Curves,
    LabelsSaved,
    area_under_curve,
    first_reach,
    labels_saved,
    non_increasing,
    paired_bootstrap,
)
from learner.efficiency.intervals import Interval, percentile_interval, wilson
from learner.efficiency.losses import (
    Calibration,
    ReliabilityBin,
    accuracy,
    brier,
    brier_scores,
    calibration,
    hits,
    log_loss,
    log_losses,
)
from learner.efficiency.planning import (
    Kappa,
    expected_gain,
    expected_sign_flips,
    fitted_curve,
    gain_sentence,
    kappa_of_pool,
    labels_needed,
)
from learner.efficiency.sequence import (
    AHEAD,
    BEHIND,
    OPEN,
    ConfidenceSequence,
    Verdict,
    confidence_sequence,
    verdict,
)

__all__ = [
    "AHEAD",
    "BEHIND",
    "OPEN",
    "Calibration",
    "ConfidenceSequence",
    "Curves",
    "Interval",
    "Kappa",
    "LabelsSaved",
    "ReliabilityBin",
    "Verdict",
    "accuracy",
    "area_under_curve",
    "brier",
    "brier_scores",
    "calibration",
    "confidence_sequence",
    "expected_gain",
    "expected_sign_flips",
    "first_reach",
    "fitted_curve",
    "gain_sentence",
    "hits",
    "kappa_of_pool",
    "labels_needed",
    "labels_saved",
    "log_loss",
    "log_losses",
    "non_increasing",
    "paired_bootstrap",
    "percentile_interval",
    "verdict",
    "wilson",
]
