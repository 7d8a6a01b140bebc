"""manage.py watcher: the process that applies what clusters report at once."""

from __future__ import annotations

import signal
import threading
from typing import Any

from django.core.management.base import BaseCommand

from provisioner.streams.watcher import Watcher


class Command(BaseCommand):
    help = "Watch the pods of all clusters until SIGTERM or SIGINT. Several may run."

    def handle(self, *args: Any, **options: Any) -> None:
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        Watcher().run(stop)
