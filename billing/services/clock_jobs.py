"""What runs when time passes: each app registers its jobs; beat and the test clock run the same ones."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import structlog

from billing.context import correlated
from billing.models import Organisation

log = structlog.get_logger(__name__)
Job = Callable[[Organisation], int]


@dataclass(frozen=True, kw_only=True)
class ClockJob:
    """A job that does what is due for one organisation at its present time and returns how much it did."""

    name: str
    order: int
    run: Job


class JobsFailed(Exception):
    """Jobs that failed while the others ran: which, of whom, and why."""

    SHOWN = 20

    def __init__(self, failed: Sequence[str]) -> None:
        more = f"; and {len(failed) - self.SHOWN} more" if len(failed) > self.SHOWN else ""
        super().__init__("; ".join(failed[: self.SHOWN]) + more)


_jobs: dict[str, ClockJob] = {}


def register(*, name: str, order: int) -> Callable[[Job], Job]:
    """Register a job under a unique name. Lower orders run first within one tick."""

    def decorate(run: Job) -> Job:
        _jobs[name] = ClockJob(name=name, order=order, run=run)
        return run

    return decorate


def jobs() -> list[ClockJob]:
    """All jobs in the order in which a tick runs them."""
    return sorted(_jobs.values(), key=lambda job: (job.order, job.name))


def run(name: str, organisation: Organisation) -> int:
    """Run one job for one organisation."""
    return _jobs[name].run(organisation)


def run_each(organisations: Iterable[Organisation], *names: str) -> int:
    """Run several jobs for each organisation; returns how much they did.

    One that fails is logged and comes again with the schedule; it holds up none of the others. When all are through it raises
    ``JobsFailed``, so that the task is shown among those that failed.
    """
    done, failed = 0, []
    for organisation in organisations:
        for name in names:
            with correlated():
                try:
                    done += run(name, organisation)
                except Exception as exc:
                    log.exception("clock_job.failed", job=name, organisation=organisation.code)
                    failed.append(f"{name} of {organisation.code}: {type(exc).__name__}: {exc}")
    if failed:
        raise JobsFailed(failed)
    return done
