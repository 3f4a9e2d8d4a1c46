"""Why this pair: what was known when a comparison was made, in sentences for a person."""

from __future__ import annotations

from collections.abc import Iterator

from django.utils.translation import gettext as _

from annotate.models import Arm, Comparison


def why(comparison: Comparison) -> list[str]:
    """From who decided to how likely it was; what is not known is not said."""
    return [*made_by(comparison), *model_said(comparison), *chance(comparison)]


def made_by(comparison: Comparison) -> Iterator[str]:
    arm, share = comparison.arm, f"{comparison.arm_probability:.0%}"
    if arm == Arm.IMPORTED:
        yield _("It was not chosen here: it came with an import, with its votes.")
    elif arm == Arm.GOLD:
        yield _("A person put it here as gold: its answer is known, and annotators meet it unmarked.")
    elif arm == Arm.DEPLOYMENT:
        yield _("It was shown to a user in deployment.")
    elif comparison.draw is None:
        yield _("No pair was waiting when an annotator asked, so one was drawn at random on the spot.")
    else:
        yield _(
            "Draw %(draw)s of the project fell to the %(arm)s arm, which gets %(share)s of the draws."
        ) % {
            "draw": f"{comparison.draw + 1:,}",
            "arm": comparison.get_arm_display().lower(),
            "share": share,
        }
    if arm == Arm.EVALUATION:
        yield _("Its prompt is set aside for measuring: no estimator learns from it.")
    if arm == Arm.CONTROL:
        yield _("Control pairs are drawn uniformly, so that choosing can be compared with not choosing.")
    if arm == Arm.ACTIVE:
        yield chosen_by(comparison)


def chosen_by(comparison: Comparison) -> str:
    if comparison.rule == "random":
        return _("The project’s rule was “random”, so it was drawn like a control pair.")
    score = "" if comparison.score is None else f"{comparison.score:.4g}"
    return (
        _("The rule %(rule)s scored it %(score)s, the most of all pairs that could be asked about.")
        if comparison.rule not in ("best_worst", "drts", "max_min_lcb")
        else _("Within a prompt drawn at random, the rule %(rule)s chose it, with the score %(score)s.")
    ) % {"rule": comparison.rule, "score": score or "–"}


def model_said(comparison: Comparison) -> Iterator[str]:
    if comparison.predicted is not None:
        first = comparison.predicted >= 0.5
        sure = f"{max(comparison.predicted, 1 - comparison.predicted):.0%}"
        yield (
            _("The reward model expected the first response to be preferred, with %(sure)s.")
            if first
            else _("The reward model expected the second response to be preferred, with %(sure)s.")
        ) % {"sure": sure}
    if comparison.width is not None:
        yield _("How wide it was: %(width)s, one standard deviation of the difference of rewards.") % {
            "width": f"{comparison.width:.3g}"
        }
    if comparison.estimator_step is not None:
        yield _("The estimator had read the log up to step %(step)s by then.") % {
            "step": f"{comparison.estimator_step:,}"
        }


def chance(comparison: Comparison) -> Iterator[str]:
    """The probability of the pair given its arm: what corrects for active sampling afterwards."""
    p = comparison.probability
    if p is None:
        return
    if p >= 1:
        yield _("Given the arm, this pair was certain to be chosen: the rule leaves nothing to chance.")
    elif p < 0.01:
        yield _("Given the arm, its chance of being chosen was 1 in %(n)s.") % {"n": f"{round(1 / p):,}"}
    else:
        yield _("Given the arm, its chance of being chosen was %(p)s.") % {"p": f"{p:.1%}"}
