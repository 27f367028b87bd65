"""`GET /openapi.json` is a document that others' programs accept, and says what is so."""

from __future__ import annotations

import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from tentacle.contracts.services import SERVICE_METHODS
from tests.services.https_wire import HttpsWire

STATUS = {"Ticket": {"TaskId": "T"}, "LastLogSequence": 0}


async def document(https: HttpsWire) -> dict[str, Any]:
    async with https.session.get("/openapi.json") as response:
        assert (response.status, response.content_type) == (200, "application/json")
        answer: dict[str, Any] = await response.json()
        return answer


async def test_another_program_accepts_it(https: HttpsWire) -> None:
    assert list(OpenAPIV31SpecValidator(await document(https)).iter_errors()) == []


async def test_every_method_is_told(https: HttpsWire) -> None:
    told = {
        call["properties"]["method"]["const"]
        for call in (await document(https))["components"]["schemas"]["Call"]["oneOf"]
    }
    assert told == {f"{name}.{m.name}" for name, methods in SERVICE_METHODS.items() for m in methods.values()}


async def test_every_path_and_method_of_it_is_served(https: HttpsWire) -> None:
    for path, operations in (await document(https))["paths"].items():
        for method in operations.keys() & {"get", "head", "put", "post", "patch"}:
            filled = re.sub(r"\{\w+\}", "nothing", path)
            async with https.session.request(method.upper(), filled) as response:
                detail = "" if method == "head" else await response.text()
                assert response.status != 405
                assert "nothing at this path" not in detail


@pytest.mark.parametrize(
    ("call", "valid"),
    [
        ({"method": "IScriptServiceV2.GetStatus", "params": [STATUS]}, True),
        ({"method": "IScriptServiceV2.GetStatus", "params": {"request": STATUS}}, True),
        ({"method": "IScriptServiceV2.GetStatus", "params": []}, False),
        ({"method": "IScriptServiceV2.GetStatus"}, False),
        ({"method": "IScriptServiceV2.GetStatus", "params": [{"Ticket": 1}]}, False),
        ({"method": "ICapabilitiesServiceV2.GetCapabilities"}, True),
        ({"method": "IFileTransferService.UploadFile", "params": ["f", {"base64": "YQ=="}]}, True),
        ({"method": "IFileTransferService.UploadFile", "params": {"remotePath": "f"}}, True),
        ({"method": "IFileTransferService.UploadFile", "params": ["f", {"base64": "", "upload": ""}]}, False),
        ({"method": "Nope.Nope"}, False),
    ],
)
async def test_calls_are_valid_there_when_they_are_taken_here(
    https: HttpsWire, call: dict[str, Any], valid: bool
) -> None:
    schemas = (await document(https))["components"]["schemas"]
    schema = {"$ref": "#/components/schemas/Call", "components": {"schemas": schemas}}
    whole = {"jsonrpc": "2.0", "id": 1, **call}
    assert Draft202012Validator(schema).is_valid(whole) is valid
    assert ("result" in await https.rpc(whole)) is valid
