"""Names the app, and registers what a production start refuses."""

from __future__ import annotations

from django.apps import AppConfig


class AnnotateConfig(AppConfig):
    name = "annotate"

    def ready(self) -> None:
        from annotate import checks  # noqa: F401 - importing registers them
