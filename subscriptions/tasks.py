"""Celery tasks of subscriptions: thin, they call services."""

from uuid import UUID

from celery import shared_task

from billing.models import Organisation
from billing.selectors import organisations_on_real_time
from billing.services import clock_jobs
from subscriptions.models import BillingRun
from subscriptions.services import billing_run as runs
from subscriptions.services import plan_migrations as moving
from subscriptions.services.billing_run_records import waiting_runs


@shared_task
def billing_run() -> int:
    """Start a run for each organisation that lives on real time and has something due; take up what was left lying."""
    started = 0
    for organisation in organisations_on_real_time():
        for _ in range(runs.workers_wanted(organisation=organisation)):
            bill_organisation.delay(str(organisation.pk))
            started += 1
    for run_id in waiting_runs():
        work_on_run.delay(str(run_id))
        started += 1
    return started


@shared_task
def bill_organisation(organisation_id: str) -> int:
    """Bill what is due for one organisation; several of these share the work."""
    return clock_jobs.run("subscriptions.billing_run", _organisation(organisation_id))


@shared_task
def work_on_run(run_id: str) -> int:
    """Do a run that a person asked for, after the plan migrations that are due."""
    run = BillingRun.objects.select_related("organisation").get(pk=UUID(run_id))
    moving.settle_due(organisation=run.organisation)
    return runs.work_on(run_id=run.pk).billed


@shared_task
def after_billing() -> int:
    """What is invoiced beside the billing run, for each organisation that lives on real time."""
    organisations = list(organisations_on_real_time())
    for organisation in organisations:
        after_billing_of.delay(str(organisation.pk))
    return len(organisations)


@shared_task
def after_billing_of(organisation_id: str) -> int:
    """Usage that passed a threshold, drafts whose grace is over, late usage of what has ended, for one organisation."""
    jobs = ("subscriptions.usage_thresholds", "subscriptions.late_usage", "subscriptions.finalize_drafts")
    return clock_jobs.run_each([_organisation(organisation_id)], *jobs)


@shared_task
def dunning() -> int:
    """Take the dunning stages that are due, for each organisation that lives on real time."""
    organisations = list(organisations_on_real_time())
    for organisation in organisations:
        dun_organisation.delay(str(organisation.pk))
    return len(organisations)


@shared_task
def dun_organisation(organisation_id: str) -> int:
    """Take the dunning stages that are due for one organisation."""
    return clock_jobs.run("subscriptions.dunning", _organisation(organisation_id))


@shared_task
def apply_changes() -> int:
    """Do what was planned and is due, and announce trial ends, for each organisation that lives on real time."""
    organisations = list(organisations_on_real_time())
    for organisation in organisations:
        apply_changes_of.delay(str(organisation.pk))
    return len(organisations)


@shared_task
def apply_changes_of(organisation_id: str) -> int:
    """Do what was planned and is due for one organisation, and announce trial ends."""
    jobs = ("subscriptions.trial_notices", "subscriptions.apply_changes")
    return clock_jobs.run_each([_organisation(organisation_id)], *jobs)


@shared_task
def entitlements() -> int:
    """Note exceptions that are over and tell of thresholds, for each organisation that lives on real time."""
    organisations = list(organisations_on_real_time())
    for organisation in organisations:
        watch_entitlements_of.delay(str(organisation.pk))
    return len(organisations)


@shared_task
def watch_entitlements_of(organisation_id: str) -> int:
    """Note exceptions that are over and tell of thresholds for one organisation."""
    return clock_jobs.run("subscriptions.entitlements", _organisation(organisation_id))


@shared_task
def plan_migrations() -> int:
    """Carry out the plan migrations whose time has come, and take up those whose worker died."""
    due = moving.due_migrations()
    for migration_id in due:
        carry_out_plan_migration.delay(str(migration_id))
    return len(due)


@shared_task
def carry_out_plan_migration(migration_id: str) -> int:
    """Move the subscribers that one migration has chosen."""
    return moving.carry_out(migration_id=UUID(migration_id)).moved_count


@shared_task
def experiments() -> int:
    """Stop the experiments whose end has come, of organisations that live on real time."""
    return clock_jobs.run_each(organisations_on_real_time(), "subscriptions.experiments")


def _organisation(organisation_id: str) -> Organisation:
    found: Organisation = Organisation.objects.get(pk=UUID(organisation_id))
    return found
