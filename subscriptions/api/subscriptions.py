"""Subscriptions: begin, change, pause, resume, cancel, and what they would cost."""

from datetime import datetime
from typing import Any

from django.db.models import Prefetch, QuerySet
from django_filters import rest_framework as filters
from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_view
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from billing.api.base import TenantViewSet
from billing.api.idempotency import idempotent
from subscriptions.api import life_shapes as asked
from subscriptions.api import serializers as shapes
from subscriptions.models import PlannedChange, PlanVersion, Subscription
from subscriptions.rules import Term
from subscriptions.selectors import customer_named, ending_before, periods_of, plan_named, renewing_before
from subscriptions.services import acting, changing, paying, preview
from subscriptions.services.agreements import Agreement
from subscriptions.services.documents import Issued
from subscriptions.services.preview import Preview

TAGS = ["subscriptions"]
PLANNED = Prefetch(
    "changes",
    PlannedChange.objects.filter(status=PlannedChange.Status.PLANNED).select_related("plan_version__plan"),
    to_attr="planned",
)


class SubscriptionFilter(filters.FilterSet):
    status = filters.ChoiceFilter(choices=Subscription.Status.choices)
    customer = filters.UUIDFilter(field_name="customer_id")
    plan = filters.CharFilter(field_name="plan_version__plan__code", max_length=60)
    external_id = filters.CharFilter(max_length=100)
    currency = filters.CharFilter(max_length=3)
    ends_before = filters.IsoDateTimeFilter(
        method="_ends_before", help_text="Ends before this time, as agreed or by a cancellation: nothing follows."
    )
    renews_before = filters.IsoDateTimeFilter(method="_renews_before", help_text="Its term renews itself before then.")

    def _ends_before(self, rows: QuerySet[Subscription], name: str, value: datetime) -> QuerySet[Subscription]:
        return rows.filter(ending_before(value))

    def _renews_before(self, rows: QuerySet[Subscription], name: str, value: datetime) -> QuerySet[Subscription]:
        return rows.filter(renewing_before(value))


def example(name: str, value: dict[str, Any]) -> list[OpenApiExample]:
    return [OpenApiExample(name, value=value, request_only=True)]


DRAFT_AHEAD = OpenApiExample(
    "A draft in its grace, with usage that came late",
    value={
        "drafts": [
            {
                "at": "2026-05-03T18:30:00Z", "invoice": "01900000-0000-7000-8000-000000000001",
                "period_start": "2026-05-01", "period_end": "2026-05-31",
                "lines": [
                    {"description": "Calls", "code": "calls", "quantity": "15", "unit_price": "2.00",
                     "amount": {"amount": "30.00", "currency": "INR"}, "tax_rate": "0",
                     "tax": {"amount": "0.00", "currency": "INR"}},
                ],
                "net": {"amount": "30.00", "currency": "INR"}, "tax": {"amount": "0.00", "currency": "INR"},
                "total": {"amount": "30.00", "currency": "INR"}, "total_now": {"amount": "20.00", "currency": "INR"},
                "failure": "",
            }
        ],
        "invoices": [], "credits": [], "events": [],
    },
    response_only=True,
)  # fmt: skip


@extend_schema_view(list=extend_schema(tags=TAGS), retrieve=extend_schema(tags=TAGS))
class SubscriptionViewSet(TenantViewSet):
    """Running agreements of customers to plans."""

    queryset = Subscription.objects.select_related("plan_version__plan").prefetch_related(PLANNED)
    serializer_class = shapes.SubscriptionOutput
    filterset_class = SubscriptionFilter
    required_permissions = {
        "list": "subscription.view",
        "retrieve": "subscription.view",
        "periods": "subscription.view",
        "preview": "subscription.view",
    } | dict.fromkeys(
        (
            "create",
            "partial_update",
            "change",
            "cancel_change",
            "pause",
            "resume",
            "cancel",
            "uncancel",
            "change_end",
            "change_term",
            "suspend",
            "reactivate",
        ),
        "subscription.edit",
    )

    @extend_schema(
        request=shapes.SubscriptionInput,
        responses={201: shapes.SubscriptionOutput},
        examples=example("Twelve seats", {"customer": "family-0001", "plan": "team", "quantity": 12}),
        tags=TAGS,
    )
    @idempotent(atomic=True)
    def create(self, request: Request) -> Response:
        """Begin a subscription; what is due at once is billed."""
        agreed = self._agreed(self.valid(shapes.SubscriptionInput))
        subscription = acting.subscribe(organisation=self.organisation, actor=self.actor, **agreed)
        return Response(self._shown(subscription), status=status.HTTP_201_CREATED)

    @extend_schema(
        request=asked.PaymentChange,
        responses=shapes.SubscriptionOutput,
        examples=example("By invoice from now on", {"collect_automatically": False, "net_days": 30}),
        tags=TAGS,
    )
    def partial_update(self, request: Request, pk: Any = None) -> Response:
        """Change payment method, collection, net days or metadata, for the invoices that come."""
        changes = self.valid(asked.PaymentChange)
        reason = changes.pop("reason", "")
        if "payment_method" in changes:
            changes["method_id"] = changes.pop("payment_method")
        changed = paying.change_payment(
            subscription_id=self.get_object().pk, actor=self.actor, changes=changes, reason=reason
        )
        return Response(self._shown(changed))

    @extend_schema(
        request=asked.ChangeInput,
        responses=shapes.ActionOutput,
        examples=example("Three seats more, now", {"quantity": 15, "when": "now"}),
        tags=TAGS,
    )
    @action(detail=True, methods=["post"])
    @idempotent(atomic=True)
    def change(self, request: Request, pk: Any = None) -> Response:
        """Change plan or quantity: now with proration, at the end of the paid period, by value, or on a date."""
        options = self._change(self.valid(asked.ChangeInput))
        changed = acting.change(**self._who(), **options)
        return self._done(changed.subscription, changed.issued)

    @extend_schema(
        request=asked.CancelChangeInput,
        responses=shapes.ActionOutput,
        examples=example("All of them", {}),
        tags=TAGS,
    )
    @action(detail=True, methods=["post"], url_path="cancel-change")
    @idempotent(atomic=True)
    def cancel_change(self, request: Request, pk: Any = None) -> Response:
        """Take planned changes and pauses back: one, or all."""
        given = self.valid(asked.CancelChangeInput)
        taken_back = {"change_id": given.get("change"), "reason": given.get("reason", "")}
        return self._done(acting.cancel_planned_change(**self._who(), **taken_back))

    @extend_schema(
        request=asked.PauseInput,
        responses=shapes.ActionOutput,
        examples=example("Until a day", {"resume_at": "2027-01-15T00:00:00Z", "reason": "Holidays"}),
        tags=TAGS,
    )
    @action(detail=True, methods=["post"])
    @idempotent(atomic=True)
    def pause(self, request: Request, pk: Any = None) -> Response:
        """Bill nothing from now or a date on, until it is resumed by hand or at a time."""
        paused = acting.pause(**self._who(), **self.valid(asked.PauseInput))
        return self._done(paused.subscription, paused.issued)

    @extend_schema(
        request=asked.ResumeInput,
        responses=shapes.ActionOutput,
        examples=example("On a day", {"on": "2027-01-15T00:00:00Z", "reason": "Back from holidays"}),
        tags=TAGS,
    )
    @action(detail=True, methods=["post"])
    @idempotent(atomic=True)
    def resume(self, request: Request, pk: Any = None) -> Response:
        """Bill again, now or from a date on: from the end of the paid period, or for the rest of the running one."""
        return self._done(acting.resume(**self._who(), **self.valid(asked.ResumeInput)))

    @extend_schema(
        request=asked.CancelInput,
        responses=shapes.ActionOutput,
        examples=example("Now, with a credit", {"when": "now", "credit": "prorated", "reason": "Moved away"}),
        tags=TAGS,
    )
    @action(detail=True, methods=["post"])
    @idempotent(atomic=True)
    def cancel(self, request: Request, pk: Any = None) -> Response:
        """End it now, at the end of the paid period or the term, or on a date; with credit, refund or neither."""
        ended = acting.cancel(**self._who(), **self.valid(asked.CancelInput))
        return self._done(ended.subscription, ended.issued)

    @extend_schema(
        request=asked.EndInput,
        responses=shapes.ActionOutput,
        examples=example("A year longer", {"ends_at": "2028-03-31T12:00:00Z", "reason": "Signed for another year"}),
        tags=TAGS,
    )
    @action(detail=True, methods=["post"], url_path="change-end")
    @idempotent(atomic=True)
    def change_end(self, request: Request, pk: Any = None) -> Response:
        """Give it a fixed end, move it, or take it away; what is charged past it stays paid or is given back."""
        ended = acting.change_end(**self._who(), **self.valid(asked.EndInput))
        return self._done(ended.subscription, ended.issued)

    @extend_schema(
        request=asked.TermInput,
        responses=shapes.ActionOutput,
        examples=[
            *example("It does not renew", {"renews": False, "reason": "Gave notice"}),
            *example(
                "A year from the next term on", {"term": {"interval": "year", "notice_days": 30}, "when": "term_end"}
            ),
            *example("Twice more", {"renewals": 2}),
        ],
        tags=TAGS,
    )
    @action(detail=True, methods=["post"], url_path="change-term")
    @idempotent(atomic=True)
    def change_term(self, request: Request, pk: Any = None) -> Response:
        """Change its term: another one, now or after this; whether, or how often, it renews itself."""
        changed = acting.change_term(**self._who(), **self.valid(asked.TermInput))
        return self._done(changed.subscription, changed.issued)

    @extend_schema(
        request=asked.DecisionInput,
        responses=shapes.ActionOutput,
        examples=example("With a reason", {"reason": "Stays after all"}),
        tags=TAGS,
    )
    @action(detail=True, methods=["post"])
    @idempotent(atomic=True)
    def uncancel(self, request: Request, pk: Any = None) -> Response:
        """Take a planned cancellation back."""
        return self._done(acting.uncancel(**self._who(), **self.valid(asked.DecisionInput)))

    @extend_schema(
        request=asked.DecisionInput,
        responses=shapes.ActionOutput,
        examples=example("With a reason", {"reason": "Fraud suspected"}),
        tags=TAGS,
    )
    @action(detail=True, methods=["post"])
    @idempotent(atomic=True)
    def suspend(self, request: Request, pk: Any = None) -> Response:
        """Stop serving and billing until it is paid, or reactivated."""
        return self._done(acting.suspend(**self._who(), **self.valid(asked.DecisionInput)))

    @extend_schema(
        request=asked.DecisionInput,
        responses=shapes.ActionOutput,
        examples=example("With a reason", {"reason": "Came back"}),
        tags=TAGS,
    )
    @action(detail=True, methods=["post"])
    @idempotent(atomic=True)
    def reactivate(self, request: Request, pk: Any = None) -> Response:
        """Take up what was suspended, or cancelled within the time that is paid for."""
        return self._done(acting.reactivate(**self._who(), **self.valid(asked.DecisionInput)))

    @extend_schema(responses=shapes.PeriodOutput(many=True), tags=TAGS, filters=False)
    @action(detail=True, methods=["get"])
    def periods(self, request: Request, pk: Any = None) -> Response:
        """What was billed, period by period, newest first."""
        page = self.paginate_queryset(periods_of(self.get_object()))
        return self.get_paginated_response(shapes.PeriodOutput(page, many=True).data)

    @extend_schema(
        request=shapes.PreviewInput,
        responses=shapes.PreviewOutput,
        examples=[
            *example("A subscription to be", {"new": {"customer": "family-0001", "plan": "team"}, "count": 2}),
            DRAFT_AHEAD,
        ],
        tags=TAGS,
    )
    @action(detail=False, methods=["post"])
    def preview(self, request: Request) -> Response:
        """What a new subscription, or anything asked of one, would bill and bring about; nothing is written."""
        given = self.valid(shapes.PreviewInput)
        count = given.pop("count")
        name, options = next(iter(given.items()))
        if name == "new":
            agreement = Agreement(**self._agreed(options))
            found = preview.preview_new(organisation=self.organisation, agreement=agreement, count=count)
        else:
            found = self._previewed(name, dict(options), count)
        return Response(shapes.PreviewOutput(found).data)

    def _previewed(self, name: str, options: dict[str, Any], count: int) -> Preview:
        about = {"organisation": self.organisation, "subscription_id": options.pop("subscription"), "count": count}
        if name == "change":
            return preview.preview_change(**about, **self._change(options))
        if "change" in options:
            options["change_id"] = options.pop("change")
        return preview.preview_action(action=name, **about, **options)

    def _who(self) -> dict[str, Any]:
        """Which subscription is meant, and who asks."""
        return {"organisation": self.organisation, "subscription_id": self.get_object().pk, "actor": self.actor}

    def _change(self, given: dict[str, Any]) -> dict[str, Any]:
        """The options of a change, with the plan looked up."""
        options = {name: value for name, value in given.items() if name != "plan"}
        return options | {"version": self._version(given)}

    def _agreed(self, given: dict[str, Any]) -> dict[str, Any]:
        """The fields of an agreement, with customer and plan looked up."""
        agreed = dict(given)
        if "term" in agreed:
            agreed["term"] = Term(**agreed["term"])
        agreed["customer_id"] = customer_named(self.organisation, agreed.pop("customer")).pk
        agreed["plan_id"] = plan_named(self.organisation, agreed.pop("plan")).pk
        for name in ("beneficiary", "payment_method"):
            if name in agreed:
                agreed[{"beneficiary": "beneficiary_id", "payment_method": "method_id"}[name]] = agreed.pop(name)
        return agreed

    def _version(self, given: dict[str, Any]) -> PlanVersion | None:
        if "plan" not in given:
            return None
        plan = plan_named(self.organisation, given["plan"])
        return changing.version_for(organisation=self.organisation, plan_id=plan.pk)

    def _shown(self, subscription: Subscription) -> dict[str, Any]:
        return self.get_serializer(self.get_queryset().get(pk=subscription.pk)).data

    def _done(self, subscription: Subscription, issued: Issued | None = None) -> Response:
        documents = shapes.IssuedOutput(issued or Issued()).data
        return Response({**self._shown(subscription), "documents": documents})
