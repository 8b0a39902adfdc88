"""Test clocks: living through time on purpose."""

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_view
from rest_framework import mixins, serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from billing.api.base import StrictSerializer, TenantGenericViewSet
from billing.api.idempotency import idempotent
from billing.models import TestClock
from billing.services import test_clocks


class AdvanceInput(StrictSerializer):
    to = serializers.DateTimeField(help_text="Forward only.")
    step_hours = serializers.IntegerField(
        min_value=1, max_value=test_clocks.MAX_STEP_HOURS, default=24, help_text="How finely time is lived."
    )


class ProgressOutput(serializers.Serializer):
    at = serializers.CharField(help_text="End of the last step that was finished.", required=False)
    steps_done = serializers.IntegerField(required=False)
    steps_total = serializers.IntegerField(required=False)
    jobs = serializers.DictField(child=serializers.IntegerField(), required=False, help_text="What was done, by job.")


class TestClockOutput(serializers.ModelSerializer):
    __test__ = False
    progress = ProgressOutput()

    class Meta:
        model = TestClock
        fields = ["id", "name", "now", "status", "target", "started_from", "step_hours", "progress", "error"]


EXAMPLE = OpenApiExample("A day", value={"to": "2026-04-02T16:00:00Z", "step_hours": 24}, request_only=True)


@extend_schema_view(retrieve=extend_schema(tags=["test-clocks"]))
class TestClockViewSet(mixins.RetrieveModelMixin, TenantGenericViewSet):
    """The clock of an organisation that does not live on real time."""

    __test__ = False
    queryset = TestClock.objects.all()
    serializer_class = TestClockOutput
    required_permissions = {"retrieve": "test_clock.view", "advance": "test_clock.advance"}

    def get_queryset(self) -> QuerySet[Any]:
        if getattr(self, "swagger_fake_view", False):
            return TestClock.objects.none()
        return TestClock.objects.filter(organisations=self.organisation)

    @extend_schema(request=AdvanceInput, responses={202: TestClockOutput}, examples=[EXAMPLE], tags=["test-clocks"])
    @action(detail=True, methods=["post"])
    @idempotent(atomic=True)
    def advance(self, request: Request, pk: Any = None) -> Response:
        """Live until a later time: everything runs that would have run. Poll the clock until it is ready."""
        clock = test_clocks.advance(clock_id=self.get_object().pk, actor=self.actor, **self.valid(AdvanceInput))
        return Response(TestClockOutput(clock).data, status=status.HTTP_202_ACCEPTED)
