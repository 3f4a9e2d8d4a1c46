"""Loaded before Django's settings (pytest -p tests.environment): tests never touch the data folder of a person.

With TOUCHSTONE_TEST_DATABASE_URL set the suite runs on that database (PostgreSQL), else on SQLite.
"""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

os.environ["TOUCHSTONE_DATA"] = tempfile.mkdtemp(prefix="touchstone-test-")
atexit.register(shutil.rmtree, os.environ["TOUCHSTONE_DATA"], ignore_errors=True)
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["API_FAILURES_A_MINUTE"] = "1000000"  # all tests of a process come from one address
os.environ["ANSWERS_A_MINUTE"] = "0"  # tests answer without reading
for name in ("DATABASE_URL", "PRODUCTION", "DEBUG", "SECRET_KEY", "ALLOW_SIGNUP", "REDIS_URL"):
    os.environ.pop(name, None)
os.environ["DATABASE_URL"] = os.environ.get(
    "TOUCHSTONE_TEST_DATABASE_URL", f"sqlite:///{Path(os.environ['TOUCHSTONE_DATA']) / 'tests.sqlite3'}"
)
os.environ["CELERY_BROKER_URL"] = os.environ.get("TOUCHSTONE_TEST_BROKER_URL", "memory://")
# Playwright's loop makes Django think that it runs in async code; this is for the test process only.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
