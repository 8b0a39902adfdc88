"""Price experiments: set up, run, ask, read, decide."""

from typing import Any

from django.db.models import Prefetch
from django_filters import rest_framework as filters
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from billing.api.base import TenantViewMixin, TenantViewSet
from billing.api.idempotency import idempotent
from billing.errors import NotFound
from subscriptions.api import experiment_shapes as shapes
from subscriptions.models import Experiment, ExperimentVariant
from subscriptions.selectors import as_uuid, customer_named, plan_named
from subscriptions.services.experiments import drafting, enrolling, running

TAGS = ["experiments"]
VARIANTS = Prefetch("variants", ExperimentVariant.objects.select_related("version__plan"))
DRAFT = {
    "code": "team-price", "name": "Team at 549", "plan": "team", "allocation_percent": 50,
    "variants": [{"code": "today", "version": 1, "weight": 50}, {"code": "dearer", "version": 2, "weight": 50}],
}  # fmt: skip
PLANNED = {"baseline_rate": "0.08", "minimum_effect": "0.02"}


def example(name: str, value: dict[str, Any]) -> list[OpenApiExample]:
    return [OpenApiExample(name, value=value, request_only=True)]


class ExperimentFilter(filters.FilterSet):
    status = filters.ChoiceFilter(choices=Experiment.Status.choices)
    plan = filters.CharFilter(field_name="plan__code", max_length=60)
    code = filters.CharFilter(max_length=60)


@extend_schema_view(list=extend_schema(tags=TAGS), retrieve=extend_schema(tags=TAGS))
class ExperimentViewSet(TenantViewSet):
    """Comparisons of prices among those who come to subscribe to a plan."""

    queryset = Experiment.objects.select_related("plan", "chosen").prefetch_related(VARIANTS)
    serializer_class = shapes.ExperimentOutput
    filterset_class = ExperimentFilter
    required_permissions = {
        "list": "plan.view",
        "retrieve": "plan.view",
        "figures": "plan.view",
        "exposures": "plan.view",
        "sample": "plan.view",
    } | dict.fromkeys(("create", "partial_update", "start", "reweigh", "stop", "conclude"), "plan.edit")

    @extend_schema(
        request=shapes.ExperimentInput, responses={201: shapes.ExperimentOutput}, examples=example("Two prices", DRAFT),
        tags=TAGS,
    )  # fmt: skip
    @idempotent(atomic=True)
    def create(self, request: Request) -> Response:
        """Draft an experiment on a plan, between versions of it and of other plans."""
        experiment = drafting.create_experiment(
            organisation=self.organisation, actor=self.actor, **self._named(self.valid(shapes.ExperimentInput))
        )
        return Response(self._shown(experiment), status=status.HTTP_201_CREATED)

    @extend_schema(
        request=shapes.ExperimentChange, responses=shapes.ExperimentOutput,
        examples=example("Fewer customers", {"allocation_percent": 20}), tags=TAGS,
    )  # fmt: skip
    def partial_update(self, request: Request, pk: Any = None) -> Response:
        """Change a draft; what runs stays as it was said."""
        changes = self._named(self.valid(shapes.ExperimentChange))
        experiment_id = self.get_object().pk
        experiment = drafting.edit_experiment(experiment_id=experiment_id, actor=self.actor, **changes)
        return Response(self._shown(experiment))

    @extend_schema(
        request=shapes.StartInput, responses=shapes.ExperimentOutput,
        examples=example("From 8 %, to find two points", PLANNED), tags=TAGS,
    )  # fmt: skip
    @action(detail=True, methods=["post"])
    @idempotent(atomic=True)
    def start(self, request: Request, pk: Any = None) -> Response:
        """Begin to assign customers, and fix the sample and the effect by which it is decided."""
        return self._act(running.start_experiment, self.valid(shapes.StartInput))

    @extend_schema(
        request=shapes.ReweighInput, responses=shapes.ExperimentOutput,
        examples=example("More carefully", {"allocation_percent": 10, "reason": "Complaints about the price"}), tags=TAGS,
    )  # fmt: skip
    @action(detail=True, methods=["post"])
    @idempotent(atomic=True)
    def reweigh(self, request: Request, pk: Any = None) -> Response:
        """Assign new customers by other shares. Who was shown a price keeps it; the figures say that it was done."""
        return self._act(running.reweigh, self.valid(shapes.ReweighInput))

    @extend_schema(
        request=shapes.StopInput, responses=shapes.ExperimentOutput,
        examples=example("Enough", {"reason": "The sample is full"}), tags=TAGS,
    )  # fmt: skip
    @action(detail=True, methods=["post"])
    @idempotent(atomic=True)
    def stop(self, request: Request, pk: Any = None) -> Response:
        """Assign nobody new. Who was shown a price still gets it, until it is concluded."""
        return self._act(running.stop_experiment, self.valid(shapes.StopInput))

    @extend_schema(
        request=shapes.ConcludeInput, responses=shapes.ExperimentOutput,
        examples=example("As it was", {"variant": "today", "reason": "No difference shown"}), tags=TAGS,
    )  # fmt: skip
    @action(detail=True, methods=["post"])
    @idempotent(atomic=True)
    def conclude(self, request: Request, pk: Any = None) -> Response:
        """Decide for a variant and keep the figures. Everybody gets what the plan offers from then on."""
        return self._act(running.conclude_experiment, self.valid(shapes.ConcludeInput))

    @extend_schema(responses=shapes.FiguresOutput, tags=TAGS, filters=False)
    @action(detail=True, methods=["get"])
    def figures(self, request: Request, pk: Any = None) -> Response:
        """What came of it, and what may be said of it. Reading before the sample is full is counted: it raises the risk of error."""
        return Response(shapes.FiguresOutput(running.read_figures(experiment=self.get_object())).data)

    @extend_schema(responses=shapes.ExposureOutput(many=True), tags=TAGS, filters=False)
    @action(detail=True, methods=["get"])
    def exposures(self, request: Request, pk: Any = None) -> Response:
        """Who was shown what, newest first."""
        page = self.paginate_queryset(running.exposures_of(self.get_object()))
        return self.get_paginated_response(shapes.ExposureOutput(page, many=True).data)

    @extend_schema(
        request=shapes.SampleInput, responses=shapes.SampleOutput,
        examples=example("From 8 %, to find two points", PLANNED), tags=TAGS,
    )  # fmt: skip
    @action(detail=False, methods=["post"])
    def sample(self, request: Request) -> Response:
        """How many customers a plan takes; nothing is written."""
        given = self.valid(shapes.SampleInput)
        count = given.pop("variants")
        return Response(shapes.SampleOutput({"sample": running.needed_sample(variant_count=count, **given)}).data)

    def _act(self, service: Any, given: dict[str, Any]) -> Response:
        experiment = service(experiment_id=self.get_object().pk, actor=self.actor, **given)
        return Response(self._shown(experiment))

    def _shown(self, experiment: Experiment) -> dict[str, Any]:
        return self.get_serializer(self.get_queryset().get(pk=experiment.pk)).data

    def _named(self, given: dict[str, Any]) -> dict[str, Any]:
        """What was given, with the plan looked up."""
        found = shapes.variant_inputs(given)
        if "plan" in found:
            found["plan"] = plan_named(self.organisation, found["plan"])
        return found


class AssignView(TenantViewMixin, APIView):
    """Which prices a customer is shown."""

    required_permissions = {"post": "subscription.edit"}

    @extend_schema(
        request=shapes.AssignInput,
        responses=shapes.AssignmentOutput,
        parameters=[OpenApiParameter("id", OpenApiTypes.STR, "path", description="Code or id of the experiment.")],
        examples=example("A customer who looks at the prices", {"customer": "family-0001"}),
        tags=TAGS,
        operation_id="experiments_assign",
    )
    @idempotent(atomic=True)
    def post(self, request: Request, id: str) -> Response:
        """Assign the customer: once, and from then on always the same. Ask where the price is shown."""
        serializer = shapes.AssignInput(data=request.data)
        serializer.is_valid(raise_exception=True)
        mine = Experiment.objects.of(self.organisation).select_related("plan")
        pk = as_uuid(id)
        experiment = mine.filter(code=id).first() or (mine.filter(pk=pk).first() if pk else None)
        if experiment is None:
            raise NotFound(f"There is no experiment '{id}' in this organisation.")
        customer = customer_named(self.organisation, serializer.validated_data["customer"])
        return Response(shapes.AssignmentOutput(enrolling.assign(experiment=experiment, customer=customer)).data)
