"""``python -m tests``: the whole suite on SQLite without any service, then on PostgreSQL and Redis where they answer.

With CI set, services that do not answer are a failure. Extra arguments go to pytest.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

POSTGRES = os.environ.get("TOUCHSTONE_TEST_POSTGRES", "postgres://root@127.0.0.1:5432/touchstone")
REDIS = os.environ.get("TOUCHSTONE_TEST_REDIS", "redis://127.0.0.1:6379/9")


def postgres_answers() -> bool:
    """Whether a database server takes connections there."""
    import psycopg

    try:
        psycopg.connect(POSTGRES.rsplit("/", 1)[0] + "/postgres", connect_timeout=3).close()
    except psycopg.OperationalError:
        return False
    return True


def redis_answers() -> bool:
    """Whether a Redis server answers there."""
    import redis

    try:
        return bool(redis.Redis.from_url(REDIS, socket_connect_timeout=2).ping())
    except redis.exceptions.RedisError:
        return False


def run(name: str, environment: dict[str, str], arguments: list[str]) -> int:
    """One pass of pytest; pytest's exit 5 (nothing collected) fails like any other."""
    print(f"\n=== {name} ===", flush=True)  # noqa: T201
    command = [sys.executable, "-m", "pytest", "-n", "2", "--dist", "loadfile", *arguments]
    return subprocess.call(command, env=os.environ | environment)


def main() -> int:
    """Both passes; the exit status of the first that failed."""
    arguments = sys.argv[1:]
    if not (shutil.which("chromium") or shutil.which("google-chrome")):
        print("chromium is not installed here: the browser tests will be skipped.")  # noqa: T201
    failed = run("SQLite, no services", {}, arguments)
    if not (postgres_answers() and redis_answers()):
        print("\nPostgreSQL and Redis do not both answer: their pass is left out.")  # noqa: T201
        return failed or int("CI" in os.environ)
    services = {"TOUCHSTONE_TEST_DATABASE_URL": POSTGRES, "TOUCHSTONE_TEST_BROKER_URL": REDIS}
    marks = ["-m", "not browser and not mathematics"]
    # Done above: what has no database, and what starts its own servers.
    done = [f"--ignore=tests/{name}" for name in ("learner", "faults", "test_running_as_composed.py")]
    return failed or run("PostgreSQL and Redis", services, [*marks, *done, "tests", *arguments])


if __name__ == "__main__":
    sys.exit(main())
