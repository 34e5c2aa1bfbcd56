"""Many threads and tasks in one process while the flags change."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import libflags

from support import Publisher, flag, switch

THREADS = 8


@pytest.fixture
def often_switching() -> Iterator[None]:
    """Threads give way to each other after 50 µs instead of 5 ms: more encounters in less time."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(50e-6)
    yield
    sys.setswitchinterval(usual)


def test_threads_read_while_flags_change(publisher: Publisher, often_switching: None) -> None:
    def flags(number: int) -> dict[str, object]:
        return {"number": flag(number), "twin": flag(str(number)), "rule": switch({"in": ["x", {"var": "list"}]})}

    publisher.publish(flags(0))
    client = libflags.Client(publisher.store)
    handle = client.flag("number")
    is_over = threading.Event()
    start = threading.Barrier(THREADS + 1)

    def read() -> int:
        rounds, last = 0, 0
        start.wait()
        while not is_over.is_set() or rounds == 0:
            with client.snapshot() as pinned:
                number = pinned.get_integer_value("number", -1)
                assert pinned.get_string_value("twin", "") == str(number), "one version throughout"
            assert number >= last, "never back"
            last = handle.get_integer_value(-1)
            assert last >= number
            assert client.get_boolean_value("rule", False, {"list": ["a", "x"]}) is True
            rounds += 1
        return last

    with ThreadPoolExecutor(THREADS) as pool:
        readers = [pool.submit(read) for _ in range(THREADS)]
        start.wait()
        for number in range(1, 200):
            publisher.publish(flags(number))
        is_over.set()
        assert all(reader.result() <= 199 for reader in readers)
    assert client.get_integer_value("number", -1) == 199
    assert client.status().generations_mapped <= 2


def test_tasks(client_of: Callable[..., libflags.Client], tmp_path: Path) -> None:
    client = client_of({"rule": switch({"===": [{"var": "targetingKey"}, {"var": "expected"}]})})

    async def ask(number: int) -> bool:
        context = {"targetingKey": f"user-{number}", "expected": f"user-{number}"}
        with client.snapshot() as pinned:
            await asyncio.sleep(0)
            return pinned.get_boolean_value("rule", False, context) and client.get_boolean_value("rule", False, context)

    async def main() -> list[bool]:
        return await asyncio.gather(*(ask(number) for number in range(500)))

    assert asyncio.run(main()) == [True] * 500


def test_snapshots_closed_by_another_thread(client_of: Callable[..., libflags.Client]) -> None:
    client = client_of({"number": flag(1)})
    for _ in range(200):
        pinned = client.snapshot()
        closer = threading.Thread(target=pinned.close)
        closer.start()
        answers = {pinned.get_integer_value("number", -1) for _ in range(100)}
        closer.join()
        assert answers <= {1, -1}
        assert pinned.get_integer_value("number", -1) == -1
