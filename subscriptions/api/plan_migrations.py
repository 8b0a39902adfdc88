"""Moving subscribers to other prices: what it would do, deciding it, and how far it is."""

from typing import Any

from django_filters import rest_framework as filters
from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_view
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from billing.api.base import AmountSerializerField, StrictSerializer, TenantViewSet
from billing.api.idempotency import idempotent
from subscriptions.models import PlanMigration, PlanMigrationItem
from subscriptions.selectors import plan_named, version_of
from subscriptions.services import plan_migrations
from subscriptions.services.plan_migration_preview import preview_migration

TAGS = ["plan migrations"]
NUMBER = {"min_value": 1, "max_value": 32_767, "required": False, "allow_null": True}
WHEN = PlanMigration.When


class MovesInput(StrictSerializer):
    """From a plan (or one of its versions) to a version of it or of another plan."""

    from_plan = serializers.CharField(max_length=60, help_text="Code or id.")
    from_version = serializers.IntegerField(help_text="Number of the version; default: all others.", **NUMBER)
    to_plan = serializers.CharField(max_length=60, required=False, help_text="Code or id; default: the same plan.")
    to_version = serializers.IntegerField(help_text="Number of the version; default: the newest.", **NUMBER)


class PlanMigrationInput(MovesInput):
    when = serializers.ChoiceField(
        choices=WHEN.choices, default=WHEN.RENEWAL,
        help_text="now: with proration; renewal: each at the end of its period; date: each with its first period from starts_at on.",
    )  # fmt: skip
    starts_at = serializers.DateTimeField(required=False, help_text="With when=date.")
    prorate = serializers.BooleanField(
        default=True, help_text="With when=now: credit and charge the rest of the period."
    )
    reason = serializers.CharField(max_length=200, required=False, allow_blank=True)


class MigrationReasonInput(StrictSerializer):
    reason = serializers.CharField(max_length=200, required=False, allow_blank=True)


class SumsOutput(serializers.Serializer):
    currency = serializers.CharField()
    count = serializers.IntegerField()
    before = AmountSerializerField(help_text="Monthly recurring revenue.")
    after = AmountSerializerField()
    difference = AmountSerializerField()


class WarningOutput(serializers.Serializer):
    code = serializers.CharField()
    message = serializers.CharField()
    count = serializers.IntegerField()
    examples = serializers.ListField(child=serializers.CharField(), help_text="External ids of some of them.")


class MigrationPreviewOutput(serializers.Serializer):
    count = serializers.IntegerField(help_text="Subscriptions that would be moved.")
    sums = SumsOutput(many=True)
    dearer = serializers.IntegerField(help_text="Subscriptions that would pay more than before.")
    cheaper = serializers.IntegerField()
    warnings = WarningOutput(many=True)


class PlanMigrationOutput(serializers.ModelSerializer):
    from_plan = serializers.CharField(source="from_plan.code")
    from_version = serializers.IntegerField(source="from_version.number", default=None, allow_null=True)
    to_plan = serializers.CharField(source="to_version.plan.code")
    to_version = serializers.IntegerField(source="to_version.number")

    class Meta:
        model = PlanMigration
        fields = [
            "id", "status", "from_plan", "from_version", "to_plan", "to_version", "when", "starts_at", "prorate", "reason", "actor",
            "total_count", "moved_count", "failed_count", "created_at", "finished_at", "error",
        ]  # fmt: skip


class ItemOutput(serializers.ModelSerializer):
    subscription = serializers.CharField(source="subscription.external_id", help_text="External id.")
    subscription_id = serializers.UUIDField()
    mrr_before = serializers.DecimalField(max_digits=19, decimal_places=4)
    mrr_after = serializers.DecimalField(max_digits=19, decimal_places=4)

    class Meta:
        model = PlanMigrationItem
        fields = [
            "id", "subscription", "subscription_id", "status", "reason", "currency", "mrr_before", "mrr_after", "done_at",
        ]  # fmt: skip


class PlanMigrationFilter(filters.FilterSet):
    status = filters.ChoiceFilter(choices=PlanMigration.Status.choices)
    plan = filters.CharFilter(field_name="from_plan__code", max_length=60)


EXAMPLE = OpenApiExample(
    "Everybody to the newest version, at renewal", value={"from_plan": "team", "when": "renewal"}, request_only=True
)

WHY = OpenApiExample("With a reason", value={"reason": "The price in dollars is there now"}, request_only=True)
MOVES = OpenApiExample("Everybody to the newest version", value={"from_plan": "team"}, request_only=True)


@extend_schema_view(list=extend_schema(tags=TAGS), retrieve=extend_schema(tags=TAGS))
class PlanMigrationViewSet(TenantViewSet):
    """Moves of subscribers to other prices."""

    queryset = PlanMigration.objects.select_related("from_plan", "from_version", "to_version__plan")
    serializer_class = PlanMigrationOutput
    filterset_class = PlanMigrationFilter
    required_permissions = {
        "list": "plan.view",
        "retrieve": "plan.view",
        "items": "plan.view",
        "preview": "plan.view",
    } | dict.fromkeys(("create", "cancel", "retry"), "plan.edit")

    @extend_schema(request=PlanMigrationInput, responses={202: PlanMigrationOutput}, examples=[EXAMPLE], tags=TAGS)
    @idempotent(atomic=True)
    def create(self, request: Request) -> Response:
        """Decide a migration; a worker carries it out, ask for its progress by its id."""
        given = self.valid(PlanMigrationInput)
        chosen = {name: given[name] for name in ("when", "starts_at", "prorate", "reason") if name in given}
        migration = plan_migrations.plan_migration(
            organisation=self.organisation, actor=self.actor, **self._named(given), **chosen
        )
        return Response(self.get_serializer(migration).data, status=status.HTTP_202_ACCEPTED)

    @extend_schema(request=MovesInput, responses=MigrationPreviewOutput, examples=[MOVES], tags=TAGS)
    @action(detail=False, methods=["post"])
    def preview(self, request: Request) -> Response:
        """Who would be moved, what they would pay, and what stands in the way; nothing is written."""
        found = preview_migration(organisation=self.organisation, **self._named(self.valid(MovesInput)))
        return Response(MigrationPreviewOutput(found).data)

    @extend_schema(responses=ItemOutput(many=True), tags=TAGS, filters=False)
    @action(detail=True, methods=["get"])
    def items(self, request: Request, pk: Any = None) -> Response:
        """What became of each subscription, newest first."""
        items = self.get_object().items.select_related("subscription")
        page = self.paginate_queryset(items)
        return self.get_paginated_response(ItemOutput(page, many=True).data)

    @extend_schema(request=MigrationReasonInput, responses=PlanMigrationOutput, examples=[WHY], tags=TAGS)
    @action(detail=True, methods=["post"])
    @idempotent(atomic=True)
    def cancel(self, request: Request, pk: Any = None) -> Response:
        """Give a migration up that has not begun."""
        return self._act(plan_migrations.cancel_migration)

    @extend_schema(request=MigrationReasonInput, responses=PlanMigrationOutput, examples=[WHY], tags=TAGS)
    @action(detail=True, methods=["post"])
    @idempotent(atomic=True)
    def retry(self, request: Request, pk: Any = None) -> Response:
        """Try again what was refused, once its causes are mended."""
        return self._act(plan_migrations.retry_refused)

    def _act(self, service: Any) -> Response:
        migration = self.get_object()
        service(migration_id=migration.pk, actor=self.actor, **self.valid(MigrationReasonInput))
        return Response(self.get_serializer(self.get_queryset().get(pk=migration.pk)).data)

    def _named(self, given: dict[str, Any]) -> dict[str, Any]:
        """Plan and versions that were named."""
        source = plan_named(self.organisation, given["from_plan"], field="from_plan")
        target = plan_named(self.organisation, given["to_plan"], field="to_plan") if "to_plan" in given else source
        number = given.get("from_version")
        return {
            "from_plan": source,
            "from_version": version_of(source, number, field="from_version") if number else None,
            "to_version": version_of(target, given.get("to_version"), field="to_version"),
        }
