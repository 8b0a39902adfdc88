"""Plan migrations as the clock calls them."""

from billing.models import Organisation
from billing.services import clock_jobs
from subscriptions.services import plan_migrations


@clock_jobs.register(name="subscriptions.plan_migrations", order=4)
def carry_out(organisation: Organisation) -> int:
    """Carry out the migrations whose time has come; returns how many."""
    due = plan_migrations.due_migrations(organisation)
    for migration_id in due:
        plan_migrations.carry_out(migration_id=migration_id)
    return len(due)
