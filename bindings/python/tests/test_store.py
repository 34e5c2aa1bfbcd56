"""Clients of a store: opening it, following it, and what goes wrong."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import libflags

from support import Publisher, flag


def test_no_store_names_the_paths_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(libflags.StoreNotFound, match="nowhere") as raised:
        libflags.Client(tmp_path / "nowhere")
    assert isinstance(raised.value, libflags.Error)
    assert str(raised.value).startswith("failed to open the flag store: ")
    monkeypatch.setenv("FLAGS_STORE", str(tmp_path / "from the environment"))
    with pytest.raises(libflags.StoreNotFound, match="from the environment"):
        libflags.Client()


@pytest.mark.parametrize("store", [1, 1.5, [], object()])
def test_a_store_is_a_path(store: object) -> None:
    with pytest.raises(TypeError):
        libflags.Client(store)  # type: ignore[arg-type]


def test_a_definition_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(libflags.IoError, match="missing.json"):
        libflags.Client.from_file(tmp_path / "missing.json")
    path = tmp_path / "flags.json"
    path.write_text("{ this is no JSON")
    with pytest.raises(libflags.InvalidDefinition, match="flags.json"):
        libflags.Client.from_file(path)


def test_yaml(tmp_path: Path) -> None:
    path = tmp_path / "flags.yaml"
    path.write_text("flags:\n  it:\n    state: ENABLED\n    variants: {'on': true}\n    defaultVariant: 'on'\n")
    assert libflags.Client.from_file(str(path)).get_boolean_value("it", False) is True


def test_a_client_follows_its_store(publisher: Publisher) -> None:
    publisher.publish({"number": flag(1)})
    client = libflags.Client(publisher.store)
    handle = client.flag("number")
    first = client.status()
    with client.snapshot() as pinned:
        for number in range(2, 50):
            publisher.publish({"number": flag(number)})
            assert client.get_integer_value("number", 0) == number
            assert handle.get_integer_value(0) == number
            assert client.get_integer_details("number", 0).value == number
        assert pinned.get_integer_value("number", 0) == 1
        assert pinned.generation == first.generation
        assert pinned.keys() == ["number"]
    last = client.status()
    assert last.generation == first.generation + 48
    assert client.snapshot().generation == last.generation
    assert last.generations_mapped == 1, "the pinned one went with its `with` block"
    assert pinned.get_integer_value("number", 0) == 0
    assert pinned.get_integer_details("number", 0).error_code == "PROVIDER_NOT_READY"
    assert (pinned.generation, pinned.revision, pinned.keys()) == (0, 0, [])


def test_the_status(publisher: Publisher, tmp_path: Path) -> None:
    before = time.time()
    publisher.publish({"number": flag(1)})
    client = libflags.Client(publisher.store)
    status = client.status()
    assert (status.state, status.attached, status.last_error) == ("fresh", True, None)
    assert status.path == publisher.store
    assert status.published_at is not None and before - 1 <= status.published_at <= time.time() + 1
    assert status.age_seconds is not None and 0 <= status.age_seconds <= time.time() - before + 1
    assert "fresh" in repr(status)
    with pytest.raises(AttributeError):
        status.state = "stale"  # type: ignore[misc]


def test_without_waiting_it_attaches_when_the_store_appears(publisher: Publisher) -> None:
    client = libflags.Client(publisher.store, wait=False)
    handle = client.flag("number")
    assert (client.status().state, client.status().attached) == ("detached", False)
    assert client.get_integer_value("number", 7) == 7
    assert handle.get_integer_value(7) == 7
    details = client.get_integer_details("number", 7)
    assert (details.value, details.reason, details.error_code) == (7, "ERROR", "PROVIDER_NOT_READY")
    assert client.snapshot().get_integer_value("number", 7) == 7
    publisher.publish({"number": flag(1)})
    while client.get_integer_value("number", 7) != 1:
        time.sleep(0.01)
    assert handle.get_integer_value(7) == 1
    assert client.status().attached


def test_a_killed_publisher_takes_nothing_with_it(publisher: Publisher) -> None:
    publisher.publish({"number": flag(1)})
    client = libflags.Client(publisher.store)
    publisher.kill()
    assert client.get_integer_value("number", 0) == 1
    again = Publisher(publisher.store)
    again.publish({"number": flag(2)})
    assert client.get_integer_value("number", 0) == 2
    again.close()


def test_importing_and_opening_starts_no_thread_and_imports_little(publisher: Publisher) -> None:
    publisher.publish({"number": flag(1)})
    program = (
        "import sys; before = set(sys.modules)\n"
        "import os, libflags\n"
        f"assert libflags.Client({str(publisher.store)!r}).get_integer_value('number', 0) == 1\n"
        "assert len(os.listdir('/proc/self/task')) == 1\n"
        "print(sorted(set(sys.modules) - before))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "['libflags', 'libflags._libflags']"


def test_nothing_stays_open_or_mapped_once_a_client_is_gone(publisher: Publisher) -> None:
    publisher.publish({"number": flag(1)})

    def held() -> tuple[int, int]:
        maps = Path("/proc/self/maps").read_text().count(str(publisher.store))
        return len(os.listdir("/proc/self/fd")), maps

    before = held()
    for _ in range(20):
        client = libflags.Client(publisher.store)
        assert client.get_integer_value("number", 0) == 1
        handle, snapshot = client.flag("number"), client.snapshot()
        del client, handle, snapshot
    assert held() == before
