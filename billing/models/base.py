"""What every table of a tenant has in common, and the one place where rows are scoped to it."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Self

from django.db import models

from billing.ids import uuid7

if TYPE_CHECKING:
    from billing.models.tenancy import Organisation


class TenantQuerySet(models.QuerySet[Any]):
    """Rows of organisations. Every API and admin page goes through ``of``."""

    def of(self, organisation: Organisation | uuid.UUID) -> Self:
        """Only the rows of ``organisation``."""
        return self.filter(organisation_id=getattr(organisation, "pk", organisation))


class UUIDModel(models.Model):
    """A row with an opaque, time-ordered id and its time of creation on the wall clock."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    recorded_at = models.DateTimeField(auto_now_add=True, help_text="When the row was written (wall clock).")

    class Meta:
        abstract = True


class TenantModel(UUIDModel):
    """A row owned by one organisation."""

    organisation = models.ForeignKey("billing.Organisation", on_delete=models.PROTECT, related_name="+")

    objects: Any = TenantQuerySet.as_manager()

    class Meta:
        abstract = True
