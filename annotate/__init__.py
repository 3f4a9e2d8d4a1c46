"""The site: Django project and its one app. Every table, every page."""

import os

# Before NumPy is loaded: the learner's matrices are small, where a second BLAS thread waits longer than it works,
# and one thread adds in one order, which replay to the same bits relies on. torch sets its own threads.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from annotate.celery import app as celery_app

__all__ = ["celery_app"]
