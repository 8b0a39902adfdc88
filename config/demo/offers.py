"""What Kranich Software sells: meters, plans of every charge model it has a use for, and the features they give."""

from typing import Any

from config.demo.household import House

EXPORTS = {"team-monthly": "20", "team-annual": "40", "business-monthly": "200"}  # a month
SEATS = {"EUR": "25", "USD": "28"}
DEARER_SEATS = {"EUR": "26.50", "USD": "29.50"}


def offer(house: House) -> None:
    """Everything on the price list of the first day."""
    _meters(house)
    _plan(house, "team-monthly", "Team, monthly", "month", 14, team_prices(SEATS))
    _plan(house, "team-annual", "Team, annual", "year", 0, _annual_prices())
    minimum = {"min_commitment": {"EUR": "600.00", "USD": "680.00"}}
    _plan(house, "business-monthly", "Business, monthly", "month", 0, _business_prices(), **minimum)
    _features(house)
    _coupons(house)
    _experiment(house)
    house.api.post("/usage-thresholds", {"plan": "team-monthly", "amount": {"amount": "60.00", "currency": "USD"}})


def raise_prices(house: House) -> None:
    """A dearer version of the monthly plan: who comes from now on pays it."""
    plan = house.api.get("/plans", code="team-monthly")["results"][0]
    house.api.post(f"/plans/{plan['id']}/versions", {"prices": team_prices(DEARER_SEATS)})


def move_subscribers(house: House) -> None:
    """The others follow, each at the end of the month that is paid."""
    house.api.post(
        "/plan-migrations",
        {"from_plan": "team-monthly", "from_version": 1, "when": "renewal", "reason": "New prices, announced in May"},
    )


def team_prices(seat: dict[str, str]) -> list[dict[str, Any]]:
    """Seats in advance, calls by steps with a price of their own for reports, storage by the package."""
    rows: list[dict[str, Any]] = []
    for currency, price in seat.items():
        rows += [
            _price("seat", "Seats", currency, model="per_unit", unit_price=price, unit="seat"),
            *_usage(currency),
            _price(
                "support", "Priority support", currency, model="flat", kind="add_on", unit_price=_by(currency, "49")
            ),
        ]
    return rows


def _annual_prices() -> list[dict[str, Any]]:
    """Seats of a year, all of them cheaper for whoever takes ten."""
    rows: list[dict[str, Any]] = []
    for currency in SEATS:
        tiers = [
            {"up_to": "9", "unit_price": _by(currency, "250")},
            {"up_to": None, "unit_price": _by(currency, "230")},
        ]
        rows += [
            _price("seat", "Seats", currency, model="volume", tiers=tiers, unit="seat"),
            _calls(currency),
        ]
    return rows


def _business_prices() -> list[dict[str, Any]]:
    """Seats and usage that come to a minimum each month, card payments by the percent, and an onboarding once."""
    rows: list[dict[str, Any]] = []
    for currency in SEATS:
        rows += [
            _price("seat", "Seats", currency, model="per_unit", unit_price=_by(currency, "39"), unit="seat"),
            *_usage(currency),
            _price(
                "payments",
                "Card payments handled",
                currency,
                model="percentage",
                meter="payments",
                properties={"rate": "0.4", "fixed_fee": "0.10", "free_events": "2"},
            ),
            _price("onboarding", "Onboarding", currency, model="flat", kind="one_off", unit_price=_by(currency, "250")),
        ]
    return rows


def _usage(currency: str) -> list[dict[str, Any]]:
    storage = _price(
        "storage",
        "Storage",
        currency,
        model="package",
        meter="storage",
        unit="GB",
        unit_price=_by(currency, "4"),
        properties={"package_size": "100", "free_units": "100"},
    )
    return [_calls(currency), storage]


def _calls(currency: str) -> dict[str, Any]:
    reports = [{"up_to": "500", "unit_price": "0"}, {"up_to": None, "unit_price": "0.004"}]
    return _price(
        "api-calls",
        "API calls",
        currency,
        model="graduated",
        meter="api-calls",
        unit="call",
        tiers=[
            {"up_to": "10000", "unit_price": "0"},
            {"up_to": "100000", "unit_price": "0.002"},
            {"up_to": None, "unit_price": "0.0009"},
        ],
        filters=[
            {
                "key": "reports",
                "name": "API calls for reports",
                "conditions": {"endpoint": ["reports"]},
                "tiers": reports,
            }
        ],
    )


def _price(code: str, name: str, currency: str, **rest: Any) -> dict[str, Any]:
    return {"code": code, "name": name, "currency": currency, "tax_category": "saas", **rest}


def _by(currency: str, euros: str) -> str:
    """The price in ``currency``: a dollar price is a tenth more, as the price list says."""
    return euros if currency == "EUR" else f"{int(euros) * 11 // 10}"


def _meters(house: House) -> None:
    for code, name, aggregation, rest in (
        ("api-calls", "API calls", "sum", {"unit": "call", "service": "Interface", "unit_cost": "0.0002"}),
        ("storage", "Storage", "latest", {"recurring": True, "unit": "GB", "service": "Storage", "unit_cost": "0.02"}),
        ("payments", "Card payments", "sum", {"service": "Payments"}),
    ):
        body = {"code": code, "name": name, "aggregation": aggregation}
        house.api.post("/meters", body | rest)
    house.api.call("PATCH", "/usage-policy", {"unknown": "park", "too_late": "park", "late_days": 35})


def _plan(
    house: House, code: str, name: str, interval: str, trial: int, prices: list[dict[str, Any]], **version: Any
) -> None:
    house.api.post(
        "/plans",
        {
            "code": code,
            "name": name,
            "interval": interval,
            "interval_count": 1,
            "trial_days": trial,
            "versions": [{"prices": prices, **version}],
        },
    )


def _features(house: House) -> None:
    """One of each kind: given or not, counted by the month, measured, and one of three words."""
    for body in (
        {"code": "sso", "name": "Single sign-on", "kind": "boolean"},
        {"code": "exports", "name": "Exports", "kind": "quota", "unit": "export", "reset": "month"},
        {"code": "calls", "name": "API calls", "kind": "metered", "meter": "api-calls", "unit": "call", "is_soft": True},
        {"code": "support", "name": "Support", "kind": "static", "choices": ["community", "e-mail", "telephone"]},
    ):  # fmt: skip
        house.api.post("/features", body)
    calls = {"team-monthly": "60000", "team-annual": "600000", "business-monthly": None}
    support = {"team-monthly": "community", "team-annual": "e-mail", "business-monthly": "telephone"}
    for plan, exports in EXPORTS.items():
        given: list[dict[str, Any]] = [
            {"feature": "exports", "limit": exports},
            {"feature": "calls", "limit": calls[plan]},
            {"feature": "support", "value": support[plan]},
        ]
        if plan != "team-monthly":
            given.append({"feature": "sso"})
        house.api.post("/plan-entitlements", {"plan": plan, "entitlements": given})


def _coupons(house: House) -> None:
    """A word for newcomers, and a sum to make up for a mishap."""
    welcome = {"code": "welcome", "name": "Welcome", "kind": "percent", "percent": "20", "charges": ["seat"]}
    house.api.post("/coupons", welcome | {"duration": "periods", "periods": 3})
    house.api.post("/promotion-codes", {"code": "WELCOME20", "coupon": "welcome", "first_subscription_only": True})
    sorry = {"code": "sorry", "name": "With our apologies", "kind": "fixed", "carries_over": True}
    house.api.post("/coupons", sorry | {"amount": {"amount": "200.00", "currency": "EUR"}})


def _experiment(house: House) -> None:
    """Business with a lower minimum for half of those who look at it: do more of them take it?"""
    plan = house.api.get("/plans", code="business-monthly")["results"][0]
    lower = {"min_commitment": {"EUR": "400.00", "USD": "450.00"}}
    house.api.post(f"/plans/{plan['id']}/versions", {"prices": _business_prices()} | lower)
    drafted = house.api.post(
        "/experiments",
        {
            "code": "lower-minimum",
            "name": "A lower minimum for Business",
            "plan": "business-monthly",
            "hypothesis": "A third more companies take Business when its minimum is lower.",
            "variants": [
                {"code": "current", "version": 1, "weight": 50, "control": True},
                {"code": "lower", "version": 2, "weight": 50},
            ],
        },
    )
    house.api.post(f"/experiments/{drafted['id']}/start", {"baseline_rate": "0.3", "minimum_effect": "0.1"})
