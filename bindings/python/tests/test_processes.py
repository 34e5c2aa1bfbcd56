"""Clients across fork and spawn, in the middle of updates."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import libflags

import pool_worker
from pool_worker import check
from support import Publisher, flag

FORKS = 60
# Publishes ever higher numbers until its stdin ends.
PUBLISH_FOREVER = """
import pathlib, select, sys
import pool_worker
from pool_worker import check
from support import Publisher, flag
publisher = Publisher(pathlib.Path(sys.argv[1]))
number = 0
while not select.select([sys.stdin], [], [], 0)[0]:
    number += 1
    publisher.publish({"number": flag(number), "twin": flag(str(number))})
    if number == 1:
        print("published", flush=True)
publisher.close()
"""


@pytest.fixture
def busy_store(tmp_path: Path) -> Iterator[Path]:
    """A store in which something new is published all the time."""
    if "FLAGS_PUBLISH" not in os.environ:
        pytest.skip("FLAGS_PUBLISH does not name the flags-publish program")
    store = tmp_path / "store"
    publishing = subprocess.Popen(
        [sys.executable, "-c", PUBLISH_FOREVER, str(store)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert publishing.stdin is not None and publishing.stdout is not None
    assert publishing.stdout.readline() == "published\n"
    yield store
    publishing.stdin.close()
    assert publishing.wait() == 0
    publishing.stdout.close()


def in_child(work: Callable[[], None]) -> int:
    """Runs `work` in a forked child; gives its process id."""
    pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(120)
            work()
            os._exit(0)
        except BaseException as error:
            os.write(2, f"child: {error!r}\n".encode())
            os._exit(1)
    return pid


def test_fork_in_the_middle_of_updates(busy_store: Path) -> None:
    client = libflags.Client(busy_store)
    handle = client.flag("number")
    seen = 0
    for _ in range(FORKS):
        seen = handle.get_integer_value(-1)

        def work(seen: int = seen) -> None:
            last = check(client, seen)
            assert handle.get_integer_value(-1) >= last
            assert client.status().generations_mapped <= 3

        children = [in_child(work) for _ in range(2)]
        seen = check(client, seen, 1)
        for child in children:
            assert os.waitpid(child, 0)[1] == 0
    assert client.status().generations_mapped <= 2


def test_fork_of_a_fork(busy_store: Path) -> None:
    client = libflags.Client(busy_store)

    def grandchild() -> None:
        check(client, 0)

    def child() -> None:
        check(client, 0)
        pid = in_child(grandchild)
        assert os.waitpid(pid, 0)[1] == 0
        check(client, 0)

    assert os.waitpid(in_child(child), 0)[1] == 0


def test_fork_with_a_snapshot_open(publisher: Publisher) -> None:
    publisher.publish({"number": flag(1)})
    client = libflags.Client(publisher.store)
    pinned = client.snapshot()
    pid = in_child(lambda: follow_and_keep(client, pinned))
    publisher.publish({"number": flag(2)})
    assert os.waitpid(pid, 0)[1] == 0
    assert pinned.get_integer_value("number", 0) == 1


def follow_and_keep(client: libflags.Client, pinned: libflags.Snapshot) -> None:
    while client.get_integer_value("number", 0) != 2:
        time.sleep(0.001)
    assert pinned.get_integer_value("number", 0) == 1


def test_fork_before_the_store_is_there(publisher: Publisher) -> None:
    client = libflags.Client(publisher.store, wait=False)
    assert client.get_integer_value("number", 0) == 0

    def work() -> None:
        while client.get_integer_value("number", 0) != 1:
            time.sleep(0.001)

    pids = [in_child(work) for _ in range(3)]
    publisher.publish({"number": flag(1)})
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0, 0]
    work()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing(busy_store: Path, method: str) -> None:
    context: Any = multiprocessing.get_context(method)
    if method == "fork":
        # Inherited, opened before the fork.
        pool_worker.open_client(str(busy_store))
        pool = context.Pool(3)
    else:
        pool = context.Pool(3, pool_worker.open_client, (str(busy_store),))
    with pool:
        numbers = pool.map(pool_worker.ask, range(30), chunksize=1)
    pool.join()
    assert len(numbers) == 30 and min(numbers) > 0
