"""How a Python mapping is read as an evaluation context."""

from __future__ import annotations

import collections
import datetime
import decimal
import enum
import fractions
import gc
import types
from collections.abc import Callable
from typing import Any

import pytest

import libflags

from support import flag, switch

Make = Callable[..., libflags.Client]


class Plan(enum.Enum):
    PREMIUM = "premium"


class TextPlan(str, enum.Enum):
    PREMIUM = "premium"


class Level(enum.IntEnum):
    HIGH = 3


class Index:
    def __index__(self) -> int:
        return 7


class Weighed:
    def __float__(self) -> float:
        return 1.5


ZONE = datetime.timezone(datetime.timedelta(hours=2))


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        ("premium", {"===": [{"var": "it"}, "premium"]}),
        ("grüße ☃ 😀", {"===": [{"var": "it"}, "grüße ☃ 😀"]}),
        ("nul\0inside", {"===": [{"var": "it"}, "nul\0inside"]}),
        ("", {"===": [{"var": "it"}, ""]}),
        (TextPlan.PREMIUM, {"===": [{"var": "it"}, "premium"]}),
        (b"premium", {"===": [{"var": "it"}, "premium"]}),
        (True, {"===": [{"var": "it"}, True]}),
        (False, {"===": [{"var": "it"}, False]}),
        (None, {"===": [{"var": "it"}, None]}),
        (42, {"===": [{"var": "it"}, 42]}),
        (-1, {"===": [{"var": "it"}, -1]}),
        (Level.HIGH, {"===": [{"var": "it"}, 3]}),
        (2**63, {"===": [{"cat": [{"var": "it"}]}, "9223372036854776000"]}),
        (-(2**100), {"===": [{"cat": [{"var": "it"}]}, "-1.2676506002282294e+30"]}),
        (10**400, {"===": [{"cat": [{"var": "it"}]}, "Infinity"]}),
        (-(10**400), {"===": [{"cat": [{"var": "it"}]}, "-Infinity"]}),
        (2.5, {"===": [{"var": "it"}, 2.5]}),
        (float("nan"), {"!": {"==": [{"var": "it"}, {"var": "it"}]}}),
        (float("inf"), {">": [{"var": "it"}, 9007199254740991]}),
        (decimal.Decimal("1.5"), {"===": [{"var": "it"}, 1.5]}),
        (fractions.Fraction(3, 2), {"===": [{"var": "it"}, 1.5]}),
        (Index(), {"===": [{"var": "it"}, 7]}),
        (Weighed(), {"===": [{"var": "it"}, 1.5]}),
        (datetime.date(2026, 11, 22), {"===": [{"var": "it"}, "2026-11-22"]}),
        (datetime.datetime(2026, 11, 22, 8, 30, tzinfo=ZONE), {"===": [{"var": "it"}, "2026-11-22T08:30:00+02:00"]}),
        (datetime.time(8, 30), {"===": [{"var": "it"}, "08:30:00"]}),
        (["a", "b"], {"in": ["b", {"var": "it"}]}),
        (("a", "b"), {"in": ["b", {"var": "it"}]}),
        ({"a", "b"}, {"in": ["b", {"var": "it"}]}),
        (frozenset({"a", "b"}), {"in": ["b", {"var": "it"}]}),
        (collections.deque(["a", "b"]), {"in": ["b", {"var": "it"}]}),
        (range(5), {"in": [4, {"var": "it"}]}),
        (["a", "b"], {"===": [{"var": "it.1"}, "b"]}),
        ([], {"!": {"var": "it"}}),
        ({"city": "Oslo"}, {"===": [{"var": "it.city"}, "Oslo"]}),
        (types.MappingProxyType({"city": "Oslo"}), {"===": [{"var": "it.city"}, "Oslo"]}),
        (collections.ChainMap({}, {"city": "Oslo"}), {"===": [{"var": "it.city"}, "Oslo"]}),
        ({"a": [{"b": ["x", ("y", {"c": "deep"})]}]}, {"===": [{"var": "it.a.0.b.1.1.c"}, "deep"]}),
        ({}, {"===": [{"var": ["it.city", "none"]}, "none"]}),
        ([f"user-{number}" for number in range(1000)], {"in": ["user-999", {"var": "it"}]}),
        ([1, 2, 3], {"===": [{"reduce": [{"var": "it"}, {"+": [{"var": "current"}, {"var": "accumulator"}]}, 0]}, 6]}),
        ([{"n": 1}, {"n": 5}], {"some": [{"var": "it"}, {">": [{"var": "n"}, 4]}]}),
        ("x" * (1 << 20), {"starts_with": [{"var": "it"}, "xxx"]}),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_each_kind_of_value(client_of: Make, value: Any, rule: Any) -> None:
    client = client_of({"flag": switch(rule)})
    details = client.get_boolean_details("flag", False, {"it": value})
    assert (details.value, details.error_message) == (True, None)
    assert client.get_boolean_value("flag", False, {"it": value}) is True
    assert client.flag("flag").get_boolean_value(False, {"it": value}) is True
    assert client.snapshot().get_boolean_value("flag", False, {"it": value}) is True
    assert client.get_boolean_value("flag", False, types.MappingProxyType({"it": value})) is True


def test_a_lone_surrogate_is_text_like_any_other(client_of: Make) -> None:
    client = client_of(
        {
            "is plain": switch({"===": [{"var": "it"}, "plain"]}),
            "starts": switch({"starts_with": [{"var": "it"}, "pre"]}),
            "same": switch({"===": [{"var": "it"}, {"var": "other"}]}),
        }
    )
    assert client.get_boolean_details("is plain", True, {"it": "\ud800"}).reason == "TARGETING_MATCH"
    assert client.get_boolean_value("is plain", True, {"it": "\ud800"}) is False
    assert client.get_boolean_value("starts", False, {"it": "pre\udcff"}) is True
    assert client.get_boolean_value("same", False, {"it": "a\ud800", "other": "a\ud800"}) is True
    assert client.get_boolean_value("same", True, {"it": "a\ud800", "other": "a\ud801"}) is False


def test_the_targeting_key(client_of: Make) -> None:
    client = client_of({"flag": switch({"===": [{"var": "targetingKey"}, "user-1"]})})
    assert client.get_boolean_value("flag", False, {"targetingKey": "user-1"}) is True
    assert client.get_boolean_value("flag", True, {"targetingKey": "user-2"}) is False
    assert client.get_boolean_value("flag", True, {}) is False
    assert client.get_boolean_details("flag", False, {"targetingKey": "user-2"}, targeting_key="user-1").value is True
    assert client.get_boolean_details("flag", False, None, targeting_key="user-1").value is True
    assert client.get_boolean_details("flag", True, {"targetingKey": "user-1"}, targeting_key="user-2").value is False
    assert client.flag("flag").get_boolean_details(False, targeting_key="user-1").value is True


def test_nobody_poses_as_flagd(client_of: Make) -> None:
    client = client_of({"flag": switch({"===": [{"var": "$flagd.flagKey"}, "flag"]})})
    assert client.get_boolean_value("flag", False, {"$flagd": {"flagKey": "another"}}) is True


def test_only_what_the_rule_names_is_read(client_of: Make) -> None:
    read = []

    class Spy(collections.abc.Mapping[str, Any]):
        def __getitem__(self, name: str) -> Any:
            read.append(name)
            return {"plan": "premium"}[name]

        def __iter__(self) -> Any:
            raise AssertionError("nobody iterates over a context")

        def __len__(self) -> int:
            return 10_000

    client = client_of({"static": flag(True), "rule": switch({"==": [{"var": "plan"}, "premium"]})})
    assert client.get_boolean_value("static", False, Spy()) is True
    assert read == []
    assert client.get_boolean_value("rule", False, Spy()) is True
    assert set(read) <= {"plan"}


def test_other_mappings(client_of: Make) -> None:
    client = client_of({"rule": switch({"==": [{"var": "plan"}, "premium"]})})

    class Sub(dict[str, Any]):
        def __getitem__(self, name: str) -> Any:
            raise AssertionError("a dict's own lookup is used")

    asked = collections.defaultdict(lambda: "premium")
    assert client.get_boolean_value("rule", True, asked) is False
    assert not asked, "asking for an attribute does not make it"
    assert client.get_boolean_value("rule", False, Sub(plan="premium")) is True
    assert client.get_boolean_value("rule", False, collections.OrderedDict(plan="premium")) is True
    assert client.get_boolean_value("rule", False, collections.UserDict(plan="premium")) is True


@pytest.mark.parametrize("value", [object(), Plan.PREMIUM, lambda: 0, 1j, type, ...], ids=repr)
def test_what_json_has_no_word_for_is_an_invalid_context(client_of: Make, value: Any) -> None:
    client = client_of({"static": flag(True), "rule": switch({"!=": [{"var": "it"}, "x"]})})
    details = client.get_boolean_details("rule", False, {"it": value})
    assert (details.value, details.reason, details.error_code) == (False, "ERROR", "INVALID_CONTEXT")
    assert type(value).__name__ in (details.error_message or "")
    assert client.get_boolean_value("rule", False, {"it": value}) is False
    assert client.flag("rule").get_boolean_value(False, {"it": value}) is False
    assert client.get_boolean_value("static", False, {"it": value}) is True, "nobody read it"


class Raises:
    """Whatever is done with it raises."""

    def __init__(self, error: type[BaseException]) -> None:
        self.error = error

    def __hash__(self) -> int:
        return hash("it")

    def __eq__(self, other: object) -> bool:
        raise self.error("no")

    def __index__(self) -> int:
        raise self.error("no")

    def isoformat(self) -> str:
        raise self.error("no")


def test_what_raises_is_an_invalid_context(client_of: Make) -> None:
    client = client_of({"rule": switch({"!=": [{"var": "it"}, "x"]})})

    class Mapping(collections.UserDict[str, Any]):
        def __getitem__(self, name: str) -> Any:
            raise RuntimeError("no")

    contexts: list[Any] = [{Raises(ValueError): 1}, {"it": Raises(ValueError)}, Mapping(), {"it": Mapping({"x": 1})}]
    client_of({"rule": switch({"!=": [{"var": "it"}, "x"]}), "member": switch({"!=": [{"var": "it.x"}, "x"]})})
    client.reload()
    for context, key in zip(contexts, ["rule", "rule", "rule", "member"], strict=True):
        assert client.get_boolean_value(key, False, context) is False
        details = client.get_boolean_details(key, False, context)
        assert details.error_code == "INVALID_CONTEXT"
        assert "no" in (details.error_message or "")


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_is_no_exception_gets_through(client_of: Make, error: type[BaseException]) -> None:
    client = client_of({"rule": switch({"!=": [{"var": "it"}, "x"]})})
    for ask in (client.get_boolean_value, client.get_boolean_details):
        with pytest.raises(error):
            ask("rule", False, {Raises(error): 1})


def test_a_context_that_changes_under_the_rule(client_of: Make) -> None:
    """A lookup runs the `__eq__` of a key that hashes alike, which throws out what the rule has already borrowed."""
    rule = {"===": [{"cat": [{"var": "first"}, {"var": "second"}, {"var": "first"}]}, "a text that is gonexa text that is gone"]}
    client = client_of({"rule": switch({"or": [{"===": [{"var": "first"}, {"var": "second"}]}, rule]})})
    told = []

    class Thief:
        def __init__(self, context: dict[Any, Any]) -> None:
            self.context = context

        def __hash__(self) -> int:
            return hash("second")

        def __eq__(self, other: object) -> bool:
            self.context.pop("first", None)
            gc.collect(0)
            told.append(client.get_boolean_value("rule", True, {"first": "x", "second": "x"}))
            self.context["first"] = "".join(["a text that", " is gone"])
            return False

    for _ in range(20):
        context: dict[Any, Any] = {"first": "".join(["a text", " that is gone"])}
        context[Thief(context)] = 1
        context["second"] = "x"
        told.clear()
        assert client.get_boolean_value("rule", False, context) is True
        assert told and all(told)


def test_many_attributes_long_names_and_deep_nesting(client_of: Make) -> None:
    names = [f"attribute-{number}-{'x' * (number % 40)}" for number in range(200)]
    client = client_of(
        {
            "many": switch({"and": [{"===": [{"var": name}, name]} for name in names]}),
            "deep": switch({"===": [{"var": ".".join(["a"] * 50)}, "bottom"]}),
        }
    )
    context: dict[str, Any] = {f"other {number}": number for number in range(10_000)} | {name: name for name in names}
    assert client.get_boolean_value("many", False, context) is True
    assert client.get_boolean_value("many", True, context | {names[150]: "x"}) is False

    deep: Any = "bottom"
    for _ in range(50):
        deep = {"a": deep}
    assert client.get_boolean_value("deep", False, deep) is True
    for _ in range(1_000):
        deep = {"a": deep}
    assert client.get_boolean_value("deep", True, deep) is False


def test_names_that_differ_in_one_byte(client_of: Make) -> None:
    names = {"a" * length for length in range(1, 20)}
    names |= {name[:place] + "b" + name[place + 1 :] for name in names for place in range(len(name))}
    context = {name: name for name in names}
    client = client_of({name: switch({"===": [{"var": name}, name]}) for name in names})
    for name in names:
        assert client.get_boolean_value(name, False, context) is True
        assert client.get_boolean_value(name, True, context | {name: "x"}) is False


def test_more_names_than_are_kept(client_of: Make) -> None:
    flags = {f"flag-{number}": switch({"===": [{"var": f"name-{number}"}, number]}) for number in range(3_000)}
    client = client_of(flags)
    for _ in range(2):
        for number in range(3_000):
            assert client.get_boolean_value(f"flag-{number}", False, {f"name-{number}": number}) is True
            assert client.get_boolean_value(f"flag-{number}", True, {f"name-{number}": -1}) is False


def test_nothing_is_kept_after_the_answer(client_of: Make) -> None:
    import sys

    client = client_of({"rule": switch({"===": [{"cat": [{"var": f"a{n}"} for n in range(20)]}, "x"]})})
    texts = [f"text {number}" for number in range(20)]
    context = {f"a{number}": text for number, text in enumerate(texts)}
    before = [sys.getrefcount(text) for text in texts]
    for _ in range(50):
        client.get_boolean_value("rule", False, context)
        client.get_boolean_details("rule", False, context)
    assert [sys.getrefcount(text) for text in texts] == before
