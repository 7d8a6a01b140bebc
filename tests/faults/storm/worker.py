"""The loops of a worker as a process: each at its period of config/schedules.py, until SIGTERM.

Every loop has a thread and so a database connection of its own, as it has a pool process of
Celery's in production. Two of these and `manage.py watcher` are what the storm runs against. There
is no broker: each wake-up is lost, so every delay is that of the periods. Where the delay itself is
measured, the argument is a period for the loop that wake-ups would start.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable

import django

LOOPS = (
    *("instances", "observe", "inventory", "summaries", "orphans", "leases", "lease_wishes"),
    *("follow", "charge", "place", "funds"),
)


def main() -> None:
    django.setup()
    from config.schedules import BEAT

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    periods: dict[str, float] = {name: BEAT[name]["schedule"] for name in LOOPS}
    if len(sys.argv) > 1:
        periods["instances"] = float(sys.argv[1])
    threads = [_thread(name, BEAT[name]["task"], periods[name], stop) for name in LOOPS]
    for thread in threads:
        thread.start()
    print("ready", flush=True)  # processes.py waits for it
    stop.wait()
    for thread in threads:
        thread.join()


def _thread(name: str, task: str, period: float, stop: threading.Event) -> threading.Thread:
    import provisioner.tasks  # noqa: F401  (registers its tasks)
    from config.celery import app

    app.loader.import_default_modules()
    return threading.Thread(
        target=_repeat, args=(app.tasks[task], period, stop), name=name, daemon=True
    )


def _repeat(task: Callable[[], None], period: float, stop: threading.Event) -> None:
    from django.db import connections

    while not stop.is_set():
        try:
            task()
        except Exception as error:  # noqa: BLE001  as in Celery: a task that failed, and a log line
            print(f"{threading.current_thread().name}: {error!r}", file=sys.stderr, flush=True)
        stop.wait(period)
    connections.close_all()


if __name__ == "__main__":
    main()
