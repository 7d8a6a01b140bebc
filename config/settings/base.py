"""Settings common to every place. local, test and production only add the environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import environ
from csp.constants import NONE, SELF

from config.settings.env import Environment
from kernel import grants
from kernel.addresses import Network
from kernel.money import MICRO
from kernel.sealed import parse_key

BASE_DIR = Path(__file__).resolve().parents[2]


def database(url: str, *, pool: bool = False) -> dict[str, Any]:
    """Django's database dict. A pool serves the web process only: a worker keeps one connection."""
    config: dict[str, Any] = dict(environ.Env.db_url_config(url))
    config["ENGINE"] = "django.db.backends.postgresql"
    config["ATOMIC_REQUESTS"] = False
    config["CONN_HEALTH_CHECKS"] = not pool
    config["CONN_MAX_AGE"] = 0 if pool else None
    options = config.setdefault("OPTIONS", {})
    if pool:
        # min 2 keeps a quiet site fast; above 16 per process PostgreSQL's own limit is near.
        options["pool"] = {"min_size": 2, "max_size": 16, "timeout": 5}
    return config


INSTALLED_APPS = [
    "config.apps.PlatformConfig",
    "kernel.apps.KernelConfig",
    "provisioner.apps.ProvisionerConfig",
    "billing.apps.BillingConfig",
    "marketplace.apps.MarketplaceConfig",
    "config.records.RecordsConfig",  # Django admin behind our own sign-in
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "django.contrib.postgres",  # exclusion constraints
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_htmx",
    "pgtrigger",
    "axes",
    "csp",
]

MIDDLEWARE = [
    "marketplace.http.middleware.RequestIdMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "marketplace.http.middleware.CompressPagesMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "marketplace.http.language.LanguageMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "marketplace.http.looking.LookMiddleware",
    "marketplace.http.readonly.ReadOnlyMiddleware",
    "axes.middleware.AxesMiddleware",
]

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
ASGI_APPLICATION = "config.asgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_USER_MODEL = "marketplace.User"
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
    "marketplace.http.authentication.StaffMayLook",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 10},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "/sign-in"
LOGIN_REDIRECT_URL = "/"

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
            ],
            "libraries": {"portal": "marketplace.http.portal.tags"},
        },
    }
]

LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("zh-hans", "简体中文")]
LOCALE_PATHS = [BASE_DIR / "locale"]
# The reader's choice lives in their browser: a stranger has one too, and signing out keeps it.
LANGUAGE_COOKIE_NAME = "language"
LANGUAGE_COOKIE_AGE = 365 * 24 * 3600
LANGUAGE_COOKIE_HTTPONLY = True
TIME_ZONE = "UTC"
USE_I18N = True
USE_TZ = True

STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
WHITENOISE_USE_FINDERS = True  # served straight from the source tree: no collect step to forget

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "img-src": [SELF, "data:"],
        "object-src": [NONE],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
        "form-action": [SELF],
    }
}
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
# Ten wrong passwords lock a name from one address for a quarter of an hour: more would let a
# short password be guessed, fewer would lock out people with two keyboards.
AXES_FAILURE_LIMIT = 10
AXES_COOLOFF_TIME = 0.25
AXES_LOCKOUT_PARAMETERS = "marketplace.http.reauth.lockout_parameters"
# Whatever a form calls a code must not stand in the table of wrong tries.
AXES_SENSITIVE_PARAMETERS = ["username", "ip_address", "code"]
# Both forms and the API call it so; by default axes would look for the model's field name.
AXES_USERNAME_FORM_FIELD = "username"
AXES_USERNAME_CALLABLE = "marketplace.http.authentication.attempted_name"
AXES_VERBOSE = False
AXES_LOCKOUT_CALLABLE = "marketplace.http.problems.locked_out"

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "marketplace.http.authentication.ApiKeyAuthentication",
        "marketplace.http.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "marketplace.http.problems.exception_handler",
    "UNAUTHENTICATED_USER": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "gpuyard",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
}
# A rent request is a few kilobytes; above this a body is a mistake or an attack (413).
DATA_UPLOAD_MAX_MEMORY_SIZE = 256 * 1024

CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_SERIALIZER = "json"
CELERY_TASK_ACKS_LATE = False  # a message is a hint; the row is the job, so redelivery adds nothing
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_DB_REUSE_MAX = 1000  # measured: otherwise each task opens a new database connection
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
# Redis transport: without the two restore settings redelivery after a kill takes 100 s more.
_BROKER_OPTIONS: dict[str, Any] = {
    "visibility_timeout": 60,
    "unacked_restore_interval": 1,
    "unacked_restore_throttle": 1,
}
# A dead broker may cost a request 200 ms, not its answer. The worker blocks on its socket for
# longer than that by design, so the limit is for everyone else.
# max_retries: kombu would sleep and connect again for 6 s although the task is sent without retry.
_PRODUCER_OPTIONS = {
    **_BROKER_OPTIONS,
    "socket_timeout": 0.2,
    "socket_connect_timeout": 0.2,
    "max_retries": 0,
}

TERMS_VERSION = "2026-11-01"

# Set by apply() below; named here so that a type checker knows them.
CELERY_BROKER_URL: str
GPUYARD_SEALING_KEY: bytes
GPUYARD_GRANT_KEY: bytes
GPUYARD_BASE_URL: str
GPUYARD_SSH_GATEWAY: tuple[str, int] | None
GPUYARD_AGENT_DOOR: tuple[str, int] | None
GPUYARD_PORTS_URL: tuple[str, str, int] | None
GPUYARD_TCP_PORTS: tuple[str, int, int] | None
GPUYARD_TOOLS_IMAGE: str
GPUYARD_REPORT_URL: str
GPUYARD_BENCH_URL: str
GPUYARD_PROBES: bool
GPUYARD_BENCHMARK_WAIT: int
GPUYARD_FEE_BPS: int
GPUYARD_FEE_NOTICE_DAYS: int
GPUYARD_SELLER_NAME: str
GPUYARD_SELLER_ADDRESS: str
GPUYARD_SELLER_TAX_ID: str
GPUYARD_TAX_POINT: str
GPUYARD_TAX_CODE: str
GPUYARD_ROLES: dict[str, str]
GPUYARD_SECOND_PERSON_ABOVE: int
GPUYARD_STAFF_SECOND_FACTOR: bool
GPUYARD_SELF_REFUND_LIMIT: int
GPUYARD_MATURITY_DAYS: int
GPUYARD_PAYOUT_APPROVAL_MICRO: int
GPUYARD_REGISTRY_NETWORKS: tuple[Network, ...]
GPUYARD_WEBHOOK_NETWORKS: tuple[Network, ...]
GPUYARD_WEBHOOK_CA_FILE: str
GPUYARD_TRUSTED_PROXIES: tuple[Network, ...]
STRIPE_API_KEY: str
STRIPE_API_BASE: str
STRIPE_WEBHOOK_SECRET: str
CELERY_BROKER_TRANSPORT_OPTIONS: dict[str, Any]


def apply(env: Environment) -> dict[str, Any]:
    """The settings that come from the environment, for the modules local, test, production."""
    consumer = env.process == "worker"
    return {
        "SECRET_KEY": env.secret_key,
        "DATABASES": {"default": database(env.database_url, pool=env.process == "web")},
        "CELERY_BROKER_URL": env.broker_url,
        "CELERY_BROKER_TRANSPORT_OPTIONS": _BROKER_OPTIONS if consumer else _PRODUCER_OPTIONS,
        "ALLOWED_HOSTS": env.allowed_hosts,
        "GPUYARD_SEALING_KEY": parse_key(env.sealing_key),
        "GPUYARD_GRANT_KEY": grants.derive(env.secret_key),
        "GPUYARD_BASE_URL": env.base_url,
        "GPUYARD_SSH_GATEWAY": env.ssh_gateway,
        "GPUYARD_AGENT_DOOR": env.agent_door,
        "GPUYARD_PORTS_URL": env.ports_url,
        "GPUYARD_TCP_PORTS": env.tcp_ports,
        "GPUYARD_TOOLS_IMAGE": env.tools_image,
        "GPUYARD_REPORT_URL": env.report_url,
        "GPUYARD_BENCH_URL": env.bench_url,
        "GPUYARD_PROBES": env.probes,
        "GPUYARD_BENCHMARK_WAIT": env.benchmark_wait,
        "GPUYARD_FEE_BPS": env.fee_bps,
        "GPUYARD_FEE_NOTICE_DAYS": env.fee_notice_days,
        "GPUYARD_SELLER_NAME": env.seller_name,
        "GPUYARD_SELLER_ADDRESS": env.seller_address,
        "GPUYARD_SELLER_TAX_ID": env.seller_tax_id,
        "GPUYARD_TAX_POINT": env.tax_point,
        "GPUYARD_TAX_CODE": env.tax_code,
        "GPUYARD_ROLES": env.roles,
        "GPUYARD_SECOND_PERSON_ABOVE": env.second_person_above,
        "GPUYARD_STAFF_SECOND_FACTOR": env.staff_second_factor,
        "GPUYARD_SELF_REFUND_LIMIT": env.self_refund_limit,
        "GPUYARD_MATURITY_DAYS": env.maturity_days,
        "GPUYARD_PAYOUT_APPROVAL_MICRO": env.payout_approval_usd * MICRO,
        "GPUYARD_REGISTRY_NETWORKS": env.registry_networks,
        "GPUYARD_WEBHOOK_NETWORKS": env.webhook_networks,
        "GPUYARD_WEBHOOK_CA_FILE": env.webhook_ca_file,
        "GPUYARD_TRUSTED_PROXIES": env.trusted_proxies,
        "STRIPE_API_KEY": env.stripe_api_key,
        "STRIPE_API_BASE": env.stripe_api_base,
        "STRIPE_WEBHOOK_SECRET": env.stripe_webhook_secret,
        "DEFAULT_FROM_EMAIL": env.from_email,
        "CSRF_TRUSTED_ORIGINS": [env.base_url],
        "LOGGING": logging_config(env.log_format),
        **environ.Env.email_url_config(env.email_url),
    }


def logging_config(log_format: str) -> dict[str, Any]:
    """structlog through the standard library: JSON lines, or readable ones for a developer."""
    import structlog

    renderer: Any = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=False)
    )
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            *shared,
            structlog.processors.format_exc_info,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "structured": {
                "()": structlog.stdlib.ProcessorFormatter,
                "processors": [
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    renderer,
                ],
                "foreign_pre_chain": shared,
            }
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "structured"}},
        "root": {"handlers": ["stderr"], "level": "INFO"},
        "loggers": {"django.request": {"level": "ERROR"}, "axes": {"level": "WARNING"}},
    }
