"""The write path of a project's settings: validated together, changed while people annotate, logged.

What was drawn keeps what it was drawn with: a comparison stores its arm, rule and probability, and how many
annotators it wants, so a change reaches only the draws after it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from annotate import auditing, encoders
from annotate.celery import ring
from annotate.errors import TouchstoneError
from annotate.models import Arm, FeatureVersion, Job, Judgment, Project, User

# The names that the learner knows; a test holds them equal, since the site never imports it.
RULE_NAMES = (
    "d_optimal",
    "max_uncertainty",
    "info_max",
    "bald",
    "entropy",
    "best_worst",
    "delta_ucb",
    "drts",
    "max_min_lcb",
    "random",
)
FEATURES = ("encoder", "encoder_options", "dimensions")
SETTINGS = (
    "name",
    "question",
    "guidelines",
    "allow_tie",
    "allow_both_bad",
    "ask_strength",
    "criteria",
    "rule",
    "norm_cap",
    "control_share",
    "evaluation_share",
    "evaluation_prompt_share",
    "overlap",
    "overlap_share",
    "budget",
    "lease_seconds",
    "edit_minutes",
    "annotator_limit",
    "gold_share",
    "training_pairs",
    "training_pass",
    "weigh_by_reliability",
    *FEATURES,
)
LONGEST_GUIDELINES = 20_000
MOST_CRITERIA = 6
LONGEST_CRITERION = 60


def values_of(project: Project) -> dict[str, Any]:
    """Every setting as it is."""
    return {name: getattr(project, name) for name in SETTINGS}


def fingerprint(project: Project) -> str:
    """Names the settings that somebody saw, so that two admins cannot overwrite each other unknowingly."""
    return hashlib.sha256(json.dumps(values_of(project)).encode()).hexdigest()[:16]


def change_settings(
    project: Project, actor: User, values: Mapping[str, Any], seen: str = "", subject: str = ""
) -> dict[str, list[Any]]:
    """Store the settings that differ; {field: [before, after]}. ``seen`` is the fingerprint of what was changed."""
    with transaction.atomic():
        locked = Project.objects.select_for_update(no_key=True).get(pk=project.pk)
        values = that_fit(locked, values)
        if seen and seen != fingerprint(locked):
            raise TouchstoneError(
                _(
                    "Somebody else changed the settings meanwhile. Look at them as they are now, then change them."
                ),
                code="conflict",
            )
        refuse_problems(locked, values)
        changes = apply(locked, values)
        if changes:
            auditing.record(locked, actor, "changed", subject, **changes)
    project.refresh_from_db()
    return changes


def apply(project: Project, values: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Write what differs, and nothing else: the pool's counters belong to imports that run beside this."""
    old = values_of(project)
    changes = {name: [old[name], value] for name, value in values.items() if value != old[name]}
    for name, (_before, after) in changes.items():
        setattr(project, name, after)
    check_fields(project)
    if "guidelines" in changes:
        project.guidelines_version += 1
    project.save(update_fields=[*changes, *(["guidelines_version"] if "guidelines" in changes else [])])
    if changes.keys() & set(FEATURES):
        start_features_anew(project)
    return changes


def that_fit(project: Project, values: Mapping[str, Any]) -> dict[str, Any]:
    """90 % and 10 % are all there is, also where 1 - 0.9 < 0.1: the evaluation share gives way by the last digit."""
    given = dict(values)
    control = given.get("control_share", project.control_share)
    evaluation = given.get("evaluation_share", project.evaluation_share)
    if 0 < evaluation - (1 - control) < 1e-9:
        given["evaluation_share"] = 1 - control
    return given


def refuse_problems(project: Project, values: Mapping[str, Any]) -> None:
    if unknown := set(values) - set(SETTINGS):
        raise TouchstoneError(f"There is no such setting: {', '.join(sorted(unknown))}.")
    for sentence in problems(project, values).values():
        raise TouchstoneError(sentence)


def check_fields(project: Project) -> None:
    """Hold every setting to its own bounds, whoever calls."""
    others = [field.name for field in Project._meta.fields if field.name not in SETTINGS]
    try:
        project.clean_fields(exclude=others)
    except ValidationError as error:
        name, sentences = next(iter(error.message_dict.items()))
        raise TouchstoneError(f"{auditing.label(name)}: {sentences[0]}") from None


def problems(project: Project, changed: Mapping[str, Any]) -> dict[str, str]:
    """What keeps these settings from holding together, by the field to put right."""
    new = values_of(project) | dict(changed)
    found: dict[str, str] = {}
    if new["evaluation_share"] > 1 - new["control_share"]:
        found["evaluation_share"] = _("Evaluation and control shares add up to more than 100 %.")
    if new["rule"] not in RULE_NAMES:
        found["rule"] = _("There is no rule of this name.")
    if any(new[name] != getattr(project, name) for name in ("encoder", "encoder_options")):
        found |= encoders.problems(new["encoder"], new["encoder_options"])
    if new["norm_cap"] <= 0:
        found["norm_cap"] = _("A cap of 0 % would leave no pair to ask about.")
    if len(new["guidelines"]) > LONGEST_GUIDELINES:
        found["guidelines"] = _("Guidelines have at most {most} characters.").format(most=LONGEST_GUIDELINES)
    if any(ord(letter) < 32 for letter in new["name"]):
        found["name"] = _("A name is one line without control characters.")
    if not new["name"].strip():
        found["name"] = _("A project needs a name.")
    if sentence := criteria_problem(new["criteria"]):
        found["criteria"] = sentence
    return found | feature_problems(project, new)


def criteria_problem(criteria: Any) -> str:
    """Annotators read these names beside every pair, so they are few, short and different."""
    names: list[Any] = criteria if isinstance(criteria, list) else [None]
    if not all(isinstance(name, str) and name.strip() and name.isprintable() for name in names):
        return _("A criterion is a name on one line.")
    if len(names) > MOST_CRITERIA:
        return _("At most {most} criteria.").format(most=MOST_CRITERIA)
    if any(len(name) > LONGEST_CRITERION for name in names):
        return _("A criterion has at most {most} characters.").format(most=LONGEST_CRITERION)
    return _("Two criteria have the same name.") if len(set(names)) < len(names) else ""


def feature_problems(project: Project, new: Mapping[str, Any]) -> dict[str, str]:
    changed = [name for name in FEATURES if new[name] != getattr(project, name)]
    if not changed or not features_are_fixed(project):
        return {}
    sentence = _("Responses are embedded already: features change only with a new feature version.")
    return dict.fromkeys(changed, sentence)


def features_are_fixed(project: Project) -> bool:
    """Whether responses were embedded, or are being embedded now."""
    return (
        project.feature_versions.filter(embedded__gt=0).exists()
        or project.jobs.filter(kind=Job.Kind.EMBED, state=Job.State.RUNNING).exists()
    )


def start_features_anew(project: Project) -> None:
    """Retire what never got as far as an embedding, so that the next version has the new encoder."""
    project.feature_versions.filter(embedded=0).update(state=FeatureVersion.State.RETIRED)
    if project.response_count:
        transaction.on_commit(lambda: ring("embed", project.pk))


def cautions(project: Project) -> list[str]:
    """What is allowed and probably not meant, a sentence each: about arms, overlap, budget and time."""
    return [
        *arm_cautions(project),
        *people_cautions(project),
        *gold_cautions(project),
        *budget_cautions(project),
    ]


def arm_cautions(project: Project) -> list[str]:
    found = []
    if not project.control_share:
        found.append(_("Without a control arm nothing shows whether choosing beats asking at random."))
    if not project.evaluation_share or not project.evaluation_prompt_share:
        found.append(_("Without evaluation comparisons the reward model is never measured."))
    elif project.prompt_count and not project.prompts.filter(is_evaluation=True).exists():
        found.append(_("No prompt was set aside for evaluation when the prompts were imported."))
    if project.active_share < 0.001:
        found.append(_("Nothing is left for the active arm: every pair is drawn at random."))
    elif project.rule == "random":
        found.append(_("With the random rule the active arm chooses nothing."))
    elif project.norm_cap >= 1:
        found.append(_("Without a norm cap active rules run after outliers, and often lose to random."))
    return found


def people_cautions(project: Project) -> list[str]:
    people = project.memberships.filter(user__is_active=True).count()
    if not project.overlap_share or project.overlap < 2:
        return [_("Without overlap nobody can tell how far annotators agree.")]
    if people >= project.overlap:
        return []
    return [
        ngettext(
            "A pair of the overlap waits for {overlap} annotators, and the project has one person.",
            "A pair of the overlap waits for {overlap} annotators, and the project has {people} people.",
            people,
        ).format(overlap=project.overlap, people=people)
    ]


def gold_cautions(project: Project) -> list[str]:
    """Training and mixing in both need gold pairs, and a pair whose answer was shown is no check any more."""
    if not (project.training_pairs or project.gold_share):
        return []
    made = project.comparisons.filter(arm=Arm.GOLD).exclude(gold_answer="").count()
    if not made:
        return [_("There are no gold pairs yet, so none are mixed in and nobody is trained.")]
    if project.training_pairs > made:
        return [_("The training round is shorter than set: there are {made} gold pairs.").format(made=made)]
    if project.gold_share and project.training_pairs == made:
        return [_("Every gold pair is used up by the training round, so none is left to be mixed in.")]
    return []


def budget_cautions(project: Project) -> list[str]:
    found = []
    if project.lease_seconds < 120:
        found.append(_("A lease under two minutes may run out while somebody reads."))
    if project.budget is not None and judgments_made(project) >= project.budget:
        found.append(_("The budget is used up: nobody is given another pair."))
    return found


def judgments_made(project: Project) -> int:
    return Judgment.objects.filter(project=project, replaced_at=None, lease__isnull=False).count()
