"""The deployment stage: texts to be scored, users' requests, and the generators that answer them."""

from __future__ import annotations

import secrets
import uuid

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from annotate.models.pool import Response
from annotate.models.project import SHARE


def new_link() -> str:
    """The unguessable part of the arena's public address."""
    return secrets.token_urlsafe(24)


class Deployment(models.Model):
    """How a project answers its users, and what it asks of them."""

    project = models.OneToOneField("annotate.Project", models.CASCADE, related_name="deployment")
    is_on = models.BooleanField(
        _("answer users"), default=False, help_text=_("Requests by the API and the arena are answered.")
    )
    explores = models.BooleanField(
        _("ask for comparisons"),
        default=True,
        help_text=_("Off: every user is shown the single best response, and nothing is learned from them."),
    )
    optimism = models.FloatField(
        _("optimism"),
        default=0.5,
        validators=[MinValueValidator(0.0), MaxValueValidator(100.0)],
        help_text=_(
            "How many standard deviations a rival is given credit for: β of Eq. 7. 0 shows no rival."
        ),
    )
    baseline_share = models.FloatField(
        _("share of the baselines"),
        default=0.10,
        validators=SHARE,
        help_text=_("Requests answered by the simpler rules, drawn by lot, that ours is measured against."),
    )
    reveals_sources = models.BooleanField(
        _("say the sources afterwards"),
        default=True,
        help_text=_("After the choice the arena says which source each answer came from."),
    )
    is_public = models.BooleanField(
        _("open to anyone with the link"),
        default=False,
        help_text=_("The arena can be used without an account by whoever has its address."),
    )
    link = models.CharField(max_length=64, unique=True, default=new_link, editable=False)

    def __str__(self) -> str:
        return f"deployment of project {self.project_id}"


class Generator(models.Model):
    """A source of candidate responses: a model on a worker, or an endpoint that speaks OpenAI's protocol."""

    class Kind(models.TextChoices):
        ENDPOINT = "endpoint", _("OpenAI-compatible endpoint")
        LOCAL = "local", _("Model on a worker")

    project = models.ForeignKey("annotate.Project", models.CASCADE, related_name="generators")
    source = models.CharField(
        _("source"), max_length=100, help_text=_("The name its responses carry in every report.")
    )
    kind = models.CharField(_("kind"), max_length=16, choices=Kind.choices, default=Kind.ENDPOINT)
    model = models.CharField(_("model"), max_length=200)
    url = models.URLField(
        _("address"), max_length=500, blank=True, help_text=_("Of the API, such as https://example.org/v1.")
    )
    sealed_key = models.TextField(blank=True, editable=False, help_text="Encrypted; never shown again.")
    instructions = models.TextField(_("instructions"), blank=True, max_length=20_000)
    samples = models.PositiveSmallIntegerField(
        _("samples"), default=1, validators=[MinValueValidator(1), MaxValueValidator(16)]
    )
    temperature = models.FloatField(
        _("temperature"), default=0.8, validators=[MinValueValidator(0.0), MaxValueValidator(2.0)]
    )
    longest = models.PositiveIntegerField(
        _("longest answer, tokens"), default=512, validators=[MinValueValidator(1), MaxValueValidator(8192)]
    )
    is_on = models.BooleanField(_("in use"), default=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["source", "id"]
        constraints = [
            models.UniqueConstraint(fields=["project", "source"], name="generator_source_once"),
            models.CheckConstraint(condition=Q(samples__range=(1, 16)), name="generator_samples"),
        ]

    def __str__(self) -> str:
        return self.source


class Scoring(models.Model):
    """Texts whose rewards somebody asked for. Waiting rows are the scoring worker's queue."""

    class Kind(models.TextChoices):
        SCORE = "score", "score"
        BEST_OF = "best_of", "best of K"

    class State(models.TextChoices):
        WAITING = "waiting", _("Waiting")
        DONE = "done", _("Done")
        FAILED = "failed", _("Failed")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    project = models.ForeignKey("annotate.Project", models.CASCADE, related_name="scorings")
    kind = models.CharField(max_length=16, choices=Kind.choices)
    items = models.JSONField(help_text='[{"prompt", "response"}, ...]')
    state = models.CharField(max_length=16, choices=State.choices, default=State.WAITING)
    result = models.JSONField(default=dict, blank=True)
    problem = models.CharField(max_length=32, blank=True, help_text="Code of what kept it from being scored.")
    message = models.CharField(max_length=500, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["created_at"], condition=Q(state="waiting"), name="scoring_waiting"),
            models.Index(fields=["finished_at"], name="scoring_finished"),
        ]

    def __str__(self) -> str:
        return f"scoring {self.pk}"


class DeploymentRequest(models.Model):
    """A prompt that a user brought, its candidates, which of them were shown, and why."""

    class State(models.TextChoices):
        GENERATING = "generating", _("Generating")
        WAITING = "waiting", _("Waiting")
        ANSWERED = "answered", _("Answered")
        FAILED = "failed", _("Failed")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    project = models.ForeignKey("annotate.Project", models.CASCADE, related_name="requests")
    user = models.ForeignKey("annotate.User", models.SET_NULL, null=True, blank=True, related_name="+")
    visitor = models.CharField(max_length=64, blank=True, help_text="A session without an account, hashed.")
    parent = models.ForeignKey("self", models.SET_NULL, null=True, blank=True, related_name="following")
    messages = models.JSONField(help_text='The conversation so far: [{"role", "content"}, ...].')
    prompt = models.ForeignKey("annotate.Prompt", models.CASCADE, null=True, related_name="requests")
    state = models.CharField(max_length=16, choices=State.choices, default=State.WAITING)
    problem = models.CharField(max_length=32, blank=True)
    message = models.CharField(max_length=500, blank=True)

    rule = models.CharField(max_length=32, default="optimistic")
    probability = models.FloatField(default=1.0, help_text="With which the rule was drawn.")
    candidates = models.JSONField(default=list, help_text="Ids, as given; the same text is the same.")
    rewards = models.JSONField(default=list, help_text="[reward, low, high] of each different candidate.")
    left = models.ForeignKey("annotate.Response", models.SET_NULL, null=True, related_name="+")
    right = models.ForeignKey("annotate.Response", models.SET_NULL, null=True, related_name="+")
    comparison = models.OneToOneField(
        "annotate.Comparison", models.SET_NULL, null=True, related_name="request"
    )
    estimator_step = models.BigIntegerField(null=True, blank=True)
    measured = models.JSONField(
        default=dict,
        blank=True,
        help_text='Under the newest estimator: {"step", "reward": [value, low, high], "regret": [...], "width"}',
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    answered_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(probability__gt=0) & Q(probability__lte=1), name="request_probability"
            ),
        ]
        indexes = [
            models.Index(fields=["created_at"], condition=Q(state="waiting"), name="request_waiting"),
            models.Index(fields=["created_at"], condition=Q(state="generating"), name="request_generating"),
            models.Index(fields=["project", "created_at"], name="request_created"),
        ]

    def __str__(self) -> str:
        return f"request {self.pk}"

    @property
    def is_pair(self) -> bool:
        return self.right_id is not None

    @property
    def shown(self) -> list[Response]:
        """What the user sees, left first."""
        return [one for one in (self.left, self.right) if one is not None]

    @property
    def is_swapped(self) -> bool:
        """Whether the comparison's second response is on the left."""
        return self.comparison is not None and self.comparison.second_id == self.left_id


class Generation(models.Model):
    """One answer being written for a request; its text grows while it streams."""

    class State(models.TextChoices):
        WAITING = "waiting", _("Waiting")
        RUNNING = "running", _("Running")
        DONE = "done", _("Done")
        FAILED = "failed", _("Failed")

    request = models.ForeignKey("annotate.DeploymentRequest", models.CASCADE, related_name="generations")
    generator = models.ForeignKey(
        "annotate.Generator", models.SET_NULL, null=True, related_name="generations"
    )
    source = models.CharField(max_length=100)
    place = models.PositiveSmallIntegerField()
    state = models.CharField(max_length=16, choices=State.choices, default=State.WAITING)
    text = models.TextField(blank=True)
    message = models.CharField(max_length=500, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    heartbeat_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["place"]
        constraints = [models.UniqueConstraint(fields=["request", "place"], name="generation_place_once")]
        indexes = [models.Index(fields=["state"], condition=Q(state="waiting"), name="generation_waiting")]

    def __str__(self) -> str:
        return f"generation {self.place} of {self.request_id}"


class PolicyReport(models.Model):
    """What every policy is worth under the production estimator, and where comparisons would help most."""

    project = models.OneToOneField("annotate.Project", models.CASCADE, related_name="policy_report")
    step = models.BigIntegerField()
    judgments = models.PositiveIntegerField()
    beta = models.FloatField()
    policies = models.JSONField(
        default=list,
        help_text='[{"kind", "name", "reward", "width", "pessimistic", "low", "high", "prompts"}]',
    )
    gaps = models.JSONField(
        default=dict, blank=True, help_text="Differences between sources, with intervals."
    )
    widest = models.JSONField(default=list, blank=True, help_text="The prompts known least.")
    served = models.JSONField(
        default=list, blank=True, help_text="What users were shown, by rule, under the same estimator."
    )
    created_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return f"policies of project {self.project_id} at step {self.step}"
