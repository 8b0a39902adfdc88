"""Measurements over time: hours equal the raw sum, corrections, parking, months of the table, files."""

import io
import itertools
import random
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rest_framework.test import APIClient

from billing.errors import InvalidInput, NotFound
from billing.models import (
    Customer,
    Meter,
    Organisation,
    ParkedUsage,
    UsageEvent,
    UsageHour,
    UsageImport,
    UsageKey,
    UsageNaming,
    UsageRevision,
)  # fmt: skip
from billing.selectors.usage import Segment, Window, aggregate, aggregate_parts, changes_of
from billing.services import (
    customers,
    meters,
    unparking,
    usage,
    usage_imports,
    usage_partitions,
    usage_policy,
    usage_retention,
    usage_revisions,
)  # fmt: skip
from billing.services.organisations import SYSTEM
from billing.usage_csv import NOT_CLOSED

Clients = Callable[..., APIClient]
D = Decimal
FIRST = datetime(2026, 3, 1, tzinfo=UTC)
RULES: list[dict[str, Any]] = [
    {"aggregation": "count"}, {"aggregation": "sum"}, {"aggregation": "max"}, {"aggregation": "latest"},
    {"aggregation": "unique", "unique_property": "who"}, {"aggregation": "weighted"},
    {"aggregation": "sum", "recurring": True}, {"aggregation": "latest", "recurring": True},
    {"aggregation": "unique", "unique_property": "who", "recurring": True}, {"aggregation": "weighted", "recurring": True},
]  # fmt: skip


def make_meter(organisation: Organisation, code: str = "calls", **rule: Any) -> Meter:
    rule = {"aggregation": "sum"} | rule
    return meters.create_meter(organisation=organisation, code=code, name=code, actor=SYSTEM, **rule)


def sent(event_id: str, hours: float = 0, quantity: str = "1", **more: Any) -> dict[str, Any]:
    moment = (FIRST + timedelta(hours=hours)).isoformat()
    return {
        "event_id": event_id,
        "meter": "calls",
        "customer": "c-1",
        "quantity": quantity,
        "occurred_at": moment,
    } | more


def take(organisation: Organisation, *events: Any, **more: Any) -> list[str]:
    return [one.status for one in usage.ingest(organisation=organisation, events=events, **more)]


def window(customer: Customer, meter: Meter, hours: float = 0, until: float = 744, **more: Any) -> Window:
    return Window(customer.pk, meter.pk, FIRST + timedelta(hours=hours), FIRST + timedelta(hours=until), **more)


HISTORY = st.lists(
    st.tuples(
        st.sampled_from(["send", "send", "send", "repeat", "void", "replace"]),
        st.integers(0, 60), st.integers(0, 20), st.sampled_from(["", "eu", "us"]),
    ),
    max_size=25,
)  # fmt: skip


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(HISTORY, st.integers(0, 60), st.integers(1, 61), st.sampled_from(range(len(RULES))), st.randoms())
def test_hours_equal_the_raw_sum_after_any_history(
    organisation: Organisation, customer: Customer, steps: list[Any], a: int, b: int, which: int, shuffle: random.Random
) -> None:
    """Late events, repeats, voids and corrections in any order: the hours, the raw rows and a plain model agree."""
    with transaction.atomic():
        meter = make_meter(organisation, **RULES[which])
        told: dict[str, list[Any]] = {}
        for n, (step, half_hours, quantity, region) in enumerate(steps):
            known = sorted(told)
            if step == "send":
                event = sent(
                    f"e-{n}", half_hours / 2, str(quantity), properties={"who": f"w{quantity % 4}", "region": region}
                )
                take(organisation, event)
                told[f"e-{n}"] = [event, D(quantity)]
            elif known and step == "repeat":
                chosen = shuffle.choice(known)
                assert take(organisation, told[chosen][0] | {"quantity": "999"}) == ["duplicate"]
            elif known:
                _revise(organisation, meter, told, shuffle.choice(known), step, quantity)
        _hours_are_right(meter)
        start, end = sorted((a / 2, b / 2 + 0.25))
        asked = window(customer, meter, start, end)
        whole = asked._replace(segments=(Segment("any", (("region", ("", "eu", "us")),)),))
        raw = {one.quantity for one in aggregate_parts([whole]).get(whole, ())}
        assert raw == set(aggregate([asked]).values())
        transaction.set_rollback(True)


def _revise(organisation: Organisation, meter: Meter, told: Any, chosen: str, step: str, quantity: int) -> None:
    about: dict[str, Any] = {"organisation": organisation, "event_id": chosen, "reason": "Because", "actor": SYSTEM}
    if step == "void" or meter.aggregation == "unique":
        if told[chosen][1] is not None:
            usage_revisions.void_event(**about)
        told[chosen][1] = None
    else:
        usage_revisions.replace_quantity(quantity=str(quantity), **about)
        told[chosen][1] = D(quantity)


def _hours_are_right(meter: Meter) -> None:
    """Every hour is what its counting events come to."""
    voided = set(UsageRevision.objects.filter(is_current=True, kind="void").values_list("event_ref", flat=True))
    replaced = dict(UsageRevision.objects.filter(is_current=True, kind="replace").values_list("event_ref", "quantity"))
    expected: dict[datetime, list[Decimal]] = {}
    for event in UsageEvent.objects.filter(meter=meter):
        hour = expected.setdefault(event.occurred_at.replace(minute=0, second=0, microsecond=0), [])
        if event.pk not in voided:
            hour.append(replaced.get(event.pk, event.quantity))
    found = {one.hour: (one.events, one.total, one.greatest) for one in UsageHour.objects.filter(meter=meter)}
    assert found == {hour: (len(rows), sum(rows, D(0)), max(rows, default=D(0))) for hour, rows in expected.items()}


def test_a_split_month_is_the_raw_sum_of_each_part(organisation: Organisation, customer: Customer) -> None:
    """Late events, repeats, voids and corrections; windows split by two properties, one and none, in one statement."""
    meter = make_meter(organisation)
    kinds = [("eu", "a"), ("eu", "b"), ("us", "a"), (None, None)]
    events = [
        sent(f"e-{n}", n * 0.75, str(n), properties={} if region is None else {"region": region, "kind \"'{": kind})
        for n in range(40)
        for region, kind in [kinds[n % 4]]
    ]
    take(organisation, *events[20:])
    take(organisation, *events[:25], sent("e-30", 1, "999"))  # late ones, and repeats with another quantity
    about: dict[str, Any] = {"organisation": organisation, "reason": "Because", "actor": SYSTEM}
    for n in (4, 5, 30):
        usage_revisions.void_event(event_id=f"e-{n}", **about)
    for n, quantity in ((8, "100.5"), (30, "7"), (31, "0")):
        usage_revisions.replace_quantity(event_id=f"e-{n}", quantity=quantity, **about)
    stands = {n: D(n) for n in range(40) if n not in (4, 5)} | {8: D("100.5"), 30: D(7), 31: D(0)}
    both = window(customer, meter, group_by=("region", "kind \"'{"))
    region = window(customer, meter, group_by=("region",))
    whole = window(customer, meter, 0.5, 20.25)
    absent = window(customer, meter, group_by=("absent",))

    found = aggregate_parts([both, region, whole, absent])

    def raw(*remainders: int) -> tuple[Decimal, int]:
        of_them = [quantity for n, quantity in stands.items() if n % 4 in remainders]
        return sum(of_them, D(0)), len(of_them)

    def got(asked: Window) -> dict[tuple[str, ...], tuple[Decimal, int]]:
        return {one.group: (one.quantity, one.events) for one in found[asked]}

    assert got(both) == {("", ""): raw(3), ("eu", "a"): raw(0), ("eu", "b"): raw(1), ("us", "a"): raw(2)}
    assert got(region) == {("",): raw(3), ("eu",): raw(0, 1), ("us",): raw(2)}
    assert got(absent) == {("",): raw(0, 1, 2, 3)}
    inside = [quantity for n, quantity in stands.items() if 0.5 <= n * 0.75 < 20.25]
    assert got(whole) == {(): (sum(inside, D(0)), len(inside))}
    assert {asked: aggregate_parts([asked])[asked] for asked in found} == found


@pytest.mark.parametrize(
    "rule", RULES, ids=lambda rule: f"{rule['aggregation']}{' recurring' * rule.get('recurring', False)}"
)
def test_the_order_in_which_events_come_does_not_matter(
    organisation: Organisation, customer: Customer, rule: dict[str, Any]
) -> None:
    events = [sent(f"e-{n}", n * 1.5, str(n * 7 % 11), properties={"who": f"w{n % 5}", "operation": "remove" if n % 4 == 3 else "add"})
              for n in range(20)]  # fmt: skip
    found = set()
    for seed in range(3):
        shuffled = list(events)
        random.Random(seed).shuffle(shuffled)
        with transaction.atomic():
            meter = make_meter(organisation, **rule)
            for event in shuffled:
                take(organisation, event)
            found.add(aggregate([window(customer, meter, 5, 28.3)]).popitem()[1])
            transaction.set_rollback(True)
    assert len(found) == 1


def test_corrections_are_rows_of_their_own(organisation: Organisation, customer: Customer, client_of: Clients) -> None:
    meter = make_meter(organisation)
    take(organisation, sent("e-1", 1, "5"), sent("e-2", 2, "7"))
    client = client_of(organisation)
    asked = window(customer, meter)

    replaced = client.post(
        "/api/v1/usage-revisions", {"event_id": "e-1", "kind": "replace", "quantity": "3.5", "reason": "Counted twice"}
    )
    assert (replaced.status_code, aggregate([asked])[asked]) == (201, D("10.5"))
    assert (
        client.post("/api/v1/usage-revisions", {"event_id": "e-1", "kind": "void", "reason": "Test"}).status_code == 201
    )
    assert aggregate([asked])[asked] == D(7)
    again = client.post("/api/v1/usage-revisions", {"event_id": "e-1", "kind": "void", "reason": "Test"})
    assert (again.status_code, again.json()["code"]) == (409, "usage_already_void")
    unknown = client.post("/api/v1/usage-revisions", {"event_id": "e-9", "kind": "void", "reason": "Test"})
    assert unknown.status_code == 404

    rows = client.get("/api/v1/usage-revisions", {"event_id": "e-1"}).json()["results"]
    assert [(row["number"], row["kind"], row["is_current"]) for row in rows] == [
        (2, "void", True),
        (1, "replace", False),
    ]
    assert UsageEvent.objects.get(event_id="e-1").quantity == D(5)
    assert changes_of([asked]) == {asked: 4}
    with pytest.raises(IntegrityError, match="append only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("UPDATE billing_usagerevision SET reason = 'x'")


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"aggregation": "unique"}, "unique_property"), ({"unique_property": "who"}, "unique_property"),
        ({"aggregation": "count", "recurring": True}, "recurring"), ({"aggregation": "max", "recurring": True}, "recurring"),
        ({"expression": "1 +"}, "expression"), ({"aggregation": "count", "expression": "a"}, "expression"),
        ({"rounding": "up"}, "rounding"), ({"rounding_decimals": 13}, "rounding_decimals"), ({"unit_cost": D(-1)}, "unit_cost"),
        ({"properties": [{"name": "a b"}]}, "properties"), ({"properties": [{"name": "a"}, {"name": "a"}]}, "properties"),
        ({"expression": "a", "properties": [{"name": "b"}]}, "properties"),
    ],
)  # fmt: skip
def test_meters_that_make_no_sense(organisation: Organisation, given: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        make_meter(organisation, **given)
    assert refused.value.field == field
    assert not Meter.objects.exists()


def test_a_meter_reads_its_properties(organisation: Organisation, customer: Customer) -> None:
    meter = make_meter(
        organisation, expression="ceil(bytes / 1024)",
        properties=[{"name": "bytes", "required": True, "kind": "number"}, {"name": "region"}],
    )  # fmt: skip
    found = usage.ingest(organisation=organisation, events=[
        sent("e-1", properties={"bytes": 3000, "region": "eu"}), sent("e-2", properties={"region": "eu"}),
        sent("e-3", properties={"bytes": "x"}), sent("e-4", properties={"bytes": 1, "colour": "red"}),
        sent("e-5", properties={"bytes": 1, "region": 7}), sent("e-6", properties={"bytes": "-1"}), sent("e-7"),
    ])  # fmt: skip
    assert [(one.status, one.field) for one in found] == [
        ("accepted", ""), ("rejected", "bytes"), ("rejected", "bytes"), ("rejected", "colour"), ("rejected", "region"),
        ("accepted", ""), ("rejected", "bytes"),
    ]  # fmt: skip
    assert aggregate([window(customer, meter)])[window(customer, meter)] == D(3)


def test_what_is_unknown_waits_until_it_appears(
    organisation: Organisation, customer: Customer, client_of: Clients
) -> None:
    client = client_of(organisation)
    assert client.patch("/api/v1/usage-policy", {"unknown": "park"}).json()["unknown"] == "park"
    organisation.refresh_from_db()
    make_meter(organisation)
    batch = client.post("/api/v1/usage-events/batch", {"events": [
        sent("e-1"), sent("e-2", customer="c-2"), sent("e-3", meter="none"), sent("e-4", quantity="x"), sent("e-2", customer="c-2"),
    ]}).json()  # fmt: skip
    assert [one["status"] for one in batch["verdicts"]] == ["accepted", "parked", "parked", "rejected", "parked"]
    assert (batch["parked"], ParkedUsage.objects.count()) == (3, 2)

    other = customers.create_customer(organisation=organisation, external_id="c-2", name="Bo")
    assert client.post("/api/v1/parked-usage/retry").json() == {"accepted": 1}
    assert unparking.retry_parked(organisation_id=organisation.pk) == 0
    assert UsageEvent.objects.get(event_id="e-2").customer_id == other.pk
    (row,) = client.get("/api/v1/parked-usage", {"status": "waiting"}).json()["results"]
    assert (row["event_id"], row["field"], row["tries"]) == ("e-3", "meter", 2)
    dismissed = client.post(f"/api/v1/parked-usage/{row['id']}/dismiss", {"reason": "A typing error"})
    assert dismissed.json()["status"] == "dismissed"
    assert client.post(f"/api/v1/parked-usage/{row['id']}/dismiss", {"reason": "Again"}).status_code == 409


def test_events_name_a_subscription_where_there_are_several(organisation: Organisation, customer: Customer) -> None:
    meter = make_meter(organisation)
    take(organisation, sent("e-1", 1, "1"))
    first, second = uuid.uuid4(), uuid.uuid4()
    UsageNaming.objects.create(organisation=organisation, customer=customer, meter=meter, first_ref=first)
    (refused,) = usage.ingest(organisation=organisation, events=[sent("e-2")])
    assert (refused.status, refused.field) == ("rejected", "subscription")
    UsageEvent.objects.create(
        organisation=organisation, event_id="e-3", meter=meter, customer=customer, quantity=D(4), subscription_ref=second,
        occurred_at=FIRST + timedelta(hours=3),
    )  # fmt: skip
    of = {name: window(customer, meter, subscription_id=one) for name, one in (("first", first), ("second", second))}
    assert aggregate(of.values()) == {of["first"]: D(1), of["second"]: D(4)}
    assert aggregate([window(customer, meter)]) == {window(customer, meter): D(5)}


# --- months ---------------------------------------------------------------------------------------
def test_months_are_made_ahead_and_take_over_what_waits(
    organisation: Organisation, customer: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_partitions, "WORTH_A_TABLE", 2)
    meter = make_meter(organisation)
    take(organisation, sent("a", -24 * 300, "1"), sent("b", -24 * 300 + 1, "2"), sent("c", -24 * 400, "4"))
    asked = window(customer, meter, -24 * 500)
    before = aggregate([asked]), changes_of([asked])
    month = datetime(2025, 5, 1, tzinfo=UTC)

    made = usage_partitions.prepare()

    assert "billing_usageevent_y2025m05" in made
    assert month in usage_partitions.partitions()
    with connection.cursor() as cursor:
        cursor.execute("SELECT event_id FROM billing_usageevent_y2025m05 ORDER BY 1")
        assert cursor.fetchall() == [("a",), ("b",)]
        cursor.execute("SELECT event_id FROM billing_usageevent_default")
        assert ("c",) in cursor.fetchall()
    assert (aggregate([asked]), changes_of([asked])) == before
    assert take(organisation, sent("a", -24 * 300), sent("a", 5), sent("d", -24 * 300)) == [
        "duplicate",
        "duplicate",
        "accepted",
    ]
    assert usage_partitions.prepare() == []


def test_old_months_go_but_the_state_of_recurring_meters_stays(organisation: Organisation, customer: Customer) -> None:
    old = -24 * 365 * 3
    rules = {"calls": RULES[1], "seats": RULES[8], "stock": RULES[6], "disk": RULES[9], "price": RULES[7]}
    made = {code: make_meter(organisation, code, **rule) for code, rule in rules.items()}
    usage_policy.change_policy(organisation=organisation, actor=SYSTEM, retention_months=240)
    for n, code in enumerate(made):
        take(
            organisation,
            *(sent(f"{code}-{k}", old + n + k, str(k + 2), meter=code, properties={"who": f"w{k}"}) for k in range(3)),
        )
    take(organisation, sent("seats-9", old + 9, meter="seats", properties={"who": "w1", "operation": "remove"}))
    now = {code: window(customer, meter) for code, meter in made.items()}
    before = aggregate(now.values())
    assert before == {now["seats"]: D(2), now["stock"]: D(9), now["disk"]: D(9), now["price"]: D(4)}
    assert usage_retention.let_go() == []

    usage_policy.change_policy(organisation=organisation, actor=SYSTEM, retention_months=24)
    usage_retention._guards.append(lambda _: FIRST + timedelta(hours=old))
    assert usage_retention.let_go() == []  # somebody has not billed it
    usage_retention._guards.pop()
    gone = usage_retention.let_go()

    assert gone[0] == "2023-03"
    assert aggregate(now.values()) == before
    assert not UsageKey.objects.filter(occurred_at__lt=FIRST - timedelta(days=700)).exists()
    assert take(organisation, sent("calls-0", old)) == ["rejected"]


# --- files ----------------------------------------------------------------------------------------
def csv_of(*rows: str) -> bytes:
    return "\n".join(["event_id,meter,customer,occurred_at,quantity,properties.region", *rows, ""]).encode()


def test_a_file_is_read_line_by_line(organisation: Organisation, customer: Customer, client_of: Clients) -> None:
    meter = make_meter(organisation)
    take(organisation, sent("known"))
    content = csv_of(
        "a,calls,c-1,2026-03-02T00:00:00Z,2,eu", "known,calls,c-1,2026-03-02T00:00:00Z,2,eu", "",
        '"b ""2""",calls,c-1,2026-03-02T00:00:00Z,3,"x\ny"', "=cmd,calls,nobody,2026-03-02T00:00:00Z,3,", "c,calls",
        "a,calls,c-1,2026-03-02T00:00:00Z,2,eu",
    )  # fmt: skip
    for dry_run in (True, False):
        row = usage_imports.begin_import(
            organisation=organisation, file_name="march.csv", content=content, dry_run=dry_run, actor=SYSTEM
        )
        row = usage_imports.read_on(import_id=row.pk)
        assert (row.status, row.accepted, row.duplicates, row.rejected, row.position) == ("done", 2, 2, 2, len(content))
        assert UsageEvent.objects.count() == (1 if dry_run else 3)
    assert aggregate([window(customer, meter)])[window(customer, meter)] == D(6)
    answer = client_of(organisation).get(f"/api/v1/usage-imports/{row.pk}/errors")
    lines = answer.content.decode().splitlines()
    assert lines[0] == "line,event_id,field,reason"
    assert lines[1].startswith("7,'=cmd,customer,")
    assert lines[2] == '8,,row,"Expected 6 cells, found 2."'


def test_a_quotation_mark_that_is_not_closed_spoils_its_own_line_only(
    organisation: Organisation, customer: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where chunks of 40 lines are read, and where what it seems to enclose is longer than a cell may be."""
    monkeypatch.setattr(usage_imports, "CHUNK_LINES", 40)
    meter = make_meter(organisation)
    good = [f"e-{n},calls,c-1,2026-03-02T00:00:00Z,1,{'x' * 90}" for n in range(1200)]
    content = csv_of(
        *good[:5], '"open,calls,c-1,2026-03-02T00:00:00Z,1,', *good[5:90], 'more,calls,"c-1,,,', *good[90:]
    )

    row = usage_imports.begin_import(organisation=organisation, file_name="f.csv", content=content, actor=SYSTEM)
    row = usage_imports.read_on(import_id=row.pk)

    assert (row.status, row.accepted, row.rejected, row.lines) == ("done", 1200, 2, 1203)
    assert list(row.errors.order_by("line").values_list("line", "reason")) == [(7, NOT_CLOSED), (93, NOT_CLOSED)]
    assert aggregate([window(customer, meter)])[window(customer, meter)] == D(1200)


def test_a_killed_import_goes_on_where_it_was(
    organisation: Organisation, customer: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_meter(organisation)
    monkeypatch.setattr(usage_imports, "CHUNK_BYTES", 700)
    monkeypatch.setattr(usage_imports, "CHUNK_LINES", 7)
    content = csv_of(*(f"e-{n},calls,c-1,2026-03-02T00:00:00Z,{n},{'x' * (n % 30)}" for n in range(100)))
    row = usage_imports.begin_import(organisation=organisation, file_name="f.csv", content=content, actor=SYSTEM)
    chunks = itertools.count(1)
    real = usage_imports._take_in

    def die(*args: Any) -> None:
        real(*args)
        if next(chunks) % 3 == 0:
            raise KeyboardInterrupt

    monkeypatch.setattr(usage_imports, "_take_in", die)
    for _ in range(20):
        try:
            done = usage_imports.read_on(import_id=row.pk)
            break
        except KeyboardInterrupt:
            continue
    assert (done.accepted, done.rejected, done.duplicates, done.lines) == (100, 0, 0, 101)
    assert UsageEvent.objects.count() == 100


@pytest.mark.parametrize(
    "content",
    [b"", b"a,b\n", b"event_id,meter,customer\n", b"\xff\xfe\n", b"event_id,meter,customer,occurred_at,colour\n"],
)
def test_what_is_no_file_of_measurements(organisation: Organisation, content: bytes) -> None:
    with pytest.raises(InvalidInput):
        usage_imports.begin_import(organisation=organisation, file_name="f.csv", content=content, actor=SYSTEM)
    assert not UsageImport.objects.exists()


def test_the_policy_is_checked(organisation: Organisation) -> None:
    for wrong in (
        {"late_days": -1},
        {"unknown": "ignore"},
        {"retention_months": 1, "late_days": 366},
        {"late_days": True},
    ):
        with pytest.raises(InvalidInput):
            usage_policy.change_policy(organisation=organisation, actor=SYSTEM, **wrong)
    with pytest.raises(NotFound):
        usage_revisions.void_event(organisation=organisation, event_id="nothing", reason="why", actor=SYSTEM)


def test_the_command_reads_a_file(organisation: Organisation, customer: Customer, tmp_path: Path) -> None:
    make_meter(organisation)
    file, errors, said = tmp_path / "f.csv", tmp_path / "e.csv", io.StringIO()
    file.write_bytes(csv_of("a,calls,c-1,2026-03-02T00:00:00Z,2,eu", "b,calls,nobody,2026-03-02T00:00:00Z,2,eu"))
    with pytest.raises(CommandError, match="refused"):
        call_command("import_usage", str(file), organisation=organisation.code, errors=errors, stdout=said)
    assert "1 accepted, 0 known already, 0 parked, 1 rejected" in said.getvalue()
    assert errors.read_text().splitlines()[1].startswith("3,b,customer,")
