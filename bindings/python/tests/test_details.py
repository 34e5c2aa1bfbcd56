"""The get_*_details family: the answer with its reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import libflags

from support import flag, switch

Make = Callable[..., libflags.Client]

FLAGS = {
    "static": flag(True, metadata={"owner": "payments", "ratio": 0.5, "count": 3, "on": True}),
    "rule": switch({"==": [{"var": "plan"}, "premium"]}),
    "disabled": flag(True, state="DISABLED"),
    "text": flag("x"),
    "half": flag(2.5),
    "object": flag({"a": [1]}),
    "nowhere": flag(True, targeting={"if": [True, "no such variant"]}),
    "infinite": flag(True, targeting={"/": [1, 0]}),
    "broken": flag(True, targeting={"no such operator": []}),
}
METADATA = {"flagSetId": "tests", "owner": "nobody"}


@pytest.fixture(params=["client", "snapshot", "flag"])
def ask(request: pytest.FixtureRequest, client_of: Make) -> Callable[..., Any]:
    client = client_of(FLAGS, metadata=METADATA)
    if request.param == "flag":
        return lambda kind, key, *rest, **more: getattr(client.flag(key), f"get_{kind}_details")(*rest, **more)
    source = client if request.param == "client" else client.snapshot()
    return lambda kind, key, *rest, **more: getattr(source, f"get_{kind}_details")(key, *rest, **more)


def test_a_static_flag(ask: Callable[..., Any]) -> None:
    details = ask("boolean", "static", False)
    assert (details.flag_key, details.value, details.variant, details.reason) == ("static", True, "it", "STATIC")
    assert (details.error_code, details.error_message) == (None, None)
    assert details.flag_metadata == {"flagSetId": "tests", "owner": "payments", "ratio": 0.5, "count": 3, "on": True}
    assert [type(value) for value in details.flag_metadata.values()].count(int) == 1


@pytest.mark.parametrize(("plan", "value"), [("premium", True), ("basic", False)])
def test_a_rule(ask: Callable[..., Any], plan: str, value: bool) -> None:
    details = ask("boolean", "rule", not value, {"plan": plan})
    assert (details.value, details.variant, details.reason) == (value, str(value).lower(), "TARGETING_MATCH")


@pytest.mark.parametrize(
    ("kind", "key", "default", "reason", "code"),
    [
        ("boolean", "disabled", False, "DISABLED", None),
        ("boolean", "missing", False, "ERROR", "FLAG_NOT_FOUND"),
        ("boolean", "\ud800", False, "ERROR", "FLAG_NOT_FOUND"),
        ("boolean", "text", False, "ERROR", "TYPE_MISMATCH"),
        ("string", "static", "mine", "ERROR", "TYPE_MISMATCH"),
        ("integer", "half", 7, "ERROR", "TYPE_MISMATCH"),
        ("float", "object", 0.5, "ERROR", "TYPE_MISMATCH"),
        ("object", "half", ["mine"], "ERROR", "TYPE_MISMATCH"),
        ("boolean", "nowhere", False, "ERROR", "GENERAL"),
        ("boolean", "infinite", False, "ERROR", "PARSE_ERROR"),
        ("boolean", "broken", False, "ERROR", "PARSE_ERROR"),
    ],
)
def test_the_default_with_its_reason(
    ask: Callable[..., Any], kind: str, key: str, default: Any, reason: str, code: str | None
) -> None:
    details = ask(kind, key, default)
    assert details.value is default
    assert (details.flag_key, details.variant, details.reason, details.error_code) == (key, None, reason, code)
    assert (details.error_message is None) == (code is None)


def test_values_are_those_of_the_value_family(ask: Callable[..., Any]) -> None:
    assert ask("string", "text", "").value == "x"
    assert ask("float", "half", 0).value == 2.5
    assert ask("object", "object", None).value == {"a": [1]}


def test_details_are_generic_frozen_and_readable(client_of: Make) -> None:
    details = client_of(FLAGS).get_boolean_details("missing", False)
    assert libflags.Details[bool] is not None
    with pytest.raises(AttributeError):
        details.value = True  # type: ignore[misc]
    with pytest.raises(AttributeError):
        details.mine = True  # type: ignore[attr-defined]
    with pytest.raises(TypeError):
        libflags.Details()
    assert repr(details) == (
        "Details(flag_key='missing', value=False, reason='ERROR', error_code='FLAG_NOT_FOUND', "
        "error_message=\"no flag has the key 'missing'\", flag_metadata=%r)" % details.flag_metadata
    )
