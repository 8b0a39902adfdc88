"""Experiments as the clock calls them."""

from billing.models import Organisation
from billing.services import clock_jobs
from subscriptions.services.experiments import running


@clock_jobs.register(name="subscriptions.experiments", order=3)
def stop_ended(organisation: Organisation) -> int:
    """Stop the experiments whose end has come; returns how many."""
    return running.stop_ended(organisation=organisation)
