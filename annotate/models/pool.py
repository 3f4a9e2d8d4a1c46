"""What is compared: prompts (contexts) and their responses (actions)."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import Q
from django.utils import timezone


class Prompt(models.Model):
    """A context x: one text, or a conversation of messages that ends with the user's."""

    project = models.ForeignKey("annotate.Project", models.CASCADE, related_name="prompts")
    position = models.PositiveIntegerField()
    external_id = models.CharField(max_length=200, blank=True)
    text = models.TextField(help_text="The whole prompt as text; of a conversation, its messages joined.")
    messages = models.JSONField(
        null=True, blank=True, help_text='A conversation: [{"role", "content"}, ...].'
    )
    digest = models.CharField(max_length=64, editable=False)
    is_evaluation = models.BooleanField(default=False)
    is_deployment = models.BooleanField(
        default=False,
        help_text="Brought by a user of the deployment stage: annotators are not asked about it.",
    )
    tags = models.JSONField(default=list, blank=True)
    response_count = models.PositiveIntegerField(default=0, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["project", "position"]
        constraints = [
            models.UniqueConstraint(fields=["project", "position"], name="prompt_position_unique"),
            models.UniqueConstraint(fields=["project", "digest"], name="prompt_content_unique"),
        ]
        indexes = [models.Index(fields=["project", "external_id"], name="prompt_external_id")]

    def __str__(self) -> str:
        return self.text[:80]

    @property
    def conversation(self) -> list[dict[str, Any]]:
        """The prompt as messages, whether it was given as one text or as a conversation."""
        return self.messages or [{"role": "user", "content": self.text}]


class Response(models.Model):
    """An action a; its position is the row of the project's embedding matrix."""

    project = models.ForeignKey("annotate.Project", models.CASCADE, related_name="responses")
    prompt = models.ForeignKey("annotate.Prompt", models.CASCADE, related_name="responses")
    position = models.PositiveIntegerField()
    external_id = models.CharField(max_length=200, blank=True)
    text = models.TextField()
    source = models.CharField(max_length=200, blank=True)
    digest = models.CharField(max_length=64, editable=False)
    utility = models.FloatField(
        null=True, blank=True, help_text="Known worth, where there is one: for simulation."
    )
    metadata = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["project", "position"]
        constraints = [
            models.UniqueConstraint(fields=["project", "position"], name="response_position_unique"),
            models.UniqueConstraint(fields=["prompt", "digest"], name="response_content_unique"),
            models.CheckConstraint(condition=~Q(text=""), name="response_not_empty"),
        ]
        indexes = [models.Index(fields=["project", "source"], name="response_source")]

    def __str__(self) -> str:
        return self.text[:80]
