"""ASGI entry of the streams process (server-sent events: logs of running machines, word of change).

It serves no page and no Django view: those are the web process's, by WSGI.
"""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.local")
os.environ.setdefault("GPUYARD_PROCESS", "streams")

django.setup()

from marketplace.rentals.changes import versions  # noqa: E402  (needs the models)
from provisioner.streams.app import Streams  # noqa: E402

application = Streams(changes=versions)
