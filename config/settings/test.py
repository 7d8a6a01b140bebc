"""Tests: the local settings with quick password hashing and mail kept in memory."""

from config.settings.local import *  # noqa: F403

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"

# Most tests know of no probes: their clusters sell as soon as they passed.
GPUYARD_PROBES = True
GPUYARD_BENCHMARK_WAIT = 0
