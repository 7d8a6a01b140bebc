"""ASGI entry of the streams process (server-sent events: logs of running machines).

It serves no page and no Django view: those are the web process's, by WSGI.
"""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.local")
os.environ.setdefault("GPUYARD_PROCESS", "streams")

django.setup()

from provisioner.streams.app import Streams  # noqa: E402  (needs the models)

application = Streams()
