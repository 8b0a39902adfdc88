"""Entitlements as the clock calls them: exceptions that are over, thresholds that were reached."""

from billing import clock
from billing.models import Organisation
from billing.services import clock_jobs
from subscriptions.services.entitlements import alerts, grants


@clock_jobs.register(name="subscriptions.entitlements", order=45)
def watch(organisation: Organisation) -> int:
    """Note what has expired and tell of thresholds. Returns how much of both."""
    at = clock.now(organisation)
    return grants.expire_due(organisation=organisation, at=at) + alerts.sweep(organisation=organisation, at=at)
