"""What every endpoint shares: the caller's organisation, permissions by name, scoped rows, amounts on the wire."""

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema_field
from moneyed import Money
from rest_framework import exceptions, mixins, permissions, serializers, viewsets
from rest_framework.request import Request

from billing import money
from billing.api.authentication import Caller
from billing.api.strict import misfit
from billing.context import Actor
from billing.models import Organisation


class NamedPermission(permissions.BasePermission):
    """Deny by default: the view names a permission for each action; an action without a name is refused."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if not getattr(request.user, "is_authenticated", False):
            raise exceptions.NotAuthenticated("Sign in, or send an API key.")
        if not isinstance(request.auth, Caller):
            raise exceptions.PermissionDenied("Name one of your organisations in the header Munim-Organisation.")
        if request.method not in view.allowed_methods:
            raise exceptions.MethodNotAllowed(request.method or "")
        action = getattr(view, "action", None) or (request.method or "").lower()
        if action in (None, "options", "metadata"):
            return True
        name = view.required_permissions.get(action)
        if name is None:
            return False
        if not request.auth.actor.may(name):
            raise exceptions.PermissionDenied(f"This needs the permission '{name}'.")
        return True


class TenantViewMixin:
    """``organisation`` and ``actor`` of the caller; ``required_permissions`` maps each action to a permission name."""

    permission_classes: Any = [NamedPermission]
    required_permissions: ClassVar[Mapping[str, str]] = {}
    throttle_scope: str = ""  # which limit counts; empty: reading or writing, by method
    request: Any
    idempotency_key: str = ""  # set by the ``idempotent`` decorator

    @property
    def organisation(self) -> Organisation:
        return self.request.auth.organisation  # type: ignore[union-attr]

    @property
    def actor(self) -> Actor:
        return self.request.auth.actor  # type: ignore[union-attr]


class TenantGenericViewSet(TenantViewMixin, viewsets.GenericViewSet):
    """Rows scoped to the caller's organisation: somebody else's id is a 404.

    Subclasses set ``queryset`` (unscoped), ``serializer_class`` and ``required_permissions``; writes are actions that
    validate an input serializer and call a service.
    """

    lookup_value_converter = "uuid"

    def get_queryset(self) -> QuerySet[Any]:
        queryset = super().get_queryset()
        if getattr(self, "swagger_fake_view", False):
            return queryset.none()
        return queryset.of(self.organisation)  # type: ignore[attr-defined]

    def filter_queryset(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Without a filter in the address there is none to read: the usual case, and worth not building forms for."""
        if not self.request.query_params.keys() - {"cursor", "limit"}:
            return queryset
        return super().filter_queryset(queryset)

    def valid(self, serializer_class: type[serializers.Serializer]) -> dict[str, Any]:
        """The request's body, checked by ``serializer_class``; raises a 422 problem otherwise."""
        serializer = serializer_class(data=self.request.data, context=self.get_serializer_context())
        serializer.is_valid(raise_exception=True)
        return serializer.validated_data


class TenantViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, TenantGenericViewSet):
    """List and detail of one table, scoped to the caller's organisation."""


MAX_NAMES = 50
NAME = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,60}")


class PlainJSONField(serializers.DictField):
    """An object of short texts by name, which the house keeps and does not read."""

    child = serializers.CharField(max_length=500, allow_blank=True)

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping) and not (len(data) <= MAX_NAMES and all(NAME.fullmatch(key) for key in data)):
            raise serializers.ValidationError(f"Give at most {MAX_NAMES} names of 1 to 60 printable characters.")
        return super().to_internal_value(data)


class StrictSerializer(serializers.Serializer):
    """Input that refuses unknown fields and wrong JSON types, so that nothing is silently ignored or reinterpreted."""

    def get_fields(self) -> dict[str, serializers.Field]:
        fields: dict[str, serializers.Field] = super().get_fields()
        for field in fields.values():
            _name_choices(field)
        return fields

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping):
            unknown = {name: ["This field is not known here."] for name in sorted(set(data) - set(self.fields))}
            wrong = {name: text for name, field in self.fields.items() if (text := misfit(field, data.get(name)))}
            if unknown or wrong:
                raise serializers.ValidationError(unknown | wrong)
        return super().to_internal_value(data)

    def run_validation(self, data: Any = serializers.empty) -> Any:
        """A list that may be null is still a list of objects: DRF takes ``allow_null`` of the list for its items too."""
        if data is None and isinstance(self.parent, serializers.ListSerializer):
            self.fail("null")
        return super().run_validation(data)


MOST_NAMED = 30


def _name_choices(field: serializers.Field) -> None:
    """Let a refused choice say what may be chosen."""
    chosen = getattr(field, "child", field)
    if isinstance(chosen, serializers.ChoiceField) and 0 < len(chosen.choices) <= MOST_NAMED:
        known = ", ".join(str(choice) for choice in chosen.choices if choice != "")
        known = known.replace("{", "{{").replace("}", "}}")
        chosen.error_messages = chosen.error_messages | {"invalid_choice": f'"{{input}}" is not one of: {known}.'}


class ReasonedChange(StrictSerializer):
    """A change of what was decided before: whoever makes it may say why, as the console's forms ask."""

    reason = serializers.CharField(
        max_length=500, required=False, allow_blank=True, help_text="Why; kept in the audit trail."
    )


AMOUNT = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,4})?")
MALFORMED = 'Expected {"amount": "499.00", "currency": "INR"} with the amount as a decimal string.'


@extend_schema_field(
    {
        "type": "object",
        "properties": {
            "amount": {"type": "string", "pattern": r"^-?\d{1,15}(\.\d{1,4})?$", "example": "499.00"},
            "currency": {"type": "string", "pattern": "^[A-Z]{3}$", "example": "INR"},
        },
        "required": ["amount", "currency"],
        "additionalProperties": False,
    }
)
class AmountSerializerField(serializers.Field):
    """``{"amount": "499.00", "currency": "INR"}`` on the wire, ``Money`` inside. Never a JSON number."""

    def __init__(self, *, positive: bool = True, **kwargs: Any) -> None:
        self.positive = positive
        super().__init__(**kwargs)

    def to_internal_value(self, data: Any) -> Money:
        if not isinstance(data, Mapping) or set(data) != {"amount", "currency"}:
            raise serializers.ValidationError(MALFORMED)
        if not isinstance(data["currency"], str) or not isinstance(data["amount"], str):
            raise serializers.ValidationError(MALFORMED)
        if not AMOUNT.fullmatch(data["amount"]):
            raise serializers.ValidationError(MALFORMED, code="invalid_amount")
        try:
            return money.parse_amount(data["amount"], data["currency"], positive=self.positive)
        except money.InvalidAmount as exc:
            raise serializers.ValidationError(str(exc), code=exc.code) from exc
        except money.UnknownCurrency as exc:
            raise serializers.ValidationError(str(exc), code=exc.code) from exc

    def to_representation(self, value: Money) -> dict[str, str]:
        return wire(value)


def wire(value: Money) -> dict[str, str]:
    """An amount for JSON: decimal string in the currency's own decimals, and the code."""
    code = value.currency.code
    return {"amount": f"{money.quantize(value.amount, code):f}", "currency": code}
