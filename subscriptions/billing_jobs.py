"""The billing run as the clock calls it."""

from billing.models import Organisation
from billing.services import clock_jobs
from subscriptions.services import billing_run


@clock_jobs.register(name="subscriptions.billing_run", order=10)
def run(organisation: Organisation) -> int:
    """Bill everything that is due; planned changes have their turn in between. Returns how many periods were billed."""
    return billing_run.bill_everything(organisation=organisation)
