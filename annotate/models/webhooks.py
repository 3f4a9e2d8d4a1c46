"""Other programs that are told what happens: their endpoints, and the rows that are the queue of what they are sent."""

from __future__ import annotations

import secrets

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class Event(models.TextChoices):
    JUDGMENT_RECORDED = "judgment.recorded", _("A judgment was recorded or changed")
    ESTIMATOR_ADVANCED = "estimator.advanced", _("The reward model learned from judgments")
    VERDICT_CHANGED = "verdict.changed", _("The verdict on label efficiency changed")
    JOB_FINISHED = "job.finished", _("A job ended")
    BUDGET_REACHED = "budget.reached", _("The budget of judgments was reached")


def new_salt() -> str:
    return secrets.token_hex(16)


def new_message() -> str:
    return "msg_" + secrets.token_urlsafe(18)


class Endpoint(models.Model):
    """Where to send what; its secret is made of the installation's key and this salt, and stored nowhere."""

    project = models.ForeignKey("annotate.Project", models.CASCADE, related_name="endpoints")
    url = models.CharField(max_length=2000)
    events = models.JSONField(default=list)
    salt = models.CharField(max_length=32, default=new_salt, editable=False)
    is_on = models.BooleanField(default=True)
    failing_since = models.DateTimeField(null=True, blank=True)
    off_reason = models.CharField(max_length=200, blank=True, help_text="Why it was turned off by itself.")
    created_by = models.ForeignKey("annotate.User", models.SET_NULL, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return self.url[:80]


class Delivery(models.Model):
    """One message to one endpoint: the body as it is sent, and how the last attempt went."""

    class State(models.TextChoices):
        WAITING = "waiting", _("Waiting")
        SENDING = "sending", _("Sending")
        SENT = "sent", _("Sent")
        FAILED = "failed", _("Given up")

    endpoint = models.ForeignKey("annotate.Endpoint", models.CASCADE, related_name="deliveries")
    message = models.CharField(
        max_length=40, default=new_message, help_text="The webhook-id, the same at every attempt."
    )
    event = models.CharField(max_length=40)
    once = models.CharField(max_length=80, null=True, blank=True, help_text="What is told once only.")  # noqa: DJ001
    body = models.TextField()
    state = models.CharField(max_length=16, choices=State.choices, default=State.WAITING)
    attempts = models.PositiveSmallIntegerField(default=0)
    next_at = models.DateTimeField(default=timezone.now)
    status = models.PositiveSmallIntegerField(null=True, blank=True, help_text="Of the last answer.")
    answer = models.TextField(blank=True, help_text="The beginning of the last answer, or what went wrong.")
    seconds = models.FloatField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now, db_index=True)
    tried_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["endpoint", "once"], name="delivery_once")]
        indexes = [
            models.Index(
                fields=["next_at"], condition=Q(state__in=["waiting", "sending"]), name="delivery_due"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.event} {self.message}"
