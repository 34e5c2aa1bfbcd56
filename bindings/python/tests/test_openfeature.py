"""The OpenFeature provider, through the SDK."""

from __future__ import annotations

import asyncio
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.evaluation_context import EvaluationContext
from openfeature.event import EventDetails, ProviderEvent
from openfeature.exception import ErrorCode, ProviderNotReadyError
from openfeature.flag_evaluation import Reason
from openfeature.provider import ProviderStatus

import libflags
from libflags.openfeature import FlagsProvider

from support import Publisher, flag, switch

FLAGS = {
    "bool": flag(True, metadata={"owner": "payments"}),
    "text": flag("hello"),
    "int": flag(42),
    "float": flag(2.5),
    "object": flag({"a": [1, 2]}),
    "disabled": flag(True, state="DISABLED"),
    "broken": flag(True, targeting={"no such operator": []}),
    "rule": switch({"and": [{"===": [{"var": "targetingKey"}, "user-1"]}, {"===": [{"var": "plan"}, "premium"]}]}),
}


@pytest.fixture(autouse=True)
def no_provider_stays() -> Iterator[None]:
    yield
    api.clear_providers()
    api.clear_hooks()


@pytest.fixture
def client(client_of: Callable[..., libflags.Client]) -> OpenFeatureClient:
    api.set_provider_and_wait(FlagsProvider(client=client_of(FLAGS)))
    return api.get_client()


def test_each_type(client: OpenFeatureClient) -> None:
    assert client.get_provider_status() == ProviderStatus.READY
    assert client.get_boolean_value("bool", False) is True
    assert client.get_string_value("text", "") == "hello"
    assert client.get_integer_value("int", 0) == 42
    assert client.get_float_value("float", 0.0) == 2.5
    assert client.get_object_value("object", {}) == {"a": [1, 2]}


def test_each_type_asynchronously(client: OpenFeatureClient) -> None:
    async def main() -> list[Any]:
        return [
            await client.get_boolean_value_async("bool", False),
            await client.get_string_value_async("text", ""),
            await client.get_integer_value_async("int", 0),
            await client.get_float_value_async("float", 0.0),
            await client.get_object_value_async("object", {}),
        ]

    assert asyncio.run(main()) == [True, "hello", 42, 2.5, {"a": [1, 2]}]


def test_details(client: OpenFeatureClient) -> None:
    details = client.get_boolean_details("bool", False)
    assert (details.value, details.variant, details.reason) == (True, "it", Reason.STATIC)
    assert (details.error_code, details.error_message) == (None, None)
    assert details.flag_metadata == {"owner": "payments"}


@pytest.mark.parametrize(
    ("key", "reason", "code"),
    [
        ("missing", Reason.ERROR, ErrorCode.FLAG_NOT_FOUND),
        ("text", Reason.ERROR, ErrorCode.TYPE_MISMATCH),
        ("broken", Reason.ERROR, ErrorCode.PARSE_ERROR),
        ("disabled", Reason.DISABLED, None),
    ],
)
def test_reasons_and_errors(client: OpenFeatureClient, key: str, reason: Reason, code: ErrorCode | None) -> None:
    details = client.get_boolean_details(key, False)
    assert (details.value, details.reason, details.error_code) == (False, reason, code)


def test_the_evaluation_context(client: OpenFeatureClient) -> None:
    assert client.get_boolean_value("rule", True, EvaluationContext("user-2", {"plan": "premium"})) is False
    assert client.get_boolean_value("rule", False, EvaluationContext("user-1", {"plan": "premium"})) is True
    spoofed = {"plan": "premium", "targetingKey": "user-1"}
    assert client.get_boolean_value("rule", True, EvaluationContext("user-2", spoofed)) is False
    assert client.get_boolean_value("rule", False, EvaluationContext(attributes=spoofed)) is True
    details = client.get_boolean_details("rule", False, EvaluationContext("user-1", {"plan": object()}))  # type: ignore[dict-item]
    assert details.error_code == ErrorCode.INVALID_CONTEXT


def test_the_provider_says_who_it_is(client_of: Callable[..., libflags.Client]) -> None:
    provider = FlagsProvider(client=client_of(FLAGS))
    assert provider.get_metadata().name == "libflags"
    assert provider.get_provider_hooks() == []
    with pytest.raises(ValueError, match="poll_seconds"):
        FlagsProvider(client=client_of(FLAGS), poll_seconds=0)


def test_a_client_given_is_not_closed(client_of: Callable[..., libflags.Client]) -> None:
    client = client_of(FLAGS)
    api.set_provider_and_wait(FlagsProvider(client=client))
    api.shutdown()
    assert client.get_boolean_value("bool", False) is True


def test_events(publisher: Publisher) -> None:
    provider = FlagsProvider(publisher.store, poll_seconds=0.01)
    assert not watches(), "no thread before it is needed"
    events: queue.Queue[tuple[str, EventDetails]] = queue.Queue()
    for event in ProviderEvent:
        api.add_handler(event, lambda details, name=event.name: events.put((name, details)))
    with pytest.raises(ProviderNotReadyError):
        api.set_provider_and_wait(provider)
    client = api.get_client()
    assert client.get_provider_status() == ProviderStatus.ERROR
    assert client.get_boolean_value("bool", False) is False
    assert watches() == 1

    publisher.publish({"bool": flag(True)})
    expect(events, "PROVIDER_READY")
    assert client.get_provider_status() == ProviderStatus.READY
    assert client.get_boolean_value("bool", False) is True
    publisher.publish({"bool": flag(False)})
    details = expect(events, "PROVIDER_CONFIGURATION_CHANGED")
    assert client.get_boolean_value("bool", True) is False
    assert details.metadata["generation"] == libflags.Client(publisher.store).status().generation

    api.shutdown()
    assert not watches()
    # What was shut down may be used again.
    api.set_provider_and_wait(provider)
    assert client.get_boolean_value("bool", True) is False


def watches() -> int:
    """How many threads look out for changes; the SDK has threads of its own."""
    return sum(thread.name == "libflags-events" for thread in threading.enumerate())


def expect(events: queue.Queue[tuple[str, EventDetails]], name: str) -> EventDetails:
    while True:
        event, details = events.get()
        if details.provider_name != "libflags":
            # Of the provider that was there before.
            continue
        if event == name:
            return details
        assert event in ("PROVIDER_READY", "PROVIDER_ERROR", "PROVIDER_CONFIGURATION_CHANGED"), event


FORKING = """
import os, sys, threading
from openfeature import api
from openfeature.event import ProviderEvent
from libflags.openfeature import FlagsProvider
from support import Publisher, flag
import pathlib, warnings

# Python 3.12 warns of every fork of a process that has threads, which is what is tested here.
warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*fork.*")
publisher = Publisher(pathlib.Path(sys.argv[1]))
publisher.publish({"number": flag(1)})
changed = threading.Event()
api.add_handler(ProviderEvent.PROVIDER_CONFIGURATION_CHANGED, lambda details: changed.set())
api.set_provider_and_wait(FlagsProvider(publisher.store, poll_seconds=0.01))
client = api.get_client()
assert client.get_integer_value("number", 0) == 1
names = lambda: [thread.name for thread in threading.enumerate()]
assert "libflags-events" in names()
ready, told = os.pipe()
pid = os.fork()
if pid == 0:
    assert "libflags-events" not in names()
    assert client.get_integer_value("number", 0) == 1
    assert "libflags-events" in names(), "the thread starts with the first evaluation"
    os.write(told, b"x")
    changed.wait()
    assert client.get_integer_value("number", 0) == 2
    os._exit(0)
os.read(ready, 1)
publisher.publish({"number": flag(2)})
assert os.waitpid(pid, 0)[1] == 0
changed.wait()
api.shutdown()
publisher.close()
"""


def test_events_after_fork(publisher: Publisher, tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-W", "error", "-c", FORKING, str(tmp_path / "forking")],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
        check=True,
    )
