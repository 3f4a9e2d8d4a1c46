"""A project: the question it asks, and how it collects answers."""

from __future__ import annotations

import secrets
from datetime import timedelta

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

SHARE = [MinValueValidator(0.0), MaxValueValidator(1.0)]


def new_seed() -> str:
    """The key of every draw in a project: which arm, which prompts evaluate, which side is left."""
    return secrets.token_hex(16)


class Project(models.Model):
    """Prompts with responses, people who compare them, and the settings of collection."""

    name = models.CharField(_("name"), max_length=120)
    slug = models.SlugField(max_length=80, unique=True)
    question = models.CharField(
        _("question"),
        max_length=300,
        default="Which response is better?",
        help_text=_("What annotators are asked about every pair."),
    )
    guidelines = models.TextField(
        _("guidelines"), blank=True, help_text=_("Markdown, shown beside every pair.")
    )
    guidelines_version = models.PositiveIntegerField(default=1, editable=False)
    is_simulated = models.BooleanField(
        default=False, help_text=_("Judgments come from synthetic annotators.")
    )
    seed = models.CharField(max_length=32, default=new_seed, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    created_by = models.ForeignKey("annotate.User", models.SET_NULL, null=True, blank=True, related_name="+")
    archived_at = models.DateTimeField(null=True, blank=True)
    webhook_events = models.JSONField(
        default=list,
        editable=False,
        help_text="What any endpoint wants to be told: without it, telling costs nothing.",
    )

    # The pool's size; a response's position is the row of the embedding matrix, so positions are never reused.
    prompt_count = models.PositiveIntegerField(default=0, editable=False)
    response_count = models.PositiveIntegerField(default=0, editable=False)
    largest_prompt = models.PositiveIntegerField(
        default=0, editable=False, help_text="Most responses of one prompt."
    )

    # Collection
    rule = models.CharField(
        _("selection rule"),
        max_length=32,
        default="d_optimal",
        help_text=_("How the active arm chooses the next pair."),
    )
    evaluation_share = models.FloatField(
        _("evaluation share"),
        default=0.10,
        validators=SHARE,
        help_text=_("Share of comparisons used only to measure; never trained on."),
    )
    control_share = models.FloatField(
        _("control share"),
        default=0.20,
        validators=SHARE,
        help_text=_("Share of comparisons drawn at random, against which active collection is measured."),
    )
    evaluation_prompt_share = models.FloatField(
        _("evaluation prompts"),
        default=0.10,
        validators=SHARE,
        help_text=_("Share of prompts set aside for evaluation when they are imported."),
    )
    overlap = models.PositiveSmallIntegerField(
        _("overlap"),
        default=2,
        validators=[MinValueValidator(1), MaxValueValidator(50)],
        help_text=_("How many annotators judge a pair that was drawn for overlap."),
    )
    overlap_share = models.FloatField(
        _("overlap share"),
        default=0.10,
        validators=SHARE,
        help_text=_("Share of comparisons, drawn at random, that several annotators judge."),
    )
    norm_cap = models.FloatField(
        _("norm cap"),
        default=0.95,
        validators=SHARE,
        help_text=_(
            "Only pairs whose feature difference is at most this quantile of the pool's are chosen actively."
        ),
    )
    budget = models.PositiveIntegerField(
        _("budget"), null=True, blank=True, help_text=_("Stop after this many judgments. Empty: no limit.")
    )
    lease_seconds = models.PositiveIntegerField(
        _("lease"),
        default=900,
        validators=[MinValueValidator(30), MaxValueValidator(86_400)],
        help_text=_("Seconds for which a pair is kept for the annotator who is looking at it."),
    )
    allow_tie = models.BooleanField(_("allow ties"), default=True)
    allow_both_bad = models.BooleanField(_("allow “both bad”"), default=True)
    ask_strength = models.BooleanField(
        _("ask how much better"),
        default=False,
        help_text=_("Three steps on each side: slightly, better, much."),
    )
    criteria = models.JSONField(
        _("criteria"),
        default=list,
        blank=True,
        help_text=_("Names of what is also compared, one by one. Answering them stays optional."),
    )

    # People
    edit_minutes = models.PositiveIntegerField(
        _("minutes to edit"),
        default=60,
        validators=[MaxValueValidator(100_000)],
        help_text=_("How long after answering annotators may change an answer."),
    )
    annotator_limit = models.PositiveIntegerField(
        _("limit per annotator"),
        null=True,
        blank=True,
        help_text=_("Most judgments of one annotator. Empty: no limit."),
    )
    gold_share = models.FloatField(
        _("gold share"),
        default=0.0,
        validators=SHARE,
        help_text=_("Share of an annotator's pairs whose answer is known, mixed in unseen."),
    )
    weigh_by_reliability = models.BooleanField(
        _("weigh by reliability"),
        default=False,
        help_text=_("Judgments of less reliable annotators teach the reward model less."),
    )
    training_pairs = models.PositiveSmallIntegerField(
        _("training pairs"),
        default=0,
        validators=[MaxValueValidator(50)],
        help_text=_("Gold pairs with feedback before real work begins."),
    )
    training_pass = models.FloatField(
        _("training pass mark"),
        default=0.0,
        validators=SHARE,
        help_text=_("Share of the training round to answer as known before real work; 0: any."),
    )
    encoder = models.CharField(_("encoder"), max_length=200, default="all-MiniLM-L6-v2")
    encoder_options = models.JSONField(
        _("encoder options"),
        default=dict,
        blank=True,
        help_text=_("Pooling, longest text, precision, chat template, revision: those that were chosen."),
    )
    dimensions = models.PositiveIntegerField(
        _("feature dimensions"),
        default=32,
        validators=[MinValueValidator(2), MaxValueValidator(8192)],
        help_text=_("Principal components kept of the encoder's output."),
    )

    export_schedule = models.JSONField(
        _("export schedule"), default=dict, blank=True, editable=False,
        help_text="Empty, or {every, keep, arguments}; see annotate/scheduling.py.",
    )  # fmt: skip

    class Meta:
        ordering = ["name", "id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(evaluation_share__gte=0)
                & Q(control_share__gte=0)
                & Q(evaluation_share__lte=1 - F("control_share")),
                name="project_arm_shares",
            ),
            models.CheckConstraint(
                condition=Q(overlap_share__range=(0, 1))
                & Q(evaluation_prompt_share__range=(0, 1))
                & Q(overlap__gte=1),
                name="project_overlap",
            ),
            models.CheckConstraint(condition=Q(gold_share__range=(0, 1)), name="project_gold_share"),
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("dashboard", args=[self.slug])

    @property
    def active_share(self) -> float:
        return max(0.0, 1.0 - self.evaluation_share - self.control_share)

    @property
    def lease_duration(self) -> timedelta:
        return timedelta(seconds=self.lease_seconds)

    @property
    def edit_window(self) -> timedelta:
        return timedelta(minutes=self.edit_minutes)
