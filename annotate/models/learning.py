"""What was learned: feature versions, estimators, their checkpoints and evaluations."""

from __future__ import annotations

import math

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class FeatureVersion(models.Model):
    """An encoder's output through one frozen feature pipeline; estimators hold only within it."""

    class State(models.TextChoices):
        BUILDING = "building", _("Building")
        READY = "ready", _("Ready")
        LIVE = "live", _("Live")
        RETIRED = "retired", _("Retired")

    project = models.ForeignKey("annotate.Project", models.CASCADE, related_name="feature_versions")
    state = models.CharField(max_length=16, choices=State.choices, default=State.BUILDING)
    label = models.CharField(
        max_length=120, blank=True, help_text="What it is called, if not by its encoder."
    )
    encoder = models.CharField(max_length=200)
    encoder_digest = models.CharField(max_length=64, blank=True)
    encoder_dimension = models.PositiveIntegerField(null=True, blank=True)
    dimension = models.PositiveIntegerField(
        null=True, blank=True, help_text="Of the features the estimator sees."
    )
    config = models.JSONField(default=dict, blank=True)
    digest = models.CharField(max_length=64, blank=True, help_text="Of the fitted pipeline.")
    embedded = models.PositiveIntegerField(default=0, help_text="Responses whose features are stored.")
    comparison = models.JSONField(
        default=dict, blank=True, help_text="How it measured against the live version, on the evaluation arm."
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    live_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["project"], condition=Q(state="live"), name="feature_version_one_live"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.label or self.encoder} #{self.pk}"

    @property
    def folder(self) -> str:
        """Where its files are, below the data folder."""
        return f"projects/{self.project_id}/features/{self.pk}"


class EmbeddingShard(models.Model):
    """A range of response positions that one worker at a time embeds; a claim ends when its worker falls silent."""

    feature_version = models.ForeignKey("annotate.FeatureVersion", models.CASCADE, related_name="shards")
    start = models.PositiveIntegerField()
    stop = models.PositiveIntegerField()
    worker = models.CharField(max_length=200, blank=True)
    claimed_at = models.DateTimeField(null=True, blank=True)
    seen_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    done = models.PositiveIntegerField(default=0, help_text="Texts embedded under this claim.")
    tokens = models.PositiveBigIntegerField(default=0)

    class Meta:
        ordering = ["feature_version", "start"]
        constraints = [
            models.UniqueConstraint(fields=["feature_version", "start"], name="embedding_shard_once")
        ]

    def __str__(self) -> str:
        return f"responses {self.start} to {self.stop - 1}"


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
    regularization = models.FloatField(null=True, blank=True, help_text="The lambda in use.")
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


class Refit(models.Model):
    """The maximum-likelihood fit to the whole log, as a check on the one-pass state at that step."""

    feature_version = models.ForeignKey("annotate.FeatureVersion", models.CASCADE, related_name="refits")
    step = models.BigIntegerField()
    judgments = models.PositiveIntegerField(help_text="How many it was fitted to.")
    held_out = models.PositiveIntegerField(help_text="Evaluation judgments both were measured on.")
    regularization = models.FloatField()
    metrics = models.JSONField(
        default=dict,
        help_text='{"log_loss": [value, low, high], "log_loss_gap": [...], "cosine": value, ...}',
    )
    is_alarming = models.BooleanField(default=False, help_text="The gap was beyond the limit.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"refit at step {self.step}"


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


class Reliability(models.Model):
    """How one annotator answers, given what the preference model expects; measured by the learn worker."""

    project = models.ForeignKey("annotate.Project", models.CASCADE, related_name="reliabilities")
    annotator = models.ForeignKey("annotate.User", models.CASCADE, related_name="reliabilities")
    judgments = models.PositiveIntegerField(help_text="Of this annotator, that it was measured on.")
    estimate = models.FloatField(
        help_text="Scales the model's margin: 1 as the average, 0 coin flips; shrunk to 1 while little is known."
    )
    low = models.FloatField()
    high = models.FloatField()
    side_bias = models.FloatField(help_text="Added to the logit of the left response: 0 is an even hand.")
    side_low = models.FloatField()
    side_high = models.FloatField()
    hasty = models.PositiveIntegerField(
        default=0, help_text="Answers too quick for the texts to have been read."
    )
    paused = models.PositiveIntegerField(default=0, help_text="Answers far slower than is usual for them.")
    longest_run = models.PositiveIntegerField(default=0, help_text="Of the same side, one after another.")
    run_chance = models.FloatField(default=1.0, help_text="Of so long a run, were the order random.")
    step = models.BigIntegerField(help_text="The place in the log up to which it was measured.")
    updated_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["estimate", "annotator"]
        constraints = [models.UniqueConstraint(fields=["project", "annotator"], name="reliability_once")]

    def __str__(self) -> str:
        return f"annotator {self.annotator_id}: {self.estimate:.2f}"

    @property
    def weight(self) -> float:
        """What the reward model scales z by: how steeply the answers follow the margin, over both sides."""
        even_handed = 1 / math.cosh(max(-50.0, min(self.side_bias, 50.0)) / 2) ** 2  # 4 sigma'(b)
        return min(max(self.estimate, 0.0), 2.0) * even_handed


class Agreement(models.Model):
    """How far annotators of the same pairs agree, about the answer or about one criterion."""

    project = models.ForeignKey("annotate.Project", models.CASCADE, related_name="agreements")
    criterion = models.CharField(max_length=60, blank=True, help_text="Empty: the answer itself.")
    alpha = models.FloatField(null=True, help_text="Krippendorff's: 1 is perfect, 0 is chance.")
    alpha_low = models.FloatField(null=True)
    alpha_high = models.FloatField(null=True)
    pairwise = models.FloatField(null=True, help_text="How often two annotators of a pair answer alike.")
    pairwise_low = models.FloatField(null=True)
    pairwise_high = models.FloatField(null=True)
    pairs = models.PositiveIntegerField()
    judgments = models.PositiveIntegerField()
    step = models.BigIntegerField()

    class Meta:
        ordering = ["criterion"]
        constraints = [models.UniqueConstraint(fields=["project", "criterion"], name="agreement_once")]

    def __str__(self) -> str:
        return f"agreement of project {self.project_id} on {self.criterion or 'the answer'}"


class ResponseReward(models.Model):
    """A response's reward (centred per prompt) as the production estimator had it when rewards were last written."""

    response = models.OneToOneField(
        "annotate.Response", models.CASCADE, primary_key=True, related_name="reward"
    )
    project = models.ForeignKey("annotate.Project", models.CASCADE, related_name="+", db_index=False)
    reward = models.FloatField()
    low = models.FloatField()
    high = models.FloatField()

    class Meta:
        indexes = [models.Index(fields=["project", "reward", "response"], name="response_reward_order")]

    def __str__(self) -> str:
        return f"{self.reward:+.3f}"


class Finding(models.Model):
    """What the learn worker found when it last measured: one document for one question of the dashboard."""

    project = models.ForeignKey("annotate.Project", models.CASCADE, related_name="findings")
    name = models.CharField(max_length=32)
    step = models.BigIntegerField(help_text="The place in the log at which it was found.")
    data = models.JSONField(default=dict)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["project", "name"], name="finding_once")]

    def __str__(self) -> str:
        return f"{self.name} at step {self.step}"
