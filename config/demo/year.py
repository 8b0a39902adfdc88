"""The year itself: day by day the world's clock is turned, people act, and Munim does what is due."""

import base64
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock_time
from typing import Any
from urllib.parse import urlparse

from config.demo.household import House
from config.demo.http import DemoFailed, Simulator

HOUR = 16  # UTC; late enough that the day has ended in Bengaluru's offices and the cut-off of the bank has passed
PATIENCE_SECONDS = 90  # for a day of the smallest demo; ten times the customers may take ten times as long


def live(
    *, houses: Sequence[House], simulator: Simulator, first_day: date, days: int, tick: Callable[[date], None]
) -> None:
    """Live ``days`` days from ``first_day``; ``tick`` is told of each day that has ended. Houses live a day side by side."""
    patience = PATIENCE_SECONDS * max(house.scale for house in houses)
    with ThreadPoolExecutor(max_workers=len(houses), thread_name_prefix="house") as threads:
        for number in range(days):
            day = first_day + timedelta(days=number)
            moment = datetime.combine(day, clock_time(HOUR), tzinfo=UTC)
            simulator.set_clock(moment.isoformat())
            _wait_for_webhooks(simulator, patience)
            for _ in threads.map(lambda house, n=number, at=moment: _live_day(house, n, at), houses):
                pass
            tick(day)
    simulator.set_clock(datetime.combine(day, clock_time(23, 59), tzinfo=UTC).isoformat())
    _wait_for_webhooks(simulator, patience)
    for house in houses:
        close_month(house, day)


def _live_day(house: House, number: int, moment: datetime) -> None:
    """The clock is turned to ``moment``; then people act, and the office closes the month that has ended."""
    day = house.today = moment.date()
    house.api.post(f"/test-clocks/{house.clock_id}/advance", {"to": moment.isoformat(), "step_hours": 24})
    _wait_for_clock(house)
    house.script.play(day)
    if number % 2:
        answer_requests(house)
    if day.day == 1 and number:
        close_month(house, day - timedelta(days=1))


def answer_requests(house: House) -> None:
    """Customers who were asked to act open the page they were sent and pay, except those who never answer."""
    waiting = house.api.pages("/payments", status="requires_action")
    for payment in waiting:
        if payment["customer"] in house.idle_customers or not payment["action_url"]:
            continue
        target = urlparse(payment["action_url"]).path.rsplit("/", 1)[-1]
        house.simulator.post("/_sim/pay", {"account": house.account, "id": target, "outcome": "ok"})


def close_month(house: House, last_day: date) -> None:
    """What the office does when a month is over: the bank's statements, then one more look at what is open."""
    import_statements(house, last_day)
    house.api.post("/reconciliation/run", {})


def import_statements(house: House, day: date) -> None:
    """The bank's statement of the month, imported as an office would: one file per account."""
    first = day.replace(day=1)
    for currency, bank in house.banks.items():
        text = house.simulator.get(
            f"/_sim/bank/{house.account}",
            **{"from": first.isoformat(), "to": day.isoformat(), "format": "camt053", "currency": currency},
        )
        house.api.post(
            f"/bank-accounts/{bank}/statements",
            {
                "file_name": f"{currency.lower()}-{day:%Y-%m}.xml",
                "format": "camt053",
                "content": base64.b64encode(text.encode()).decode(),
            },
        )


def _wait_for_clock(house: House) -> None:
    """Look again and again until the clock stands; first when the last days let it be expected."""
    began = time.monotonic()
    deadline = began + PATIENCE_SECONDS * house.scale
    pause = max(0.1, 0.8 * house.expected_turn)  # each look costs the web server more than it costs to wait
    while True:
        time.sleep(pause)
        clock: dict[str, Any] = house.api.get(f"/test-clocks/{house.clock_id}")
        if clock["status"] == "ready":
            house.expected_turn += (time.monotonic() - began - house.expected_turn) / 8
            return
        if clock["status"] == "failed" or time.monotonic() > deadline:
            raise DemoFailed(
                f"The test clock of {house.code} stands at {clock['now']} ({clock['status']}): {clock.get('error', '')}"
            )
        pause = 0.1


def _wait_for_webhooks(simulator: Simulator, patience: int) -> None:
    """Wait until every event the gateways sent has been taken in; what was lost on purpose stays lost."""
    deadline = time.monotonic() + patience
    pause = 0.01
    while simulator.pending_webhooks():
        if time.monotonic() > deadline:
            raise DemoFailed("Webhooks of the simulator are not taken in; is the web server up?")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.2)
