"""Subscriptions: begin, change, pause, resume, cancel, and what they would cost."""

from typing import Any

from django.db.models import Prefetch
from django_filters import rest_framework as filters
from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_view
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from billing.api.base import TenantViewSet
from billing.api.idempotency import idempotent
from subscriptions.api import serializers as shapes
from subscriptions.models import PlannedChange, PlanVersion, Subscription
from subscriptions.selectors import customer_named, periods_of, plan_named
from subscriptions.services import acting, changing, lifecycle, preview
from subscriptions.services.documents import Issued
from subscriptions.services.lifecycle import Agreement

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


def example(name: str, value: dict[str, Any]) -> list[OpenApiExample]:
    return [OpenApiExample(name, value=value, request_only=True)]


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
        ("create", "change", "cancel_change", "pause", "resume", "cancel", "uncancel"), "subscription.edit"
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
        request=shapes.ChangeInput,
        responses=shapes.ActionOutput,
        examples=example("Three seats more, now", {"quantity": 15, "when": "now"}),
        tags=TAGS,
    )
    @action(detail=True, methods=["post"])
    @idempotent(atomic=True)
    def change(self, request: Request, pk: Any = None) -> Response:
        """Change plan or quantity, now with proration or at the end of the paid period."""
        given = self.valid(shapes.ChangeInput)
        changed = acting.change(
            organisation=self.organisation,
            subscription_id=self.get_object().pk,
            actor=self.actor,
            version=self._version(given),
            quantity=given.get("quantity"),
            when=given["when"],
            prorate=given["prorate"],
        )
        return self._done(changed.subscription, changed.issued)

    @extend_schema(request=None, responses=shapes.ActionOutput, tags=TAGS)
    @action(detail=True, methods=["post"], url_path="cancel-change")
    @idempotent(atomic=True)
    def cancel_change(self, request: Request, pk: Any = None) -> Response:
        """Take a planned change back."""
        return self._done(changing.cancel_planned_change(subscription_id=self.get_object().pk, actor=self.actor))

    @extend_schema(
        request=shapes.PauseInput,
        responses=shapes.ActionOutput,
        examples=example("Until a day", {"resume_at": "2027-01-15T00:00:00Z", "reason": "Holidays"}),
        tags=TAGS,
    )
    @action(detail=True, methods=["post"])
    @idempotent(atomic=True)
    def pause(self, request: Request, pk: Any = None) -> Response:
        """Bill nothing until it is resumed, by hand or at a time."""
        given = self.valid(shapes.PauseInput)
        paused = acting.pause(
            organisation=self.organisation, subscription_id=self.get_object().pk, actor=self.actor, **given
        )
        return self._done(paused.subscription, paused.issued)

    @extend_schema(request=None, responses=shapes.ActionOutput, tags=TAGS)
    @action(detail=True, methods=["post"])
    @idempotent(atomic=True)
    def resume(self, request: Request, pk: Any = None) -> Response:
        """Bill again: from the end of the paid period, or at once for the rest of the running one."""
        subscription_id = self.get_object().pk
        return self._done(
            acting.resume(organisation=self.organisation, subscription_id=subscription_id, actor=self.actor)
        )

    @extend_schema(
        request=shapes.CancelInput,
        responses=shapes.ActionOutput,
        examples=example("Now, with a credit", {"when": "now", "credit": "prorated", "reason": "Moved away"}),
        tags=TAGS,
    )
    @action(detail=True, methods=["post"])
    @idempotent(atomic=True)
    def cancel(self, request: Request, pk: Any = None) -> Response:
        """End it now, with or without a credit for the days after today, or at the end of the paid period."""
        given = self.valid(shapes.CancelInput)
        ended = acting.cancel(
            organisation=self.organisation, subscription_id=self.get_object().pk, actor=self.actor, **given
        )
        return self._done(ended.subscription, ended.issued)

    @extend_schema(request=None, responses=shapes.ActionOutput, tags=TAGS)
    @action(detail=True, methods=["post"])
    @idempotent(atomic=True)
    def uncancel(self, request: Request, pk: Any = None) -> Response:
        """Take a planned cancellation back."""
        return self._done(lifecycle.uncancel(subscription_id=self.get_object().pk, actor=self.actor))

    @extend_schema(responses=shapes.PeriodOutput(many=True), tags=TAGS, filters=False)
    @action(detail=True, methods=["get"])
    def periods(self, request: Request, pk: Any = None) -> Response:
        """What was billed, period by period, newest first."""
        page = self.paginate_queryset(periods_of(self.get_object()))
        return self.get_paginated_response(shapes.PeriodOutput(page, many=True).data)

    @extend_schema(
        request=shapes.PreviewInput,
        responses=shapes.PreviewOutput,
        examples=example("A subscription to be", {"new": {"customer": "family-0001", "plan": "team"}, "count": 2}),
        tags=TAGS,
    )
    @action(detail=False, methods=["post"])
    def preview(self, request: Request) -> Response:
        """What a new subscription, a change or the next renewals would bill; nothing is written."""
        given = self.valid(shapes.PreviewInput)
        if "new" in given:
            agreement = Agreement(**self._agreed(given["new"]))
            found = preview.preview_new(organisation=self.organisation, agreement=agreement, count=given["count"])
        else:
            change = given["change"]
            found = preview.preview_change(
                organisation=self.organisation,
                subscription_id=change["subscription"],
                version=self._version(change),
                quantity=change.get("quantity"),
                when=change["when"],
                prorate=change["prorate"],
                count=given["count"],
            )
        return Response(shapes.PreviewOutput(found).data)

    def _agreed(self, given: dict[str, Any]) -> dict[str, Any]:
        """The fields of an agreement, with customer and plan looked up."""
        agreed = dict(given)
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
