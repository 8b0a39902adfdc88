"""OpenAPI: names of operations and the problem responses every operation can give."""

from typing import Any

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


class MunimAutoSchema(AutoSchema):
    """Adds problem+json answers to each operation."""

    def get_operation(self, *args: Any, **kwargs: Any) -> Any:
        operation = super().get_operation(*args, **kwargs)
        if operation:
            for status, reason in REASONS.items():
                operation["responses"].setdefault(
                    status, {"description": reason, "content": {"application/problem+json": {"schema": PROBLEM}}}
                )
        return operation
