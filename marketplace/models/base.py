"""What every public object carries: id, created_at, version."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from kernel.clock import AppNow
from kernel.ids import new_id, public


class PublicObject(models.Model):
    """An object with a prefixed public id; ``kind`` names it in kernel.ids.PREFIXES."""

    kind: ClassVar[str]

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    created_at = models.DateTimeField(db_default=AppNow(), editable=False)
    version = models.PositiveIntegerField(default=1)

    class Meta:
        abstract = True

    @property
    def public_id(self) -> str:
        return public(self.kind, self.id)
