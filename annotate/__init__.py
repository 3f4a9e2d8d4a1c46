"""The site: Django project and its one app. Every table, every page."""

from annotate.celery import app as celery_app

__all__ = ["celery_app"]
