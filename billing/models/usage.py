"""Meters and usage: what is counted, the immutable measurements, what was said about them later, and what was billed."""

import uuid

from django.db import models

from billing.models.base import TenantModel, TenantQuerySet

NO_SUBSCRIPTION = uuid.UUID(int=0)
"""Stands where a measurement names no subscription: a key column cannot be empty."""


class Meter(TenantModel):
    """What is counted, and how events become a quantity. What a unit costs is said with dates (``MeterCost``)."""

    class Aggregation(models.TextChoices):
        COUNT = "count", "number of events"
        SUM = "sum", "sum"
        MAX = "max", "maximum"
        UNIQUE = "unique", "unique values (add and remove)"
        LATEST = "latest", "latest value"
        WEIGHTED = "weighted", "sum weighted by time"

    class Rounding(models.TextChoices):
        NONE = "", "none"
        ROUND = "round", "half up"
        CEIL = "ceil", "up"
        FLOOR = "floor", "down"

    code = models.SlugField(max_length=60)
    name = models.CharField(max_length=120)
    aggregation = models.CharField(max_length=10, choices=Aggregation.choices)
    unit = models.CharField(max_length=40, blank=True, help_text="Word on the invoice: GB, call, seat.")
    recurring = models.BooleanField(
        default=False, help_text="The state at the end of a window is the state at the start of the next one."
    )
    expression = models.CharField(
        max_length=500, blank=True, help_text="Computes an event's quantity from its properties: ceil(bytes / 1024)."
    )
    unique_property = models.CharField(max_length=60, blank=True, help_text="The property whose values are counted.")
    rounding = models.CharField(max_length=5, blank=True, choices=Rounding.choices)
    rounding_decimals = models.SmallIntegerField(default=0, help_text="Decimals that stay; -2 rounds to hundreds.")
    properties = models.JSONField(
        default=list, blank=True, help_text="Declared properties: name, required, kind (text or number). Empty: any."
    )
    service = models.CharField(max_length=60, blank=True, help_text="Service or product line that its revenue is of.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["organisation", "code"], name="meter_code")]

    def __str__(self) -> str:
        return self.code


class MeterCost(TenantModel):
    """What a unit of a meter costs the house from a day on, until a later one says otherwise."""

    meter = models.ForeignKey(Meter, on_delete=models.PROTECT, related_name="costs")
    effective_on = models.DateField(help_text="First day it counts on.")
    unit_cost = models.DecimalField(
        max_digits=24,
        decimal_places=12,
        null=True,
        blank=True,
        help_text="In the organisation's currency; empty: not known from then on.",
    )

    class Meta:
        constraints = [models.UniqueConstraint(fields=["meter", "effective_on"], name="meter_cost_once")]


class UsageEvent(models.Model):
    """One measurement. ``event_id`` is the sender's key: the same id counts once (``UsageKey``).

    Partitioned by month of occurrence in UTC; a month without a partition of its own rests in the default one.
    """

    id = models.BigAutoField(primary_key=True)
    organisation = models.ForeignKey("billing.Organisation", on_delete=models.PROTECT, related_name="+")
    event_id = models.CharField(max_length=100)
    meter = models.ForeignKey(Meter, on_delete=models.PROTECT, related_name="+")
    customer = models.ForeignKey("billing.Customer", on_delete=models.PROTECT, related_name="+")
    subscription_ref = models.UUIDField(db_default=NO_SUBSCRIPTION, help_text="The subscription it names; zero: none.")
    quantity = models.DecimalField(max_digits=30, decimal_places=12, default=1)
    amount = models.DecimalField(
        max_digits=30,
        decimal_places=12,
        null=True,
        blank=True,
        help_text="Price the event carries, for dynamic charges.",
    )
    subject = models.CharField(max_length=200, db_default="", blank=True, help_text="What a unique count counts.")
    properties = models.JSONField(default=dict, blank=True)
    occurred_at = models.DateTimeField()
    recorded_at = models.DateTimeField(auto_now_add=True)

    objects = TenantQuerySet.as_manager()

    class Meta:
        indexes = [models.Index(fields=["customer", "meter", "occurred_at"], name="usage_window", include=["quantity"])]

    def __str__(self) -> str:
        return self.event_id


class UsageKey(models.Model):
    """That an event id is taken, in whichever month it occurred: what makes the same id count once."""

    key = models.UUIDField(primary_key=True, help_text="First 128 bits of SHA-256 over organisation and event id.")
    event_ref = models.BigIntegerField()
    occurred_at = models.DateTimeField()

    def __str__(self) -> str:
        return str(self.key)


class UsageHour(models.Model):
    """Measurements of one hour (UTC) added up. Kept by triggers of the database, so that it always equals the raw sum."""

    pk = models.CompositePrimaryKey("customer_id", "meter_id", "hour", "subscription_ref")
    customer = models.ForeignKey(
        "billing.Customer", on_delete=models.PROTECT, related_name="+", db_constraint=False, db_index=False
    )
    meter = models.ForeignKey(Meter, on_delete=models.PROTECT, related_name="+", db_constraint=False, db_index=False)
    hour = models.DateTimeField()
    subscription_ref = models.UUIDField()
    events = models.BigIntegerField()
    total = models.DecimalField(max_digits=38, decimal_places=12)
    greatest = models.DecimalField(max_digits=30, decimal_places=12)
    amount = models.DecimalField(max_digits=38, decimal_places=12)
    changes = models.BigIntegerField(help_text="Events and revisions that made it what it is; only grows.")

    def __str__(self) -> str:
        return f"{self.hour:%Y-%m-%d %H}"


class UsageRevision(TenantModel):
    """A later word on a measurement: another quantity, or that it does not count. Who and why; the measurement stays."""

    class Kind(models.TextChoices):
        REPLACE = "replace"
        VOID = "void"

    event_ref = models.BigIntegerField(help_text="Id of the measurement.")
    event_id = models.CharField(max_length=100)
    meter = models.ForeignKey(Meter, on_delete=models.PROTECT, related_name="+")
    customer = models.ForeignKey("billing.Customer", on_delete=models.PROTECT, related_name="+")
    subscription_ref = models.UUIDField(default=NO_SUBSCRIPTION)
    occurred_at = models.DateTimeField(help_text="Of the measurement.")
    kind = models.CharField(max_length=10, choices=Kind.choices)
    quantity = models.DecimalField(max_digits=30, decimal_places=12, null=True, blank=True, help_text="The new one.")
    number = models.PositiveIntegerField(help_text="Counts the revisions of one measurement from 1.")
    is_current = models.BooleanField(default=True)
    reason = models.CharField(max_length=300)
    made_by = models.CharField(max_length=200)
    made_at = models.DateTimeField(help_text="On the organisation's clock.")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["event_ref", "number"], name="usage_revision_number"),
            models.UniqueConstraint(
                fields=["event_ref"], condition=models.Q(is_current=True), name="usage_revision_current"
            ),
        ]
        indexes = [models.Index(fields=["customer", "meter", "occurred_at"], name="usage_revision_window")]

    def __str__(self) -> str:
        return f"{self.event_id} {self.kind}"


class UsageNaming(TenantModel):
    """From when a customer has several subscriptions on a meter: events name one; what names none is the first one's."""

    customer = models.ForeignKey("billing.Customer", on_delete=models.PROTECT, related_name="+")
    meter = models.ForeignKey(Meter, on_delete=models.PROTECT, related_name="+")
    first_ref = models.UUIDField(help_text="The subscription that measurements without a name belong to.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["customer", "meter"], name="usage_naming_once")]


class UsageWindow(TenantModel):
    """What the billing run billed of one subscription, meter and time, so that what changes later can be billed too."""

    customer = models.ForeignKey("billing.Customer", on_delete=models.PROTECT, related_name="+")
    meter = models.ForeignKey(Meter, on_delete=models.PROTECT, related_name="+")
    subscription_ref = models.UUIDField()
    price_ref = models.UUIDField(help_text="The plan version it was priced by.")
    component = models.CharField(max_length=60, help_text="The component of that version.")
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    parts = models.JSONField(default=list, help_text="What is billed by now: quantity, events and amount of each part.")
    changes = models.BigIntegerField(default=0, help_text="Changes of the window's usage that the billed figure knows.")
    least = models.JSONField(
        default=dict,
        help_text="What minimums held the usage against: own, the component's; all, the version's, and what was charged beside.",
    )
    owed = models.DecimalField(
        max_digits=19, decimal_places=4, default=0, help_text="Credit that found no room on an invoice yet."
    )
    owed_minimum = models.DecimalField(
        max_digits=19,
        decimal_places=4,
        default=0,
        db_default=0,
        help_text="How much of it is of the version's minimum.",
    )
    billed_at = models.DateTimeField(help_text="On the organisation's clock.")
    closed_at = models.DateTimeField(null=True, blank=True, help_text="From then on late usage is refused.")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["subscription_ref", "component", "starts_at"], name="usage_window_once"),
            models.CheckConstraint(
                condition=models.Q(owed_minimum__gte=0, owed_minimum__lte=models.F("owed")), name="usage_window_owed"
            ),
        ]
        indexes = [
            models.Index(fields=["customer", "meter", "ends_at"], name="usage_window_lookup"),
            models.Index(fields=["subscription_ref"], condition=models.Q(closed_at=None), name="usage_window_open"),
        ]


class UsageAdjustment(TenantModel):
    """A billed window whose usage changed: what it was, what it is, and the invoice that carries the difference."""

    window = models.ForeignKey(UsageWindow, on_delete=models.PROTECT, related_name="adjustments")
    number = models.PositiveIntegerField(help_text="Counts the adjustments of one window from 1.")
    before = models.JSONField()
    after = models.JSONField()
    changes = models.BigIntegerField()
    amount = models.DecimalField(max_digits=19, decimal_places=4, help_text="Net difference; below zero is a credit.")
    currency = models.CharField(max_length=3)
    invoice_ref = models.UUIDField(null=True, blank=True)
    made_at = models.DateTimeField(help_text="On the organisation's clock.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["window", "number"], name="usage_adjustment_once")]


class ParkedUsage(TenantModel):
    """An event that could not be taken in yet: tried again when what it names appears."""

    class Status(models.TextChoices):
        WAITING = "waiting"
        ACCEPTED = "accepted"
        DISMISSED = "dismissed"

    event_id = models.CharField(max_length=100)
    payload = models.JSONField()
    field = models.CharField(max_length=60)
    reason = models.CharField(max_length=300)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.WAITING)
    tries = models.PositiveIntegerField(default=0)
    parked_at = models.DateTimeField(help_text="On the organisation's clock.")
    settled_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name_plural = "parked usage"
        constraints = [
            models.UniqueConstraint(
                fields=["organisation", "event_id"], condition=models.Q(status="waiting"), name="parked_usage_once"
            )
        ]
        indexes = [models.Index(fields=["organisation", "-id"], name="parked_usage_page")]

    def __str__(self) -> str:
        return self.event_id


class UsageImport(TenantModel):
    """A file of measurements and how far it has been read. Killed anywhere, it goes on after the last whole chunk."""

    class Status(models.TextChoices):
        WAITING = "waiting"
        RUNNING = "running"
        DONE = "done"
        FAILED = "failed"

    file_name = models.CharField(max_length=200)
    content = models.BinaryField(help_text="The file, UTF-8.")
    dry_run = models.BooleanField(default=False)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.WAITING)
    size = models.PositiveIntegerField(help_text="Bytes.")
    position = models.PositiveIntegerField(default=0, help_text="Bytes read.")
    lines = models.PositiveIntegerField(default=0, help_text="Lines read, with the heading.")
    accepted = models.PositiveIntegerField(default=0)
    duplicates = models.PositiveIntegerField(default=0)
    parked = models.PositiveIntegerField(default=0)
    rejected = models.PositiveIntegerField(default=0)
    failure = models.CharField(max_length=300, blank=True)
    made_by = models.CharField(max_length=200)
    made_at = models.DateTimeField(help_text="On the organisation's clock.")
    heartbeat_at = models.DateTimeField(null=True, blank=True, help_text="Wall clock.")
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [models.Index(fields=["organisation", "-id"], name="usage_import_page")]

    def __str__(self) -> str:
        return self.file_name


class UsageImportError(models.Model):
    """A line that was not taken in, and why."""

    usage_import = models.ForeignKey(UsageImport, on_delete=models.CASCADE, related_name="errors")
    line = models.PositiveIntegerField()
    event_id = models.CharField(max_length=100, blank=True)
    field = models.CharField(max_length=60)
    reason = models.CharField(max_length=300)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["usage_import", "line"], name="usage_import_error_once")]

    def __str__(self) -> str:
        return f"line {self.line}"
