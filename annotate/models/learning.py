"""What was learned: feature versions, estimators, their checkpoints and evaluations."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class FeatureVersion(models.Model):
    """An encoder's output through one frozen feature pipeline; estimators hold only within it."""

    class State(models.TextChoices):
        BUILDING = "building", _("Building")
        LIVE = "live", _("Live")
        RETIRED = "retired", _("Retired")

    project = models.ForeignKey("annotate.Project", models.CASCADE, related_name="feature_versions")
    state = models.CharField(max_length=16, choices=State.choices, default=State.BUILDING)
    encoder = models.CharField(max_length=200)
    encoder_digest = models.CharField(max_length=64, blank=True)
    encoder_dimension = models.PositiveIntegerField(null=True, blank=True)
    dimension = models.PositiveIntegerField(
        null=True, blank=True, help_text="Of the features the estimator sees."
    )
    config = models.JSONField(default=dict, blank=True)
    digest = models.CharField(max_length=64, blank=True, help_text="Of the fitted pipeline.")
    embedded = models.PositiveIntegerField(default=0, help_text="Responses whose features are stored.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    live_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["project"], condition=Q(state="live"), name="feature_version_one_live"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.encoder} #{self.pk}"

    @property
    def folder(self) -> str:
        """Where its files are, below the data folder."""
        return f"projects/{self.project_id}/features/{self.pk}"


class Estimator(models.Model):
    """The reward model of one project, arm role and feature version, as far as it has read the log."""

    class Role(models.TextChoices):
        PRODUCTION = "production", _("Production")
        ACTIVE = "active", _("Active arm")
        CONTROL = "control", _("Control arm")

    project = models.ForeignKey("annotate.Project", models.CASCADE, related_name="estimators")
    feature_version = models.ForeignKey("annotate.FeatureVersion", models.CASCADE, related_name="estimators")
    role = models.CharField(max_length=16, choices=Role.choices)
    step = models.BigIntegerField(default=0, help_text="The last place in the log that it has read.")
    judgments = models.PositiveIntegerField(default=0, help_text="How many it learned from.")
    digest = models.CharField(max_length=64, blank=True, help_text="Of its state at that step.")
    generation = models.PositiveIntegerField(default=0, help_text="Counts rebuilds after an undo or an edit.")
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["project", "feature_version", "role"], name="estimator_once_per_role"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.role} estimator of project {self.project_id}"


class Checkpoint(models.Model):
    """A saved state: with the log after it, the estimator can be rebuilt to the same bits."""

    estimator = models.ForeignKey("annotate.Estimator", models.CASCADE, related_name="checkpoints")
    step = models.BigIntegerField()
    path = models.CharField(max_length=300, help_text="Below the data folder.")
    digest = models.CharField(max_length=64)
    bytes = models.PositiveBigIntegerField(default=0)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["-step"]
        constraints = [models.UniqueConstraint(fields=["estimator", "step"], name="checkpoint_once_per_step")]

    def __str__(self) -> str:
        return f"checkpoint at step {self.step}"


class Evaluation(models.Model):
    """Held-out metrics of an estimator after so many judgments, on the evaluation arm."""

    estimator = models.ForeignKey("annotate.Estimator", models.CASCADE, related_name="evaluations")
    judgments = models.PositiveIntegerField(help_text="How many the estimator had learned from.")
    held_out = models.PositiveIntegerField(help_text="Evaluation judgments it was measured on.")
    metrics = models.JSONField(
        default=dict, help_text='{"log_loss": [value, low, high], "accuracy": [...], ...}'
    )
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["judgments"]
        constraints = [
            models.UniqueConstraint(fields=["estimator", "judgments"], name="evaluation_once_per_count")
        ]

    def __str__(self) -> str:
        return f"evaluation at {self.judgments}"


class SourceReward(models.Model):
    """A response source's mean reward (centred per prompt) under the production estimator."""

    project = models.ForeignKey("annotate.Project", models.CASCADE, related_name="source_rewards")
    source = models.CharField(max_length=200)
    responses = models.PositiveIntegerField()
    reward = models.FloatField()
    low = models.FloatField()
    high = models.FloatField()
    step = models.BigIntegerField()

    class Meta:
        ordering = ["-reward", "source"]
        constraints = [models.UniqueConstraint(fields=["project", "source"], name="source_reward_once")]

    def __str__(self) -> str:
        return f"{self.source}: {self.reward:.3f}"
