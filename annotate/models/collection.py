"""How answers are collected: comparisons, leases on them, judgments of them."""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class Arm(models.TextChoices):
    ACTIVE = "active", _("Active")
    CONTROL = "control", _("Control")
    EVALUATION = "evaluation", _("Evaluation")
    GOLD = "gold", _("Gold")
    IMPORTED = "imported", _("Imported")
    DEPLOYMENT = "deployment", _("Deployment")


class Answer(models.TextChoices):
    """In terms of the comparison (its first and second response), whatever side they were shown on."""

    FIRST = "first", _("First")
    SECOND = "second", _("Second")
    TIE = "tie", _("Tie")
    BOTH_BAD = "both_bad", _("Both bad")


class Comparison(models.Model):
    """A prompt's two responses put to annotators, with everything known when the pair was chosen."""

    class State(models.TextChoices):
        OPEN = "open", _("Open")
        DONE = "done", _("Done")
        WITHDRAWN = "withdrawn", _("Withdrawn")

    project = models.ForeignKey("annotate.Project", models.CASCADE, related_name="comparisons")
    prompt = models.ForeignKey("annotate.Prompt", models.CASCADE, related_name="comparisons")
    first = models.ForeignKey("annotate.Response", models.CASCADE, related_name="+")
    second = models.ForeignKey("annotate.Response", models.CASCADE, related_name="+")
    state = models.CharField(max_length=16, choices=State.choices, default=State.OPEN)

    arm = models.CharField(max_length=16, choices=Arm.choices)
    draw = models.BigIntegerField(
        null=True, blank=True, help_text="Index of the keyed arm draw; empty: not drawn."
    )
    arm_probability = models.FloatField(default=1.0)
    rule = models.CharField(max_length=32, default="random")
    probability = models.FloatField(null=True, blank=True, help_text="Of this pair, given its arm.")
    score = models.FloatField(null=True, blank=True)
    width = models.FloatField(null=True, blank=True)
    predicted = models.FloatField(null=True, blank=True, help_text="P(first preferred) when it was chosen.")
    estimator_step = models.BigIntegerField(null=True, blank=True)

    gold_answer = models.CharField(
        max_length=16, choices=Answer.choices, blank=True, help_text="Of arm gold: the answer that is known."
    )
    settled_answer = models.CharField(
        max_length=16, choices=Answer.choices, blank=True, help_text="A reviewer's word on a disagreement."
    )
    settled_note = models.CharField(max_length=500, blank=True)
    settled_by = models.ForeignKey("annotate.User", models.SET_NULL, null=True, blank=True, related_name="+")
    settled_at = models.DateTimeField(null=True, blank=True)

    wanted = models.PositiveSmallIntegerField(default=1, help_text="How many annotators are to judge it.")
    taken = models.PositiveSmallIntegerField(default=0, help_text="Current judgments and open leases.")
    judged = models.PositiveSmallIntegerField(default=0, help_text="Current judgments.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [
            # Users of the deployment stage may be shown a pair that others were shown, or that annotators judge.
            models.UniqueConstraint(
                fields=["first", "second"], condition=~Q(arm=Arm.DEPLOYMENT), name="comparison_pair_once"
            ),
            models.UniqueConstraint(fields=["project", "draw"], name="comparison_draw_once"),
            models.CheckConstraint(condition=Q(first__lt=F("second")), name="comparison_pair_ordered"),
            models.CheckConstraint(condition=Q(arm__in=Arm.values), name="comparison_arm_known"),
            models.CheckConstraint(
                condition=Q(arm_probability__gt=0) & Q(arm_probability__lte=1),
                name="comparison_arm_probability",
            ),
            models.CheckConstraint(
                condition=Q(probability__isnull=True) | (Q(probability__gt=0) & Q(probability__lte=1)),
                name="comparison_probability",
            ),
            models.CheckConstraint(
                condition=Q(gold_answer="") | Q(arm=Arm.GOLD, gold_answer__in=Answer.values),
                name="comparison_gold_answer",
            ),
            models.CheckConstraint(
                condition=Q(settled_answer__in=["", *Answer.values]), name="comparison_settled_answer"
            ),
            models.CheckConstraint(
                condition=Q(judged__lte=F("taken")) & Q(taken__lte=F("wanted")),
                name="comparison_exact_overlap",
            ),
        ]
        indexes = [
            models.Index(fields=["project", "id"], condition=Q(state="open"), name="comparison_open"),
            models.Index(fields=["project", "arm", "id"], name="comparison_arm"),
            models.Index(fields=["project", "id"], name="comparison_project_id"),
            models.Index(fields=["project", "width", "id"], name="comparison_width"),
        ]

    def __str__(self) -> str:
        return f"comparison {self.pk}"


class Lease(models.Model):
    """One annotator's claim on a comparison: which side is which, and until when."""

    class Outcome(models.TextChoices):
        OPEN = "open", _("Open")
        JUDGED = "judged", _("Judged")
        SKIPPED = "skipped", _("Skipped")
        EXPIRED = "expired", _("Expired")
        WITHDRAWN = "withdrawn", _("Withdrawn")  # a reviewer took its answer back: it cannot be given again

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    project = models.ForeignKey("annotate.Project", models.CASCADE, related_name="leases")
    comparison = models.ForeignKey("annotate.Comparison", models.CASCADE, related_name="leases")
    annotator = models.ForeignKey("annotate.User", models.CASCADE, related_name="leases")
    swapped = models.BooleanField(help_text="The second response was shown on the left.")
    outcome = models.CharField(max_length=16, choices=Outcome.choices, default=Outcome.OPEN)
    reason = models.CharField(max_length=32, blank=True, help_text="Why it was skipped.")
    note = models.CharField(max_length=500, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["comparison", "annotator"], name="lease_pair_once_per_annotator"),
        ]
        indexes = [
            models.Index(
                fields=["annotator", "project"], condition=Q(outcome="open"), name="lease_open_annotator"
            ),
            models.Index(
                fields=["project", "expires_at"], condition=Q(outcome="open"), name="lease_open_expiry"
            ),
            models.Index(
                fields=["project", "annotator"], condition=Q(outcome="skipped"), name="lease_skipped"
            ),
        ]

    def __str__(self) -> str:
        return f"lease {self.pk}"

    @property
    def left(self) -> models.Model:
        return self.comparison.second if self.swapped else self.comparison.first

    @property
    def right(self) -> models.Model:
        return self.comparison.first if self.swapped else self.comparison.second


class Judgment(models.Model):
    """An answer. Rows without a step are the learner's queue; an edit is a new row that replaces this one."""

    project = models.ForeignKey("annotate.Project", models.CASCADE, related_name="judgments")
    comparison = models.ForeignKey("annotate.Comparison", models.CASCADE, related_name="judgments")
    lease = models.ForeignKey(
        "annotate.Lease", models.CASCADE, null=True, blank=True, related_name="judgments"
    )
    annotator = models.ForeignKey(
        "annotate.User", models.SET_NULL, null=True, blank=True, related_name="judgments"
    )
    imported_annotator = models.CharField(
        max_length=200, blank=True, help_text="Who it was, in imported data."
    )
    answer = models.CharField(max_length=16, choices=Answer.choices)
    strength = models.PositiveSmallIntegerField(null=True, blank=True)
    criteria = models.JSONField(default=dict, blank=True)
    rationale = models.TextField(blank=True)
    flags = models.JSONField(default=list, blank=True)
    lead_time = models.FloatField(null=True, blank=True, help_text="Seconds from shown to answered.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    absorbed_step = models.BigIntegerField(null=True, blank=True, help_text="Its place in the project's log.")
    absorbed_at = models.DateTimeField(null=True, blank=True)
    weight = models.FloatField(
        default=1.0,
        help_text="The annotator's reliability at that step, if the project weighs by it; else 1.",
    )
    replaced_at = models.DateTimeField(null=True, blank=True, help_text="Undone, edited or withdrawn.")
    replaced_reason = models.CharField(max_length=200, blank=True)
    replaces = models.ForeignKey("self", models.SET_NULL, null=True, blank=True, related_name="replaced_by")
    forgotten_at = models.DateTimeField(
        null=True, blank=True, help_text="When no estimator held it any more."
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["lease"], condition=Q(replaced_at=None), name="judgment_one_current_per_lease"
            ),
            models.UniqueConstraint(fields=["project", "absorbed_step"], name="judgment_step_once"),
            models.CheckConstraint(condition=Q(answer__in=Answer.values), name="judgment_answer_known"),
            models.CheckConstraint(
                condition=Q(strength__isnull=True) | Q(strength__range=(1, 3)), name="judgment_strength"
            ),
            models.CheckConstraint(
                condition=Q(lead_time__isnull=True) | Q(lead_time__gte=0), name="judgment_lead_time"
            ),
            models.CheckConstraint(condition=Q(weight__range=(0, 2)), name="judgment_weight"),
        ]
        indexes = [
            models.Index(
                fields=["project", "id"],
                condition=Q(absorbed_step=None, replaced_at=None),
                name="judgment_waiting",
            ),
            models.Index(
                fields=["project", "absorbed_step"],
                condition=Q(absorbed_step__isnull=False, replaced_at__isnull=False, forgotten_at=None),
                name="judgment_to_forget",
            ),
            models.Index(fields=["project", "created_at"], name="judgment_created"),
            models.Index(fields=["project", "annotator", "id"], name="judgment_annotator"),
            models.Index(
                fields=["project", "annotator", "created_at"],
                condition=Q(replaced_at=None),
                name="judgment_own",
            ),
            models.Index(fields=["project", "id"], name="judgment_project_id"),
        ]

    def __str__(self) -> str:
        return f"judgment {self.pk}: {self.answer}"


class TrainingAnswer(models.Model):
    """An answer of the training round, to a gold pair. No judgment: nothing is learned or measured from it."""

    project = models.ForeignKey("annotate.Project", models.CASCADE, related_name="training_answers")
    comparison = models.ForeignKey("annotate.Comparison", models.CASCADE, related_name="training_answers")
    annotator = models.ForeignKey("annotate.User", models.CASCADE, related_name="training_answers")
    answer = models.CharField(max_length=16, choices=Answer.choices)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["comparison", "annotator"], name="training_answer_once"),
            models.CheckConstraint(condition=Q(answer__in=Answer.values), name="training_answer_known"),
        ]

    def __str__(self) -> str:
        return f"training answer {self.pk}: {self.answer}"
