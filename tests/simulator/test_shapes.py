"""What the simulator says has the shape of the real thing: SDK annotations, sample files."""

import inspect
import json
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import razorpay
import stripe
import stripe.params
import stripe.params.checkout

from payments.simulator.stripe_api.params import ALLOWED
from tests.simulator.conftest import KEY_ID, STRIPE_KEY, Sim

SAMPLES = Path(__file__).resolve().parents[3] / "shared" / "samples"
needs_samples = pytest.mark.skipif(not SAMPLES.is_dir(), reason="the sample files are not beside the repository")

CLASSES = {
    "payment_intents": stripe.PaymentIntent, "setup_intents": stripe.SetupIntent, "charges": stripe.Charge,
    "customers": stripe.Customer, "payment_methods": stripe.PaymentMethod, "refunds": stripe.Refund,
    "balance_transactions": stripe.BalanceTransaction, "payouts": stripe.Payout, "disputes": stripe.Dispute,
    "events": stripe.Event, "checkout/sessions": stripe.checkout.Session,
}  # fmt: skip


def check(value: Any, annotation: Any, path: str) -> None:
    """Every key is annotated, enums hold, and nested objects too."""
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, getattr(__import__("types"), "UnionType", None)):
        arms = typing.get_args(annotation)
        literals = [arm for arm in arms if typing.get_origin(arm) is typing.Literal]
        if value is None:
            assert type(None) in arms or literals, f"{path} is null"
            return
        if literals and isinstance(value, str):
            assert any(value in typing.get_args(arm) for arm in literals), f"{path} = {value}"
            return
        objects = [arm for arm in arms if isinstance(arm, type) and issubclass(arm, stripe.StripeObject)]
        if isinstance(value, dict) and objects:
            check(value, objects[0], path)
        return
    if origin is typing.Literal:
        assert value in typing.get_args(annotation), f"{path} = {value}"
    elif origin in (list, typing.List):  # noqa: UP006
        for number, item in enumerate(value):
            check(item, typing.get_args(annotation)[0], f"{path}[{number}]")
    elif isinstance(annotation, type) and issubclass(annotation, stripe.StripeObject) and isinstance(value, dict):
        known = annotations_of(annotation)
        if not known:
            return
        assert set(value) <= set(known), f"{path}: {set(value) - set(known)}"
        for key, item in value.items():
            check(item, known[key], f"{path}.{key}")
    elif annotation in (int, str, bool):
        assert type(value) is annotation, f"{path} = {value!r}"


def annotations_of(kind: type) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.startswith("stripe.") and base is not stripe.StripeObject:
            found.update({k: v for k, v in inspect.get_annotations(base).items() if not k.startswith("_")})
    return found


@pytest.fixture
def busy_account(
    sim: Sim, st: stripe.StripeClient, saved_card: Callable[[str], str], charge: Callable[..., Any]
) -> Sim:
    """A Stripe account where everything that can happen has happened."""
    card = saved_card("pm_card_visa")
    paid = charge(card, 5_000, metadata={"a": "1"})
    charge(card, 4_000, capture_method="manual")
    charge(saved_card("pm_card_authenticationRequired"), off_session=False, return_url="https://shop.example/")
    st.v1.refunds.create({"payment_intent": paid.id, "amount": 1_000, "reason": "requested_by_customer"})
    sim.post(f"/_sim/tokens/{card}", {"behaviour": ["insufficient_funds"]})
    with pytest.raises(stripe.CardError):
        charge(card)
    charge(saved_card("pm_card_createDispute"), 2_000)
    st.v1.setup_intents.create({"payment_method": "pm_card_visa", "confirm": True})
    st.v1.setup_intents.create({"payment_method": "pm_card_authenticationRequired", "confirm": True})
    charge(card, 9_000)
    session = st.v1.checkout.sessions.create({
        "mode": "payment", "success_url": "https://shop.example/",
        "line_items": [{"price_data": {"currency": "eur", "unit_amount": 1_250, "product_data": {"name": "Seats"}}}]})  # fmt: skip
    sim.post("/_sim/pay", {"id": session.id})
    sim.advance(days=5)
    return sim


@pytest.mark.parametrize("kind", CLASSES)
def test_stripe_objects_have_only_annotated_fields(busy_account: Sim, kind: str) -> None:
    status, body = busy_account.call("GET", f"/v1/{kind}?limit=100" + ("&customer=" if kind == "payment_methods" else ""),
                                     headers={"Authorization": f"Bearer {STRIPE_KEY}"})  # fmt: skip
    items = json.loads(body)["data"]
    if kind == "payment_methods":
        intents = json.loads(busy_account.call("GET", "/v1/payment_intents?expand[]=data.payment_method",
                                               headers={"Authorization": f"Bearer {STRIPE_KEY}"})[1])["data"]  # fmt: skip
        items = [intent["payment_method"] for intent in intents if intent["payment_method"]]

    assert status == 200
    assert items
    for item in items:
        check(item, CLASSES[kind], kind)


@needs_samples
@pytest.mark.parametrize("kind", [k for k in CLASSES if k != "events"])
def test_stripe_objects_have_the_fields_of_the_fixture(busy_account: Sim, kind: str) -> None:
    fixtures = json.loads((SAMPLES / "stripe" / "api_object_fixtures.json").read_text())
    name = CLASSES[kind].OBJECT_NAME
    wanted = set(fixtures.get("resources", fixtures)[name]) - {"customer_account", "refunds", "charges"}
    path = "/v1/charges?expand[]=data.payment_intent.payment_method" if kind == "payment_methods" else f"/v1/{kind}"
    items = json.loads(busy_account.call("GET", path, headers={"Authorization": f"Bearer {STRIPE_KEY}"})[1])["data"]
    if kind == "payment_methods":
        items = [i["payment_intent"]["payment_method"] for i in items if i["payment_intent"]["payment_method"]]

    assert items
    for item in items:
        missing = wanted - set(item) - ({"livemode"} if kind in {"refunds", "balance_transactions"} else set())
        assert missing <= {"shipping", "subscriptions", "sources"}, missing


def _request_names(name: str) -> set[str]:
    noun, verb = name.split(".")
    prefix = "".join(part.title() for part in noun.split("_"))
    verb = {"payment_methods": "ListPaymentMethods"}.get(verb, verb.title())
    home = stripe.params.checkout if noun == "checkout_session" else stripe.params
    params = getattr(home, f"{prefix.removeprefix('Checkout')}{verb}Params")
    names: set[str] = set()
    for base in params.__mro__ if hasattr(params, "__mro__") else [params]:
        names |= set(getattr(base, "__annotations__", {}))
    return names


@pytest.mark.parametrize("name", [name for name in ALLOWED if "." in name])
def test_accepted_parameters_exist_in_the_sdk(name: str) -> None:
    extra = ALLOWED[name] - _request_names(name)

    assert extra <= ({"use_stripe_sdk"} if "intent" in name else set()), extra


ADDED_SINCE = {  # sample fields that the current API no longer tells
    "payment": {"udf"},
    "order": set(),
}


@needs_samples
@pytest.mark.parametrize(
    ("file", "path"),
    [("order_collection.json", "/v1/orders"), ("payment_collection.json", "/v1/payments"),
     ("refund_collection.json", "/v1/refunds"), ("settlement_collection.json", "/v1/settlements"),
     ("dispute_collection.json", "/v1/disputes"),
     ("settlement_recon_combined.json", "/v1/settlements/recon/combined?year=2025&month=04")],
)  # fmt: skip
def test_razorpay_objects_have_the_keys_of_the_samples(
    sim: Sim, rzp: razorpay.Client, token: str, debit: Callable[..., Any], file: str, path: str
) -> None:
    for _ in range(2):
        rzp.payment.refund(debit(token)["id"], {"amount": 10})
    sim.post("/_sim/disputes", {"payment": debit(token)["id"]})
    sim.advance(days=6)
    sample = json.loads((SAMPLES / "razorpay" / file).read_text())

    got = rzp.get(path, {})

    assert set(got) == set(sample)
    keys = {kind: set(item) for item in sample["items"] if (kind := item.get("type", item.get("entity")))}
    assert got["items"]
    for item in got["items"]:
        kind = item.get("type", item.get("entity"))
        assert keys.get(kind, set()) - ADDED_SINCE.get(str(kind), set()) <= set(item)


@needs_samples
def test_razorpay_refund_and_recurring_answers_have_the_keys_of_the_samples(
    rzp: razorpay.Client, token: str, debit: Callable[..., Any]
) -> None:
    refund = json.loads((SAMPLES / "razorpay" / "refund.json").read_text())

    assert set(refund) <= set(rzp.payment.refund(debit(token)["id"], {"amount": 10}))


@needs_samples
def test_razorpay_events_have_the_keys_of_the_sample(sim: Sim, rzp: razorpay.Client, token: str, debit: Any,
                                                     endpoint: Any) -> None:  # fmt: skip
    url, received = endpoint
    sim.post("/_sim/webhooks", {"account": KEY_ID, "webhook_url": url, "webhook_secret": "whsec"})
    debit(token)
    sim.settle_events()
    sample = json.loads((SAMPLES / "razorpay" / "webhook_payment_authorized_old_shape.json").read_text())

    told = json.loads(received.requests[0][1])

    assert set(sample) | {"account_id"} == set(told)
    payment = sample["payload"]["payment"]["entity"]
    assert set(payment) - {"service_tax"} <= set(told["payload"]["payment"]["entity"])
    assert told["payload"]["payment"]["entity"]["status"] == "authorized"
