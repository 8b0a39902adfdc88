"""Turning a test clock: step by step, everything runs that would have run.

``advance`` accepts the wish and wakes a worker; ``turn`` does the steps. Each step is noted before and after, so that
a worker that dies in the middle is followed by another one that repeats the unfinished step: jobs do what is due at
the organisation's time, hence a repetition does only what is left.
"""

import contextlib
import logging
import math
import threading
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from celery import current_app
from django.db import connection, models, transaction

from billing import clock as house_clock
from billing.clock import wall_now
from billing.context import Actor, correlated
from billing.errors import Conflict, InvalidInput
from billing.models import Organisation, TestClock
from billing.services import audit, clock_jobs, outbox

TASK = "billing.tasks.turn_test_clock"
LEASE = timedelta(seconds=20)
MAX_STEPS = 4000
MAX_STEP_HOURS = 24 * 31

logger = logging.getLogger(__name__)


class ClockIsAdvancing(Conflict):
    code = "test_clock_advancing"
    message = "The test clock is being advanced to {target}; wait until it is ready."


class NotForward(InvalidInput):
    code = "test_clock_not_forward"
    message = "A test clock moves forward only; it stands at {now}."


class TooManySteps(InvalidInput):
    code = "test_clock_too_far"
    message = "This takes {steps} steps; at most {limit} are done at once. Take longer steps or an earlier time."


@transaction.atomic
def advance(*, clock_id: uuid.UUID, to: datetime, step_hours: int = 24, actor: Actor) -> TestClock:
    """Begin to advance the clock to ``to`` in steps of ``step_hours``; a worker does the rest.

    Raises ``ClockIsAdvancing``, ``NotForward`` or ``TooManySteps``. A failed advance goes on where it stopped.
    """
    clock = TestClock.objects.select_for_update().get(pk=clock_id)
    if clock.status == TestClock.Status.ADVANCING:
        raise ClockIsAdvancing(target=clock.target.isoformat() if clock.target else "")
    unfinished = clock.status == TestClock.Status.FAILED and clock.progress.get("at") != clock.now.isoformat()
    if to < clock.now or (to == clock.now and not unfinished):
        raise NotForward(now=clock.now.isoformat(), field="to")
    if not 1 <= step_hours <= MAX_STEP_HOURS:
        raise InvalidInput(f"A step takes 1 to {MAX_STEP_HOURS} hours.", field="step_hours")
    steps = math.ceil((to - clock.now) / timedelta(hours=step_hours)) + unfinished
    if steps > MAX_STEPS:
        raise TooManySteps(steps=steps, limit=MAX_STEPS, field="to")
    clock.begin(to=to, step_hours=step_hours)
    clock.progress = {
        "at": "" if unfinished else clock.now.isoformat(),
        "steps_done": 0,
        "steps_total": steps,
        "jobs": {},
    }
    clock.held_until = None
    clock.save()
    for organisation in clock.organisations.all():
        audit.record(
            actor=actor,
            action="test_clock.advanced",
            target=clock,
            before={"now": clock.now.isoformat()},
            after={"now": to.isoformat()},
            organisation_id=organisation.pk,
        )
    transaction.on_commit(lambda: wake(clock_id), robust=True)
    return clock


def wake(clock_id: uuid.UUID) -> None:
    """Tell a worker to turn the clock. Losing the message loses nothing: ``abandoned`` finds it."""
    try:
        current_app.send_task(TASK, args=[str(clock_id)], retry=False, ignore_result=True)
    except Exception:
        logger.warning("The broker did not take the wake-up call of a test clock; the sweeper will.", exc_info=True)


def abandoned() -> list[uuid.UUID]:
    """Clocks that should be turning while no living process holds them."""
    free = models.Q(held_until=None) | models.Q(held_until__lt=wall_now())
    return list(TestClock.objects.filter(free, status=TestClock.Status.ADVANCING).values_list("pk", flat=True))


def turn(clock_id: uuid.UUID) -> TestClock:
    """Do all steps of a begun advance, unless another process does; a failing job stops the clock and is noted."""
    if not _hold(clock_id):
        return TestClock.objects.get(pk=clock_id)
    with _heartbeat(clock_id), outbox.quiet(), correlated():
        clock = TestClock.objects.get(pk=clock_id)
        organisations = list(clock.organisations.order_by("pk"))
        try:
            for organisation in organisations:
                outbox.hurry(organisation.pk)  # what failed before this advance does not wait either
            while _next_step(clock):
                for organisation in organisations:
                    _live(clock, organisation)
                clock.progress["at"] = clock.now.isoformat()
                clock.progress["steps_done"] += 1
        except Exception as exc:
            logger.exception("A test clock stopped at %s", clock.now)
            return _end(clock, error=f"{type(exc).__name__}: {exc}")
        return _end(clock)


def _next_step(clock: TestClock) -> bool:
    """Move the clock by a step, or stay to repeat one that was not finished; False at the end."""
    if clock.progress.get("at") == clock.now.isoformat():
        if clock.target is None or clock.now >= clock.target:
            return False
        clock.now = min(clock.now + timedelta(hours=clock.step_hours), clock.target)
    clock.save(update_fields=["now", "progress"])
    return True


def _live(clock: TestClock, organisation: Organisation) -> None:
    """Everything that is due for one organisation at the clock's time, and what follows from it."""
    organisation.test_clock = clock
    done: dict[str, Any] = clock.progress["jobs"]
    with house_clock.standing([organisation.pk], clock.now):
        _drain(organisation)
        for job in clock_jobs.jobs():
            try:
                count = job.run(organisation)
            except Exception as exc:
                raise JobFailed(f"{job.name} for {organisation.code}: {type(exc).__name__}: {exc}") from exc
            if count:
                done[job.name] = done.get(job.name, 0) + count
                _drain(organisation)


class JobFailed(Exception):
    """A job raised while the clock was turned."""


def _drain(organisation: Organisation) -> None:
    """Until nothing is left to hand over: what fails has all its attempts now, then it rests as a dead letter."""
    while outbox.dispatch(organisation.pk, limit=5000, wait=True):
        while outbox.hurry(organisation.pk):
            outbox.dispatch(organisation.pk, limit=5000, wait=True)


def _hold(clock_id: uuid.UUID) -> bool:
    free = models.Q(held_until=None) | models.Q(held_until__lt=wall_now())
    turning = TestClock.objects.filter(free, pk=clock_id, status=TestClock.Status.ADVANCING)
    return bool(turning.update(held_until=wall_now() + LEASE))


@contextlib.contextmanager
def _heartbeat(clock_id: uuid.UUID) -> Iterator[None]:
    """Hold the clock as long as this process lives: whoever finds it let go takes over."""
    over = threading.Event()
    beating = threading.Thread(target=_beat, args=(clock_id, over), daemon=True)
    beating.start()
    try:
        yield
    finally:
        over.set()
        beating.join()


def _beat(clock_id: uuid.UUID, over: threading.Event) -> None:
    try:
        while not over.wait(LEASE.total_seconds() / 4):
            TestClock.objects.filter(pk=clock_id).update(held_until=wall_now() + LEASE)
    finally:
        connection.close()


@transaction.atomic
def _end(clock: TestClock, *, error: str = "") -> TestClock:
    ended = TestClock.objects.select_for_update().get(pk=clock.pk)
    if ended.status != TestClock.Status.ADVANCING:
        return ended
    ended.now, ended.progress, ended.held_until = clock.now, clock.progress, None
    if error:
        ended.fail(error=error[:2000])
    else:
        ended.finish()
    ended.save()
    return ended
