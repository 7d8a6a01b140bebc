"""A stack on one machine over plain HTTP: the demo, development, campaigns.

The keys below protect nothing but data that a developer made up; production refuses to start
without its own.
"""

from config.settings.base import *  # noqa: F403
from config.settings.base import apply
from config.settings.env import read

LOCAL_DEFAULTS = {
    "DATABASE_URL": "postgresql://postgres@127.0.0.1:5432/gpuyard",
    "BROKER_URL": "redis://127.0.0.1:6379/0",
    "GPUYARD_SECRET_KEY": "local-only-secret-key-that-protects-nothing",
    "GPUYARD_SEALING_KEY": "bG9jYWwtb25seS1zZWFsaW5nLWtleS0zMi1ieXRlcyE=",
    "GPUYARD_BASE_URL": "http://127.0.0.1:8000",
    # Simulated nodes pull nothing; a stack with a real one is told what it was given.
    "GPUYARD_TOOLS_IMAGE": f"registry.example.com/gpuyard/podtools@sha256:{'0' * 64}",
    "GPUYARD_ALLOWED_HOSTS": "127.0.0.1,localhost,testserver",
    "GPUYARD_EMAIL_URL": "consolemail://",
    "GPUYARD_FROM_EMAIL": "gpuyard <no-reply@example.com>",
    "STRIPE_API_KEY": "sk_test_local",
    "STRIPE_WEBHOOK_SECRET": "whsec_local",
}

globals().update(apply(read(defaults=LOCAL_DEFAULTS)))

DEBUG = False
