"""What other programs are given: tokens for the API, and the answers that a repeated request gets again."""

from __future__ import annotations

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class Verb(models.TextChoices):
    """What a token may do. A route names one of these."""

    READ = "read", _("Read projects, data, jobs and what was learned")
    ANNOTATE = "annotate", _("Take pairs and answer them")
    WRITE = "write", _("Add prompts and responses, start and cancel jobs")
    DEPLOY = "deploy", _("Serve: requests, feedback, scores")
    EXPORT = "export", _("Take data away")


class Token(models.Model):
    """A program's way in, for its owner, with no more than the owner may do; only its digest is kept."""

    user = models.ForeignKey("annotate.User", models.CASCADE, related_name="tokens")
    name = models.CharField(max_length=100)
    start = models.CharField(max_length=12, help_text="Its first characters, to tell it from others.")
    digest = models.CharField(max_length=64, unique=True, editable=False)
    verbs = models.JSONField(default=list)
    every_project = models.BooleanField(default=False, help_text="Every project that the owner is in.")
    projects = models.ManyToManyField("annotate.Project", related_name="tokens", blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True, blank=True)
    used_at = models.DateTimeField(null=True, blank=True, help_text="Last use, to the minute.")

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.name} ({self.start}…)"


class KeptAnswer(models.Model):
    """The answer to a request that carried an Idempotency-Key; without a status it is still being worked on."""

    token = models.ForeignKey("annotate.Token", models.CASCADE, related_name="+")
    key = models.CharField(max_length=200)
    fingerprint = models.CharField(max_length=64, help_text="Of method, address and body.")
    status = models.PositiveSmallIntegerField(null=True)
    body = models.JSONField(null=True)
    created_at = models.DateTimeField(default=timezone.now, db_index=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["token", "key"], name="kept_answer_once")]

    def __str__(self) -> str:
        return self.key
