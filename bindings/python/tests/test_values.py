"""The get_*_value family: what it answers, and that nothing but a wrong argument makes it raise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import libflags

from support import flag, switch

FLAGS = {
    "bool": flag(True),
    "text": flag("grüße ☃"),
    "int": flag(42),
    "whole": flag(10.0),
    "half": flag(2.5),
    "object": flag({"a": [1, 2.5, None, True, "x"], "b": {"c": {}}}),
    "array": flag([1, [2]]),
    "disabled": flag(True, state="DISABLED"),
    "no default": flag(True, defaultVariant=None),
    "ключ": flag(True),
    "rule": switch({"==": [{"var": "plan"}, "premium"]}),
}

Make = Callable[..., libflags.Client]
Source = Any


@pytest.fixture(params=["client", "snapshot"])
def source(request: pytest.FixtureRequest, client_of: Make) -> Source:
    """What can be asked by key."""
    client = client_of(FLAGS)
    return client if request.param == "client" else client.snapshot()


def test_each_type_answers(source: Source) -> None:
    assert source.get_boolean_value("bool", False) is True
    assert source.get_string_value("text", "") == "grüße ☃"
    assert source.get_integer_value("int", 0) == 42
    assert source.get_float_value("half", 0.0) == 2.5
    assert source.get_object_value("object", None) == {"a": [1, 2.5, None, True, "x"], "b": {"c": {}}}
    assert source.get_object_value("array", None) == [1, [2]]
    assert source.get_boolean_value("ключ", False) is True


def test_a_number_is_an_int_where_nothing_is_lost(source: Source) -> None:
    whole = source.get_integer_value("whole", 0)
    assert (whole, type(whole)) == (10, int)
    assert source.get_integer_value("half", 7) == 7
    number = source.get_float_value("int", 0.0)
    assert (number, type(number)) == (42.0, float)


def test_objects_are_the_callers_own(source: Source) -> None:
    source.get_object_value("object", None)["a"].append("mine")
    assert source.get_object_value("object", None)["a"] == [1, 2.5, None, True, "x"]


@pytest.mark.parametrize("key", ["missing", "", "bool\0", "x" * 1_000_000, "\ud800", "bool\udfff", "disabled", "no default"])
def test_the_default_is_answered_as_the_object_it_is(source: Source, key: str) -> None:
    text, number, real, anything = "a default of mine", 123456789, 0.1, object()
    assert source.get_boolean_value(key, False) is False
    assert source.get_boolean_value(key, True) is True
    assert source.get_string_value(key, text) is text
    assert source.get_integer_value(key, number) is number
    assert source.get_float_value(key, real) is real
    assert source.get_object_value(key, anything) is anything


def test_another_type_answers_the_default(source: Source) -> None:
    assert source.get_boolean_value("text", False) is False
    assert source.get_boolean_value("int", False) is False
    assert source.get_string_value("bool", "mine") == "mine"
    assert source.get_integer_value("bool", 7) == 7
    assert source.get_integer_value("text", 7) == 7
    assert source.get_float_value("object", 1.5) == 1.5
    assert source.get_object_value("text", None) is None


@pytest.mark.parametrize("default", [2**63, -(2**63), -(2**200), 2**63 - 1, True])
def test_any_int_may_be_the_default(source: Source, default: int) -> None:
    assert source.get_integer_value("missing", default) is default
    assert source.get_integer_value("int", default) == 42
    assert source.get_float_value("missing", default) is default
    assert source.get_float_value("half", default) == 2.5


@pytest.mark.parametrize("default", [float("nan"), float("inf"), -0.0])
def test_any_float_may_be_the_default(source: Source, default: float) -> None:
    assert source.get_float_value("missing", default) is default
    assert source.get_float_value("half", default) == 2.5


def test_keywords(source: Source) -> None:
    assert source.get_boolean_value(key="rule", default=False, context={"plan": "premium"}) is True
    assert source.get_boolean_value("rule", default=True, context=None) is False


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("boolean", (b"bool", False)),
        ("boolean", (None, False)),
        ("boolean", ("bool", None)),
        ("boolean", ("bool", 0)),
        ("boolean", ("bool",)),
        ("boolean", ("bool", False, "context")),
        ("boolean", ("bool", False, [])),
        ("boolean", ("bool", False, 1)),
        ("boolean", ("bool", False, {}, "more")),
        ("string", ("text", None)),
        ("string", ("text", b"bytes")),
        ("integer", ("int", 1.0)),
        ("integer", ("int", "1")),
        ("float", ("half", "1")),
        ("float", ("half", None)),
        ("object", (1, None)),
    ],
)
def test_wrong_arguments_raise_type_errors(source: Source, kind: str, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError):
        getattr(source, f"get_{kind}_value")(*arguments)
    with pytest.raises(TypeError):
        getattr(source, f"get_{kind}_details")(*arguments)


def test_subclasses_of_str_are_keys(source: Source) -> None:
    class Key(str):
        pass

    assert source.get_boolean_value(Key("bool"), False) is True
    assert source.get_boolean_value(Key("missing"), False) is False


def test_deep_and_wide_objects(client_of: Make) -> None:
    deep: Any = "bottom"
    for _ in range(30):
        deep = {"in": [deep]}
    wide = {f"member {number}": number for number in range(10_000)}
    client = client_of({"deep": flag({"it": deep}), "wide": flag(wide)})
    assert client.get_object_value("deep", None) == {"it": deep}
    assert client.get_object_value("wide", None) == wide


def test_numbers_in_objects_keep_their_kind(client_of: Make) -> None:
    value = {"int": 1, "big": 2**53 - 1, "real": 1.0, "tiny": 1e-300, "negative": -5, "zero": -0.0}
    answer: Any = client_of({"object": flag(value)}).get_object_value("object", None)
    assert answer == value
    assert {name: type(number) for name, number in answer.items()} == {n: type(v) for n, v in value.items()}


def test_a_closed_client_answers_defaults(client_of: Make) -> None:
    with client_of(FLAGS) as client:
        handle = client.flag("bool")
        snapshot = client.snapshot()
        assert client.get_boolean_value("bool", False) is True
    assert client.get_boolean_value("bool", False) is False
    assert client.get_string_value("text", "mine") == "mine"
    assert client.get_object_value("object", None) is None
    assert handle.get_boolean_value(False) is False
    assert client.get_boolean_details("bool", False).error_code == "PROVIDER_NOT_READY"
    assert snapshot.get_boolean_value("bool", False) is True, "a snapshot outlives its client"
    client.close()


def test_reload_reads_the_file_again(client_of: Make, tmp_path: Path) -> None:
    client = client_of({"number": flag(1)})
    handle = client.flag("number")
    assert handle.get_integer_value(0) == 1
    client_of({"number": flag(2)})
    assert client.get_integer_value("number", 0) == 1
    client.reload()
    assert client.get_integer_value("number", 0) == 2
    assert handle.get_integer_value(0) == 2
    (tmp_path / "flags.json").write_text("{ no JSON")
    with pytest.raises(libflags.Error):
        client.reload()
    assert client.get_integer_value("number", 0) == 2
