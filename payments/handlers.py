"""What this app does when it hears an event or the clock."""

from billing.models import Customer, Event, Organisation
from billing.services import choices, clock_jobs, outbox
from payments.services import collection, exceptions, fetching, matching, methods, waking

choices.register("reconciliation", exceptions.check_choices)


@clock_jobs.register(name="payments.collect_due", order=30)
def collect_due(organisation: Organisation) -> int:
    """Ask for unknown outcomes, close ended pages, try what is due."""
    return collection.collect_due(organisation=organisation)


@clock_jobs.register(name="payments.fetch_settlements", order=60)
def fetch_settlements(organisation: Organisation) -> int:
    """Ask the gateways for payouts; how many are new or changed."""
    report = fetching.fetch_settlements(organisation=organisation)
    return report.new + report.changed


@clock_jobs.register(name="payments.match", order=70)
def match(organisation: Organisation) -> int:
    """Match payouts with the books and the bank; how much was matched."""
    return matching.run_matching(organisation=organisation).total


@clock_jobs.register(name="payments.expiry_notices", order=80)
def expiry_notices(organisation: Organisation) -> int:
    """Expire methods that are over and tell about those that end soon."""
    return methods.run_expiry(organisation=organisation)


@outbox.handles("payment_method.added", consumer="payments.wake", atomic=False)
def try_again_with_new_method(event: Event) -> None:
    """What failed or waits for the customer is tried with the new method."""
    customer = Customer.objects.get(pk=event.payload["customer_id"])
    if collection.wake_payments_of(customer=customer) and not waking.time_is_turning(event.organisation_id):
        waking.send(collection.DUE_TASK, str(event.organisation_id))
