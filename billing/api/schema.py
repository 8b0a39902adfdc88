"""OpenAPI: names of operations and the problem responses every operation can give."""

import re
from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema

PROBLEM = {
    "type": "object",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "Stable; programs may switch on it."},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"field": {"type": "string"}, "code": {"type": "string"}, "message": {"type": "string"}},
            },
        },
        "correlation_id": {"type": "string"},
    },
    "required": ["type", "title", "status", "code", "detail"],
}
REASONS = {
    "400": "The request cannot be read.",
    "401": "No or wrong credentials.",
    "403": "A named permission is missing.",
    "404": "No such object in this organisation.",
    "405": "Method not allowed.",
    "406": "Only application/json is spoken.",
    "409": "The object's state does not allow this.",
    "415": "Send application/json.",
    "422": "A value was not accepted; ``errors`` names field and reason.",
    "429": "Too many requests; see Retry-After.",
}


READS = {"list": "List {}", "retrieve": "Show one of the {}"}


IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "A name of your own for this request: sent again under it, it happens once and is answered alike.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
    "example": "3f0c1c9e-order-1107",
}


class MunimAutoSchema(AutoSchema):
    """Adds a summary, the header of repeatable requests and problem+json answers to each operation."""

    def get_summary(self) -> str | None:
        """What the decorator says, else the first sentence of the method's text, else what lists and details do."""
        summary = super().get_summary()
        if summary:
            return summary
        action = getattr(self.view, "action", None) or self.method.lower()
        if action in READS:
            return READS[action].format(self.path.removesuffix("/{id}").rsplit("/", 1)[-1].replace("-", " "))
        text = " ".join((self._method().__doc__ or "").split())
        return re.split(r"(?<=[a-z)])[.:;] ", text)[0].rstrip(".") or None

    def get_operation(self, *args: Any, **kwargs: Any) -> Any:
        operation = super().get_operation(*args, **kwargs)
        if operation:
            if getattr(self._method(), "is_idempotent", False):
                operation.setdefault("parameters", []).append(IDEMPOTENCY_KEY)
            for status, reason in REASONS.items():
                operation["responses"].setdefault(
                    status, {"description": reason, "content": {"application/problem+json": {"schema": PROBLEM}}}
                )
        return operation

    def _method(self) -> Any:
        return getattr(self.view, getattr(self.view, "action", None) or self.method.lower())


class TokenScheme(OpenApiAuthenticationExtension):
    target_class = "billing.api.authentication.JWTAuthentication"
    name = "token"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {
            "type": "http",
            "scheme": "bearer",
            "description": "An access token of auth/login, or an API key (mk_…). Who belongs to several organisations "
            "names one in the header Munim-Organisation.",
        }


class ApiKeyScheme(OpenApiAuthenticationExtension):
    target_class = "billing.api.authentication.ApiKeyAuthentication"
    name = "apiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "apiKey", "in": "header", "name": "X-Api-Key", "description": "An API key (mk_…)."}
