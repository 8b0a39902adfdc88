"""Organisations, people and keys: who owns rows, and who may act."""

from typing import Any

from django.contrib.auth.models import AbstractBaseUser, BaseUserManager, PermissionsMixin
from django.db import models
from django_fsm import FSMField, transition

from billing.models.base import TenantModel, UUIDModel


class TestClock(UUIDModel):
    """A clock a user can turn: time of its organisations stands at ``now`` until it is advanced."""

    __test__ = False  # not a test class

    class Status(models.TextChoices):
        READY = "ready"
        ADVANCING = "advancing"
        FAILED = "failed"

    name = models.CharField(max_length=80)
    now = models.DateTimeField()
    status = FSMField(choices=Status.choices, default=Status.READY, protected=True)
    target = models.DateTimeField(null=True, blank=True, help_text="Where the running advance will end.")
    started_from = models.DateTimeField(null=True, blank=True)
    step_hours = models.PositiveSmallIntegerField(default=24)
    progress = models.JSONField(default=dict, blank=True, help_text="What the running or last advance did, per job.")
    error = models.TextField(blank=True)
    held_until = models.DateTimeField(
        null=True, blank=True, help_text="Wall clock; until then the process that turns the clock is taken to be alive."
    )

    @transition(status, source=[Status.READY, Status.FAILED], target=Status.ADVANCING)
    def begin(self, *, to: Any, step_hours: int) -> None:
        self.target, self.started_from, self.step_hours = to, self.now, step_hours
        self.progress, self.error = {}, ""

    @transition(status, source=Status.ADVANCING, target=Status.READY)
    def finish(self) -> None:
        self.target = None

    @transition(status, source=Status.ADVANCING, target=Status.FAILED)
    def fail(self, *, error: str) -> None:
        self.error = error

    def __str__(self) -> str:
        return f"{self.name} at {self.now:%Y-%m-%d %H:%M}"


class Organisation(UUIDModel):
    """A tenant: the seller on its invoices, and the owner of every row."""

    code = models.SlugField(max_length=40, unique=True)
    name = models.CharField(max_length=200)
    currency = models.CharField(max_length=3, help_text="Default currency (ISO 4217).")
    country = models.CharField(max_length=2)
    region = models.CharField(
        max_length=6, blank=True, help_text="State code of the seller, for example 29 for Karnataka."
    )
    time_zone = models.CharField(max_length=60, default="UTC")
    financial_year_start = models.PositiveSmallIntegerField(
        default=1, help_text="First month of the financial year, 1 to 12."
    )
    language = models.CharField(max_length=10, default="en")
    test_clock = models.ForeignKey(
        TestClock, null=True, blank=True, on_delete=models.PROTECT, related_name="organisations"
    )
    party = models.ForeignKey("billing.BillingParty", null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    settings = models.JSONField(
        default=dict, blank=True, help_text="Choices of the organisation; see docs/settings.md."
    )

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class UserManager(BaseUserManager["User"]):
    """Users are known by their e-mail address."""

    def create_user(self, email: str, password: str | None = None, **extra: Any) -> "User":
        user = self.model(email=self.normalize_email(email).lower(), **extra)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def get_by_natural_key(self, username: str | None) -> "User":
        """People write their address as they like; it is kept in small letters."""
        return self.get(email=(username or "").lower())

    def create_superuser(self, email: str, password: str | None = None, **extra: Any) -> "User":
        return self.create_user(email, password, is_staff=True, is_superuser=True, **extra)


class User(UUIDModel, AbstractBaseUser, PermissionsMixin):
    """A person who signs in. What the person may do is said by memberships, not by Django's permissions."""

    email = models.EmailField(unique=True)
    name = models.CharField(max_length=150, blank=True)
    is_active = models.BooleanField(default=True)
    is_staff = models.BooleanField(default=False, help_text="May open the console.")

    USERNAME_FIELD = "email"
    objects = UserManager()

    def __str__(self) -> str:
        return self.email


class Role(models.TextChoices):
    CLERK = "clerk"
    MANAGER = "manager"
    AUDITOR = "auditor"
    SUPPORT = "support"
    ADMIN = "admin"
    DEVELOPER = "developer"


class Membership(TenantModel):
    """A person's role in an organisation."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=20, choices=Role.choices)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["organisation", "user"], name="one_role_per_member")]

    def __str__(self) -> str:
        return f"{self.user} ({self.role})"


class ApiKey(TenantModel):
    """A key of an application. Only its hash is stored; scopes are named permissions."""

    name = models.CharField(max_length=80)
    prefix = models.CharField(max_length=16, help_text="First characters, to recognise the key.")
    key_hash = models.CharField(max_length=64, unique=True)
    scopes = models.JSONField(default=list)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"


class RefreshToken(UUIDModel):
    """One link in the chain of a sign-in. Using a link makes the next one; using it twice ends the chain."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="refresh_tokens")
    family = models.UUIDField(help_text="The sign-in this link descends from.")
    token_id = models.CharField(max_length=64, unique=True)
    expires_at = models.DateTimeField(help_text="Wall clock.")
    used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [models.Index(fields=["family"], name="refresh_family")]

    def __str__(self) -> str:
        return f"{self.user_id} {self.family}"
