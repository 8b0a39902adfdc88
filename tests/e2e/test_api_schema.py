"""The API against its own description: every operation takes good and bad data, and answers as the schema says."""

import contextlib
import itertools
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import schemathesis
from django.core.handlers.wsgi import WSGIHandler
from django.core.management import call_command
from django.core.signals import got_request_exception, request_finished, request_started
from django.db import close_old_connections
from drf_spectacular.generators import SchemaGenerator
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.core.parameters import ParameterLocation
from schemathesis.generation import GenerationMode
from schemathesis.generation.drivers import CoverageGenerator
from schemathesis.generation.feedback import NO_FEEDBACK
from schemathesis.generation.overrides import Override
from schemathesis.specs.openapi import checks

from tests.e2e.api_world import House, forgotten

CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]
TAKES_ANYTHING = {"usage_events_batch_create"}  # gives each measurement of a batch its own verdict, and answers 200
MODES = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE]
EXAMPLES = int(os.environ.get("API_EXAMPLES", "6"))  # random ones, of each mode and operation
BOUNDARIES = EXAMPLES * 6  # values at the edges of the schema, per operation
FUZZING = hypothesis_settings(
    max_examples=EXAMPLES, derandomize=True, database=None, deadline=None, phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)  # fmt: skip


@cache
def document() -> dict[str, Any]:
    """The OpenAPI document as the product serves it."""
    return SchemaGenerator().get_schema(request=None, public=True)


@cache
def described() -> Any:
    """The document as schemathesis reads it."""
    return schemathesis.openapi.from_dict(document())


OPERATIONS = sorted((path, method) for path, item in document()["paths"].items() for method in item)
every_operation = pytest.mark.parametrize(
    ("path", "method"), OPERATIONS, ids=lambda value: value.removeprefix("/api/v1/")
)


class Product:
    """The product as a WSGI application that forgets each request, and tells of what broke in it."""

    def __init__(self) -> None:
        self.handler = WSGIHandler()
        self.error: BaseException | None = None

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        self.error = None
        with forgotten():
            response = self.handler(environ, start_response)
            body = b"".join(response)
            response.close()
        return [body]

    def note(self, **_: Any) -> None:
        self.error = sys.exc_info()[1]

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """As Django's own test client: requests leave the test's connection open."""
        signals = (request_started, request_finished)
        for signal in signals:
            signal.disconnect(close_old_connections)
        got_request_exception.connect(self.note)
        try:
            yield
        finally:
            got_request_exception.disconnect(self.note)
            for signal in signals:
                signal.connect(close_old_connections)


class Caller:
    """Sends cases of one operation, every second one about a row that exists, and checks the answers."""

    def __init__(self, house: House, path: str, method: str) -> None:
        self.house, self.path = house, path
        self.operation = described()[path][method]
        self.product = Product()
        self.headers = {"Authorization": f"Bearer {house.secret}"}
        self.turn = itertools.count()
        name = self.operation.definition.raw["operationId"]
        self.checks = CHECKS if name in TAKES_ANYTHING else [*CHECKS, checks.negative_data_rejection]

    def __call__(self, case: Case) -> None:
        if "{id}" in self.path and next(self.turn) % 2 == 0 and _path_is_good(case):
            case.path_parameters = {**case.path_parameters, "id": self.house.id_for(self.path)}
        response = case.call(app=self.product, headers=self.headers)
        try:
            case.validate_response(response, checks=self.checks, headers=self.headers)
        except BaseException as exc:
            raise exc from self.product.error

    def boundaries(self) -> list[Case]:
        """Cases at the edges of the schema: at most ``BOUNDARIES``, spread over all of them."""
        config = described().config.generation_for(operation=self.operation, phase="coverage")
        found = list(
            CoverageGenerator(
                operation=self.operation, generation_modes=MODES, generation_config=config, auth_storage=None,
                override=Override(), feedback=NO_FEEDBACK,
            )
        )  # fmt: skip
        return found[:: -(-len(found) // BOUNDARIES)] if found else []


def _path_is_good(case: Case) -> bool:
    part = case.meta.components.get(ParameterLocation.PATH) if case.meta else None
    return part is None or part.mode is not GenerationMode.NEGATIVE


@every_operation
def test_it_answers_as_described(house: House, path: str, method: str) -> None:
    caller = Caller(house, path, method)
    with caller.product.running():
        for case in caller.boundaries():
            caller(case)
        for mode in MODES:
            strategy = caller.operation.as_strategy(generation_mode=mode)
            given(case=strategy)(FUZZING(lambda case: caller(case)))()


# --- the document itself --------------------------------------------------------------------------


def test_the_document_is_openapi_3_1() -> None:
    assert document()["openapi"] == "3.1.0"
    assert len(OPERATIONS) > 120
    assert len({document()["paths"][path][method]["operationId"] for path, method in OPERATIONS}) == len(OPERATIONS)


def test_the_document_is_made_without_a_warning(tmp_path: Path) -> None:
    """A collision of names of choices is settled in ``ENUM_NAME_OVERRIDES`` (config/settings.py)."""
    call_command("spectacular", validate=True, fail_on_warn=True, file=str(tmp_path / "schema.yml"))

    assert (tmp_path / "schema.yml").stat().st_size > 100_000


@every_operation
def test_it_is_explained_with_an_example(path: str, method: str) -> None:
    operation = document()["paths"][path][method]
    assert operation["summary"]
    assert operation["description"]
    assert operation["tags"]
    for content in operation.get("requestBody", {}).get("content", {}).values():
        values = [example["value"] for example in content["examples"].values()]
        assert values
        schema = content["schema"] | {"components": document()["components"]}
        for value in values:
            jsonschema.validate(value, schema, cls=jsonschema.Draft202012Validator)


@every_operation
def test_a_repeatable_request_tells_of_its_key(path: str, method: str) -> None:
    operation = document()["paths"][path][method]
    moves_money = path.startswith(("/api/v1/payments", "/api/v1/invoices", "/api/v1/installment-plans"))
    if method == "post" and moves_money and not path.endswith("/preview"):
        assert "Idempotency-Key" in [parameter["name"] for parameter in operation["parameters"]]
