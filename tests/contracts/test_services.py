"""The table of methods is the one of docs/spec/services.md, "Methods", by the names under which a call looks it up."""

from __future__ import annotations

from pathlib import Path

import pytest

from tentacle.contracts.services import SERVICE_METHODS, Method

SPECIFICATION = Path(__file__).parents[2] / "docs" / "spec" / "services.md"
NAMES = {"str": "text"}


def specified() -> list[tuple[str, str, str, str]]:
    """Service, method, parameters and result of each row of the table."""
    section = SPECIFICATION.read_text(encoding="utf-8").split("\n## Methods\n")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    found, service = [], ""
    for name, method, parameters, result in rows[2:]:
        service = name or service
        found.append((service, method, parameters.split(":")[0], result.split(":")[0]))
    return found


def words_of(method: Method) -> tuple[str, str]:
    """Parameters and result of a method as the specification writes them."""
    parameters = [NAMES.get(cls.__name__, cls.__name__) for cls in method.parameters]
    result = method.result.__name__ if method.result else "none"
    if method.nullable and len(parameters) > 1:
        parameters[-1] += " or null"
    elif method.nullable:
        result += ", or null when there is no such file"
    return ", ".join(parameters) or "none", result


def test_there_are_the_specified_methods_and_no_others() -> None:
    known = [(service, method.name) for service, methods in SERVICE_METHODS.items() for method in methods.values()]
    assert known == [(service, method) for service, method, _, _ in specified()]


@pytest.mark.parametrize(("service", "name", "parameters", "result"), specified())
def test_a_method_takes_and_gives_what_is_specified(service: str, name: str, parameters: str, result: str) -> None:
    assert words_of(SERVICE_METHODS[service][name.lower()]) == (parameters, result)


def test_a_method_is_found_by_its_name_in_lower_case_and_a_service_by_its_exact_name() -> None:
    for service, methods in SERVICE_METHODS.items():
        assert [name for name, method in methods.items() if name != method.name.lower()] == []
        assert service.lower() not in SERVICE_METHODS
