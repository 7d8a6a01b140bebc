"""WSGI entry: pages and API are synchronous views (under ASGI they cost 3-9 times the CPU)."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.local")
os.environ.setdefault("GPUYARD_PROCESS", "web")

application = get_wsgi_application()
