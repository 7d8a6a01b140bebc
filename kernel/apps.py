from django.apps import AppConfig


class KernelConfig(AppConfig):
    """Owns no table; its one migration creates the SQL clock that all areas read."""

    name = "kernel"
    label = "kernel"
