"""The Celery application: tasks are named by their area and take no arguments."""

import os

from celery import Celery

from config.schedules import BEAT

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.local")

app = Celery("gpuyard")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.beat_schedule = BEAT
app.autodiscover_tasks(["provisioner", "billing", "marketplace"])
