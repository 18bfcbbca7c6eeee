"""The OpenAPI document: valid, complete, and true to the router."""

import re
from typing import Any

import jsonschema_rs
import pytest
from schemathesis.specs.openapi.definitions import OPENAPI_31

from telephony_gateway.api.docs import FIELDS
from tests.unit.api.world import World


@pytest.fixture
async def document(gateway: World) -> Any:
    return await gateway.json("GET", "/api/v1/openapi.json", 200)


async def test_it_is_valid_openapi_31(document: Any) -> None:
    jsonschema_rs.Draft202012Validator(OPENAPI_31).validate(document)


async def test_every_schema_is_valid(document: Any) -> None:
    for name, schema in document["components"]["schemas"].items():
        whole = {**schema, "components": document["components"]}
        assert jsonschema_rs.Draft202012Validator(whole), name


async def test_every_reference_resolves(document: Any) -> None:
    names = set(re.findall(r"#/components/schemas/(\w+)", str(document)))
    assert names <= set(document["components"]["schemas"])


async def test_it_tells_all_routes_and_no_others(gateway: World, document: Any) -> None:
    routed = {
        (route.method.lower(), route.resource.canonical)
        for route in gateway.runner.app.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    told = {(method, path) for path, item in document["paths"].items() for method in item}
    assert routed - told == {("get", "/"), ("get", "/assets/{name}")}
    assert told - routed == set()


async def test_every_field_is_explained(document: Any) -> None:
    bare = [
        f"{name}.{field}"
        for name, schema in document["components"]["schemas"].items()
        for field, prop in schema.get("properties", {}).items()
        if not described(prop)
    ]
    assert not bare
    for path, item in document["paths"].items():
        for operation in item.values():
            assert operation["summary"], path
            assert all(parameter["description"] for parameter in operation.get("parameters", []))


def described(prop: Any) -> bool:
    return bool(prop.get("description")) or any(described(option) for option in prop.get("anyOf", []))


async def test_the_table_of_fields_names_only_what_is_there(document: Any) -> None:
    schemas = document["components"]["schemas"]
    for name, fields in FIELDS.items():
        if name in schemas:
            assert set(fields) <= set(schemas[name]["properties"]), name


async def test_times_and_secrets(document: Any) -> None:
    schemas = document["components"]["schemas"]
    assert schemas["Call"]["properties"]["created_at"]["format"] == "date-time"
    assert "token_hash" not in str(document)
    assert "engine_leg" not in str(document)


async def test_operation_ids_are_unique(document: Any) -> None:
    ids = [operation["operationId"] for item in document["paths"].values() for operation in item.values()]
    assert len(ids) == len(set(ids))
