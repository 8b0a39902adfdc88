"""What quantities cost."""

from dataclasses import replace
from typing import Any

from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from billing import clock, money
from billing.api.base import TenantViewMixin
from billing.errors import PermissionRefused
from billing.models import Customer
from subscriptions import pricing
from subscriptions.api.price_shapes import QuoteInput, QuoteOutput
from subscriptions.experiments.offers import Offer
from subscriptions.lines import Component
from subscriptions.models import Plan
from subscriptions.selectors import customer_named, plan_named
from subscriptions.services import changing, quoting
from subscriptions.services.experiments import enrolling

TIERS = [{"up_to": "1000", "unit_price": "0"}, {"up_to": None, "unit_price": "0.02"}]
QUOTE_EXAMPLES = [
    OpenApiExample(
        "A plan",
        value={"plan": "team", "quantity": "12", "usage": [{"component": "calls", "quantity": "25000"}]},
        request_only=True,
    ),
    OpenApiExample(
        "A price",
        value={"price": {"currency": "INR", "model": "graduated", "tiers": TIERS}, "quantity": "2500"},
        request_only=True,
    ),
    OpenApiExample(
        "A percentage of two payments",
        value={
            "price": {"currency": "INR", "model": "percentage",
                      "properties": {"rate": "2.5", "fixed_fee": "3", "max_per_event": "50"}},
            "quantity": "5000",
            "measured": {"events": 2, "values": ["1000", "4000"]},
        },
        request_only=True,
    ),
]  # fmt: skip


class QuoteView(TenantViewMixin, APIView):
    """What quantities cost, with the tiers behind it."""

    required_permissions = {"post": "plan.view"}

    @extend_schema(
        request=QuoteInput, responses=QuoteOutput, examples=QUOTE_EXAMPLES, tags=["plans"], operation_id="prices_quote"
    )
    def post(self, request: Request) -> Response:
        """Price a quantity. Nothing is written, but for the variant that a named customer is shown (``subscription.edit``)."""
        serializer = QuoteInput(data=request.data)
        serializer.is_valid(raise_exception=True)
        given = serializer.validated_data
        found = _of_price(given) if "price" in given else self._of_plan(given)
        return Response(QuoteOutput(found).data)

    def _of_plan(self, given: dict[str, Any]) -> quoting.Quote:
        plan = plan_named(self.organisation, given["plan"])
        currency, version, variant = given.get("currency", ""), None, ""
        if "customer" in given:
            customer = customer_named(self.organisation, given["customer"])
            currency = currency or customer.currency
            offer = self._shown(customer, plan)
            version = offer.version if offer is not None else None
            variant = offer.variant.code if offer is not None and offer.takes_part else ""
        quote = self._priced(given, plan_id=plan.pk, currency=currency, version=version)
        return replace(quote, variant=variant)

    def _shown(self, customer: Customer, plan: Plan) -> Offer | None:
        """What the customer is offered where an experiment is on; from now on always the same."""
        if not self.actor.may("subscription.edit"):
            raise PermissionRefused(permission="subscription.edit", field="customer")
        changing.version_for(organisation=self.organisation, plan_id=plan.pk)  # refuses a plan that is not offered
        return enrolling.enrol(
            organisation=self.organisation, customer_id=customer.pk, plan_id=plan.pk, channel="quote",
            at=clock.now(self.organisation),
        )  # fmt: skip

    def _priced(self, given: dict[str, Any], **about: Any) -> quoting.Quote:
        return quoting.quote(
            organisation=self.organisation,
            **about,
            quantity=int(given["quantity"]),
            add_ons={code: quantity for code, quantity in given.get("add_ons", {}).items() if quantity},
            usage=[quoting.measured(**item) for item in given.get("usage", [])],
        )


def _of_price(given: dict[str, Any]) -> quoting.Quote:
    price = given["price"]
    rule = pricing.parse_rule(
        model=price["model"], unit_price=price.get("unit_price"), tiers=price.get("tiers", ()),
        properties=price.get("properties"), prefix="price.",
    )  # fmt: skip
    component = Component(
        code="price", name="Price", currency=money.currency_of(price["currency"]).code, model=price["model"],
        unit_price=rule.unit_price, tiers=rule.tiers, parameters=rule.parameters,
    )  # fmt: skip
    events = quoting.measured(component="price", quantity=given["quantity"], **given.get("measured", {}))
    return quoting.quote_component(component=component, quantity=given["quantity"], measured=events)
