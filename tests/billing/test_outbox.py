"""The outbox: every consumer has every event once, in order per aggregate, whatever fails or dies in between."""

import threading
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction

from billing.clock import wall_now
from billing.models import AuditRecord, Customer, Event, EventHandling, Organisation
from billing.services import customers, outbox
from billing.services.outbox import owing, waking
from billing.services.outbox.publishing import Fact

Listening = Callable[..., Any]
Make = Callable[..., Organisation]


def publish(organisation: Organisation, *kinds: str, aggregate: uuid.UUID | None = None) -> list[Event]:
    facts = [Fact(type=kind, aggregate_type="test.thing", aggregate_id=aggregate or uuid.uuid4()) for kind in kinds]
    return outbox.publish_many(organisation_id=organisation.pk, facts=facts)


def drain(organisation: Organisation) -> int:
    done = 0
    while progress := outbox.dispatch(organisation.pk):
        done += progress
    return done


def make_due() -> None:
    EventHandling.objects.exclude(next_attempt_at=None).update(next_attempt_at=wall_now() - timedelta(seconds=1))


def states(consumer: str) -> list[str]:
    return list(EventHandling.objects.filter(consumer=consumer).order_by("event_id").values_list("status", flat=True))


def test_each_consumer_has_each_event_once(organisation: Organisation, listening: Listening) -> None:
    heard: list[tuple[str, str]] = []
    listening("a", "b", consumer="one")(lambda event: heard.append(("one", event.type)))
    listening("a", consumer="two")(lambda event: heard.append(("two", event.type)))
    publish(organisation, "a", "b", "nobody.listens")

    assert drain(organisation) == 3
    assert drain(organisation) == 0

    assert heard == [("one", "a"), ("one", "b"), ("two", "a")]
    assert EventHandling.objects.filter(status="done").count() == 3
    assert not Event.objects.filter(dispatched_at=None).exists()


def test_a_failed_handler_leaves_nothing_and_is_tried_again(organisation: Organisation, listening: Listening) -> None:
    tries: list[int] = []

    @listening("a", consumer="shaky")
    def shaky(event: Event) -> None:
        customers.create_customer(organisation=organisation, external_id=f"c-{len(tries)}", name="Half done")
        tries.append(1)
        if len(tries) < 3:
            raise RuntimeError("not yet")

    publish(organisation, "a")
    drain(organisation)
    assert (states("shaky"), Customer.objects.count()) == (["failed"], 0)
    assert drain(organisation) == 0  # not before its time

    for _ in range(2):
        make_due()
        drain(organisation)

    assert states("shaky") == ["done"]
    assert [customer.external_id for customer in Customer.objects.all()] == ["c-2"]


def test_a_failure_holds_back_only_its_own_aggregate(organisation: Organisation, listening: Listening) -> None:
    heard: list[Any] = []
    broken = uuid.uuid4()
    cured: list[bool] = []

    @listening("a", consumer="strict")
    def strict(event: Event) -> None:
        if event.aggregate_id == broken and not cured:
            raise RuntimeError("broken")
        heard.append(event.pk)

    first, second = publish(organisation, "a", aggregate=broken)[0], publish(organisation, "a")[0]
    third, fourth = publish(organisation, "a", aggregate=broken)[0], publish(organisation, "a", aggregate=broken)[0]
    drain(organisation)
    late = publish(organisation, "a", aggregate=broken)[0]
    drain(organisation)
    assert heard == [second.pk]
    assert states("strict") == ["failed", "done", "waiting", "waiting", "waiting"]

    cured.append(True)
    make_due()
    drain(organisation)

    assert heard == [second.pk, first.pk, third.pk, fourth.pk, late.pk]


def test_after_eight_attempts_it_is_a_dead_letter_and_no_longer_in_the_way(
    organisation: Organisation, listening: Listening
) -> None:
    heard: list[int] = []
    poisoned = uuid.uuid4()
    cured: list[bool] = []

    @listening("a", consumer="c")
    def consume(event: Event) -> None:
        if event.pk == first.pk and not cured:
            raise ValueError("poison")
        heard.append(event.pk)

    first, second = publish(organisation, "a", aggregate=poisoned)[0], publish(organisation, "a", aggregate=poisoned)[0]
    drain(organisation)
    for _ in range(7):
        assert states("c") == ["failed", "waiting"]
        make_due()
        drain(organisation)

    assert states("c") == ["dead", "done"]
    dead = EventHandling.objects.get(status="dead")
    assert (dead.attempts, dead.error) == (8, "ValueError: poison")

    cured.append(True)
    outbox.replay(handling_id=dead.pk, actor=customers.SYSTEM, reason="cured")
    drain(organisation)
    assert heard == [second.pk, first.pk]
    assert AuditRecord.objects.get(action="event.replayed").reason == "cured"
    with pytest.raises(owing.NotDead):
        outbox.replay(handling_id=dead.pk, actor=customers.SYSTEM)


def test_a_batch_consumer_takes_many_and_a_poisoned_one_is_set_apart(
    organisation: Organisation, listening: Listening
) -> None:
    calls: list[list[int]] = []
    poison: list[int] = []

    @listening("a", consumer="bulk", batch=True)
    def bulk(events: list[Event]) -> None:
        if poison and any(event.pk in poison for event in events):
            raise ValueError("poison")
        calls.append([event.pk for event in events])

    ids = [event.pk for event in publish(organisation, *["a"] * 5)]
    drain(organisation)
    assert calls == [ids]

    calls.clear()
    more = [event.pk for event in publish(organisation, *["a"] * 3)]
    poison.append(more[1])
    drain(organisation)
    assert calls == [[more[0]], [more[2]]]
    assert states("bulk")[-3:] == ["done", "failed", "done"]


def test_a_consumer_that_calls_outside_is_not_in_a_transaction(
    transactional_db: None, make_organisation: Make, listening: Listening
) -> None:
    organisation = make_organisation()
    seen: list[tuple[bool, str]] = []

    @listening("a", consumer="outside", atomic=False)
    def outside(event: Event) -> None:
        seen.append((connection.in_atomic_block, states("outside")[0]))

    publish(organisation, "a")
    drain(organisation)

    assert seen == [(False, "failed")]  # taken up before the call, so that a crash is noticed
    assert states("outside") == ["done"]


def test_a_consumer_that_runs_alone_holds_no_locks_of_the_batch(
    transactional_db: None, make_organisation: Make, listening: Listening
) -> None:
    organisation = make_organisation()
    customer = customers.create_customer(organisation=organisation, external_id="c", name="C")
    drain(organisation)
    free: list[bool] = []

    @listening("a", consumer="locks")
    def lock(event: Event) -> None:
        Customer.objects.select_for_update().get(pk=customer.pk)

    @listening("a", consumer="apart", alone=True)
    def apart(event: Event) -> None:
        def look() -> None:
            try:
                with transaction.atomic():
                    free.append(Customer.objects.select_for_update(skip_locked=True).exists())
            finally:
                connection.close()

        assert connection.in_atomic_block
        other = threading.Thread(target=look)
        other.start()
        other.join()

    publish(organisation, "a", "a")
    drain(organisation)

    assert free == [True, True]
    assert states("apart") == ["done", "done"]


def test_what_does_not_concern_a_consumer_is_done_unless_it_waits_behind_something(
    organisation: Organisation, listening: Listening
) -> None:
    heard: list[int] = []
    wanted: set[int] = set()
    broken = [True]

    @listening("a", consumer="picky", alone=True, concerns=lambda events: wanted)
    def picky(event: Event) -> None:
        if broken:
            raise RuntimeError("broken")
        heard.append(event.pk)

    thing = uuid.uuid4()
    first = publish(organisation, "a", aggregate=thing)[0]
    wanted.add(first.pk)
    drain(organisation)
    behind, other = publish(organisation, "a", aggregate=thing)[0], publish(organisation, "a")[0]
    drain(organisation)
    assert states("picky") == ["failed", "waiting", "done"]

    broken.clear()
    make_due()
    drain(organisation)

    assert heard == [first.pk, behind.pk]
    assert other.pk not in heard


def test_events_of_handlers_are_handed_over_too(organisation: Organisation, listening: Listening) -> None:
    heard: list[str] = []

    @listening("a", consumer="one")
    def chain(event: Event) -> None:
        publish(organisation, "b")

    listening("b", consumer="two")(lambda event: heard.append(event.type))
    publish(organisation, "a")

    assert outbox.dispatch(organisation.pk) == 2
    assert heard == ["b"]


def test_one_wake_up_call_per_transaction(
    organisation: Organisation, monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Any
) -> None:
    sent: list[Any] = []
    monkeypatch.setattr(waking.current_app, "send_task", lambda *a, **k: sent.append(k["args"]))

    with django_capture_on_commit_callbacks(execute=True):
        publish(organisation, "a")
        with pytest.raises(RuntimeError), transaction.atomic():  # noqa: PT012
            publish(organisation, "a")
            raise RuntimeError
        publish(organisation, "a")
        with outbox.quiet():
            publish(organisation, "a")

    assert sent == [[str(organisation.pk)]]


def test_losing_the_broker_does_not_fail_the_request(
    transactional_db: None, make_organisation: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: Any, **__: Any) -> None:
        raise ConnectionError("no broker")

    monkeypatch.setattr(waking.current_app, "send_task", lost)

    customer = customers.create_customer(organisation=make_organisation(), external_id="c", name="C")

    assert Event.objects.filter(aggregate_id=customer.pk, dispatched_at=None).count() == 1
    assert outbox.dispatch() == 1


@pytest.mark.django_db(transaction=True)
def test_a_crash_in_the_middle_of_a_batch_loses_and_doubles_nothing(
    make_organisation: Make, listening: Listening
) -> None:
    organisation = make_organisation()

    class Killed(BaseException):
        pass

    crash = [True]

    @listening("a", consumer="c")
    def consume(event: Event) -> None:
        customers.create_customer(organisation=organisation, external_id=f"c-{event.pk}", name="Once")
        if crash and event.pk == ids[2]:
            raise Killed

    ids = [event.pk for event in publish(organisation, *["a"] * 4)]
    with pytest.raises(Killed):
        outbox.dispatch(organisation.pk)
    assert (Customer.objects.count(), EventHandling.objects.count()) == (0, 0)

    crash.clear()
    drain(organisation)

    assert sorted(Customer.objects.values_list("external_id", flat=True)) == sorted(f"c-{pk}" for pk in ids)


@pytest.mark.django_db(transaction=True)
def test_many_dispatchers_at_once_keep_order_and_handle_once(make_organisation: Make, listening: Listening) -> None:
    organisation = make_organisation()
    aggregates = [uuid.uuid4() for _ in range(5)]
    heard: list[tuple[uuid.UUID, int]] = []
    stumbled: set[int] = set()

    @listening("a", consumer="c")
    def consume(event: Event) -> None:
        if event.pk % 11 == 0 and event.pk not in stumbled:
            stumbled.add(event.pk)
            raise RuntimeError("stumbles once")
        heard.append((event.aggregate_id, event.pk))

    for number in range(60):
        publish(organisation, "a", aggregate=aggregates[number % 5])

    def work() -> None:
        try:
            for _ in range(30):
                outbox.dispatch(organisation.pk, limit=7)
                make_due()
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    drain(organisation)

    assert len(heard) == 60
    for aggregate in aggregates:
        order = [pk for one, pk in heard if one == aggregate]
        assert order == sorted(order)


@pytest.mark.django_db(transaction=True)
def test_one_call_is_under_way_at_a_time(make_organisation: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []
    organisation = make_organisation()
    outbox.begins(organisation.pk)
    monkeypatch.setattr(waking.current_app, "send_task", lambda *a, **k: sent.append(k["args"]))

    for _ in range(3):
        publish(organisation, "a")
    assert len(sent) == 1

    outbox.begins(organisation.pk)  # the worker took the call: what is published from now on needs another
    publish(organisation, "a")
    assert len(sent) == 2


@pytest.mark.django_db(transaction=True)
def test_a_call_that_failed_does_not_stand_for_the_next(
    make_organisation: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    organisation, tries = make_organisation(), []

    def lost(*_: Any, **__: Any) -> None:
        tries.append(1)
        raise ConnectionError("no broker")

    monkeypatch.setattr(waking.current_app, "send_task", lost)

    publish(organisation, "a")
    publish(organisation, "a")
    assert len(tries) == 2
