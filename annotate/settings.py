"""Settings come from the environment only; with nothing set: SQLite and a broker in the data folder.

The names are those that operators know (DATABASE_URL, SECRET_KEY, ...); every secret can also be given as a
file by NAME_FILE. PRODUCTION=1 turns the safe choices into requirements: see ``annotate/checks.py``.
"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path
from typing import Any

import environ
import environ.fileaware_mapping
from csp.constants import NONE, SELF
from kombu import Exchange, Queue

from annotate import logs

BASE_DIR = Path(__file__).resolve().parent.parent


class WithFiles(environ.fileaware_mapping.FileAwareMapping):  # type: ignore[misc]
    """NAME is what the file of NAME_FILE holds, without the line end that editors leave there."""

    def __getitem__(self, key: str) -> str:
        value = str(super().__getitem__(key))
        return value.strip() if self.env.get(f"{key}_FILE") else value


class Env(environ.Env):  # type: ignore[misc]
    ENVIRON = WithFiles(cache=False)


env = Env()
if (BASE_DIR / ".env").is_file():
    env.read_env(BASE_DIR / ".env")

VERSION = "0.1.0"
PRODUCTION = env.bool("PRODUCTION", default=False)
DEBUG = env.bool("DEBUG", default=False)
DATA = Path(env("TOUCHSTONE_DATA", default=str(BASE_DIR / "data"))).expanduser().resolve()
# Folders of models by name; only what is in here can be named as a local encoder.
MODELS = Path(env("TOUCHSTONE_MODELS", default=str(DATA / "models"))).expanduser().resolve()
if hub_token := env("HF_TOKEN", default=""):
    os.environ["HF_TOKEN"] = hub_token  # where the hub's library looks, also if it came from a file

# Megabytes that the pairs of one project may take in a learn worker (half of the machine); beyond: in shards.
MEMORY_MB = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**20
SCORES_MEMORY_MB = env.float("SCORES_MEMORY_MB", default=MEMORY_MB / 2)


def make_data_folder() -> None:
    """Create the data folder, or say in one sentence why that cannot be."""
    try:
        (DATA / "broker" / "control").mkdir(parents=True, exist_ok=True)
        (DATA / "results").mkdir(exist_ok=True)
        (DATA / "files" / "incoming").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        sys.exit(
            f"The data folder {DATA} cannot be written ({error.strerror}). "
            "Set TOUCHSTONE_DATA to a folder that this user may write."
        )


def local_secret_key() -> str:
    """The key kept in the data folder, readable by its owner alone, made on first use (never in production)."""
    path = DATA / "secret_key"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text().strip()
    except OSError as error:
        sys.exit(
            f"The data folder {DATA} cannot be written ({error.strerror}). Set TOUCHSTONE_DATA to another."
        )
    with os.fdopen(descriptor, "w") as file:
        file.write(key := secrets.token_urlsafe(50))
    return key


make_data_folder()
SECRET_KEY = env("SECRET_KEY", default="") or ("" if PRODUCTION else local_secret_key())
if PRODUCTION and not SECRET_KEY:
    sys.exit(
        "PRODUCTION is set but SECRET_KEY is not. Set SECRET_KEY or SECRET_KEY_FILE to 50 random characters."
    )
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])
ALLOW_SIGNUP = env.bool("ALLOW_SIGNUP", default=False)

INSTALLED_APPS = [
    "annotate",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "django_htmx",
    "csp",
]
MIDDLEWARE = [
    "annotate.observing.Observe",
    "django.middleware.security.SecurityMiddleware",
    "annotate.api.problems.SayProblems",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "annotate.access.SayTouchstoneErrors",
]
ROOT_URLCONF = "annotate.urls"
WSGI_APPLICATION = "annotate.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "django.template.context_processors.i18n",
            ],
        },
    }
]

# --- Database -----------------------------------------------------------------------------------------------
DATABASES: dict[str, dict[str, Any]] = {
    "default": env.db("DATABASE_URL", default=f"sqlite:///{DATA / 'touchstone.sqlite3'}")
}
OF_THE_URL: dict[str, Any] = DATABASES["default"].get("OPTIONS", {})  # ?sslmode=require&connect_timeout=3
if "sqlite" in DATABASES["default"]["ENGINE"]:
    DATABASES["default"]["ENGINE"] = "annotate.sqlite"
    # IMMEDIATE: a transaction that will write waits for its turn at the start, instead of failing in the middle.
    # NORMAL: annotate.sqlite waits for the disk itself, so that an acknowledged judgment survives a power cut.
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 30,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-16384;",
        **OF_THE_URL,
    }
    DATABASES["default"]["CONN_MAX_AGE"] = None  # opening one costs as much as half an answer
    CELERY_DB_REUSE_MAX = 500  # tasks, of which a crowd of annotators asks for dozens a second
else:
    DATABASES["default"]["OPTIONS"] = {
        "connect_timeout": 5,
        **OF_THE_URL,
        "pool": {"min_size": 1, "max_size": env.int("DATABASE_POOL", default=16), "timeout": 15},
    }
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- People -------------------------------------------------------------------------------------------------
AUTH_USER_MODEL = "annotate.User"
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "home"
ACCOUNT_ADAPTER = "annotate.access.AccountAdapter"
ACCOUNT_LOGIN_METHODS = {"username", "email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "username*", "password1*", "password2*"]
ACCOUNT_EMAIL_VERIFICATION = "optional"
ACCOUNT_LOGOUT_ON_GET = False
ACCOUNT_SESSION_REMEMBER = True
ACCOUNT_RATE_LIMITS = {"login_failed": "10/5m/ip,5/5m/key", "login": "60/m/ip"}
EMAIL_CONFIG = env.email_url("EMAIL_URL", default="consolemail://")
vars().update(EMAIL_CONFIG)

# --- Safety -------------------------------------------------------------------------------------------------
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "manifest-src": [SELF],
        "worker-src": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
        "base-uri": [NONE],
    }
}
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CONTENT_TYPE_NOSNIFF = True
X_FRAME_OPTIONS = "DENY"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = PRODUCTION
SESSION_ENGINE = "django.contrib.sessions.backends.db"  # signed out is signed out, in every process
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if PRODUCTION else None
# So many proxies, the last of them ours, add to X-Forwarded-For; limits per address believe them and nobody else.
ALLAUTH_TRUSTED_PROXY_COUNT = env.int("TRUSTED_PROXIES", default=0)
SECURE_SSL_REDIRECT = env.bool("SECURE_SSL_REDIRECT", default=PRODUCTION)
SECURE_REDIRECT_EXEMPT = [r"^health/", r"^metrics$"]
SECURE_HSTS_SECONDS = env.int("SECURE_HSTS_SECONDS", default=3600 if PRODUCTION else 0)
DATA_UPLOAD_MAX_MEMORY_SIZE = 2_500_000
DATA_UPLOAD_MAX_NUMBER_FIELDS = 500
# Private networks that outgoing requests may reach all the same ("10.2.0.0/16"); none unless somebody says so.
OUTBOUND_NETWORKS = env.list("OUTBOUND_NETWORKS", default=[])
GENERATOR_HOSTS = env.list("GENERATOR_HOSTS", default=[])  # endpoints of language models that may be asked
GENERATOR_SECONDS = env.float("GENERATOR_SECONDS", default=60.0)
SEALING_KEY = env("SEALING_KEY", default="")  # encrypts generators' keys; empty: derived from SECRET_KEY
API_LARGEST_FILE = env.int("API_LARGEST_FILE", default=1 << 30)
API_REQUESTS_A_MINUTE = env.int("API_REQUESTS_A_MINUTE", default=1_200)  # of one token
ANSWERS_A_MINUTE = env.int("ANSWERS_A_MINUTE", default=120)  # of one person on the page; 0: no limit
API_FAILURES_A_MINUTE = env.int("API_FAILURES_A_MINUTE", default=60)  # from one address, without a token

# --- Files, language, time ----------------------------------------------------------------------------------
STATIC_URL = "static/"
STATIC_ROOT = Path(env("STATIC_ROOT", default=str(BASE_DIR / "staticfiles")))
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": DATA / "files"},
    },
    "staticfiles": {
        "BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"
        if PRODUCTION
        else "django.contrib.staticfiles.storage.StaticFilesStorage"
    },
}
FILE_UPLOAD_TEMP_DIR = str(DATA / "files" / "incoming")  # the storage's disk: a file moves by renaming
UPLOAD_LIMIT = env.int("UPLOAD_LIMIT", default=1 << 30)  # bytes of one uploaded file
JOB_FILE_DAYS = env.int("JOB_FILE_DAYS", default=30)  # how long what a job wrote can be downloaded
WHITENOISE_USE_FINDERS = not PRODUCTION
LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("de", "Deutsch"), ("ar", "العربية")]
LOCALE_PATHS = [BASE_DIR / "annotate" / "locale"]
USE_I18N = True
USE_TZ = True
TIME_ZONE = "UTC"
CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "OPTIONS": {"MAX_ENTRIES": 5000}}
}
if REDIS_URL := env("REDIS_URL", default=""):
    CACHES["default"] = {"BACKEND": "annotate.caching.ForgivingRedisCache", "LOCATION": REDIS_URL}

# --- Celery: a doorbell, never the queue --------------------------------------------------------------------
CELERY_BROKER_URL = env("CELERY_BROKER_URL", default="filesystem://")
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_BROKER_TRANSPORT_OPTIONS: dict[str, Any] = {}
if CELERY_BROKER_URL.startswith("filesystem"):
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        "data_folder_in": str(DATA / "broker"),
        "data_folder_out": str(DATA / "broker"),
        "control_folder": str(DATA / "broker" / "control"),
        "polling_interval": 0.1,
    }
elif CELERY_BROKER_URL.startswith("redis"):
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        "socket_timeout": 5,
        "socket_connect_timeout": 2,
        "visibility_timeout": 3600,
    }
CELERY_TASK_SERIALIZER = CELERY_RESULT_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_IGNORE_RESULT = True  # but for the members of a chord, whose results are numbers
CELERY_RESULT_BACKEND = env("CELERY_RESULT_BACKEND", default="") or (
    CELERY_BROKER_URL if CELERY_BROKER_URL.startswith("redis") else f"file://{DATA / 'results'}"
)
CELERY_RESULT_EXPIRES = 3600
# How long an acknowledgement may take, in milliseconds, for RabbitMQ (from 3.12), whose own half an hour would end the
# consumer of a worker that is alive: a job may take a day, embedding longer. Other brokers pass it over.
CELERY_TASK_QUEUES = [
    Queue(name, Exchange(name), name, consumer_arguments={"x-consumer-timeout": 2**31 - 1})
    for name in ("learn", "embed", "jobs", "score")
]
CELERY_TASK_DEFAULT_QUEUE = "jobs"
CELERY_TASK_ROUTES = {
    "learner.tasks.absorb": {"queue": "learn"},
    "learner.tasks.embed": {"queue": "embed"},
    "learner.tasks.embed_shards": {"queue": "embed"},
    "learner.tasks.score_shard": {"queue": "embed"},
    "learner.tasks.draw_from_shards": {"queue": "learn"},
}
# Seconds. A prefork pool ends what runs longer, a pool of threads is ended by its heartbeat (annotate/alive.py).
# Embedding has no limit as a whole: a shard that does not move for half an hour is given to another worker.
CELERY_TASK_ANNOTATIONS = {
    "learner.tasks.absorb": {"time_limit": 1800},
    "learner.tasks.sweep": {"time_limit": 300},
    "learner.tasks.run_job": {"time_limit": 86_400},
}
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_TIMEZONE = TIME_ZONE

LOG_LEVEL = env("LOG_LEVEL", default="INFO")
LOGGING = logs.configuration(
    LOG_LEVEL, as_json=env("LOG_FORMAT", default="json" if PRODUCTION else "plain") == "json"
)
LOG_REQUESTS = env.bool("LOG_REQUESTS", default=PRODUCTION)
METRICS_TOKEN = env("METRICS_TOKEN", default="")  # without one, only this machine may read /metrics
if SENTRY_DSN := env("SENTRY_DSN", default=""):
    logs.report_errors(SENTRY_DSN)
MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"
SILENCED_SYSTEM_CHECKS: list[str] = []
