"""gunicorn with preloading: the client is opened before the workers are forked, and all of them see each update."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from support import Publisher, flag

WORKERS = 3


class Connection(http.client.HTTPConnection):
    """To a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self._path))


def ask(path: Path) -> dict[str, Any]:
    connection = Connection(path)
    try:
        connection.request("GET", "/user-1")
        answer: dict[str, Any] = json.loads(connection.getresponse().read())
        return answer
    finally:
        connection.close()


@pytest.fixture
def gunicorn(publisher: Publisher, tmp_path: Path) -> Iterator[tuple[Publisher, Path, Path]]:
    publisher.publish({"number": flag(0)})
    path, log = tmp_path / "socket", tmp_path / "log"
    server = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "--preload", "--workers", str(WORKERS), "--bind", f"unix:{path}"]
        + ["--timeout", "0", "--log-level", "debug", "--log-file", str(log), "--pythonpath", str(Path(__file__).parent)]
        + ["--no-control-socket", "gunicorn_app:application"],
        env=os.environ | {"STORE": str(publisher.store)},
        cwd=tmp_path,
    )
    try:
        while not (log.exists() and log.read_text().count("Booting worker") == WORKERS):
            assert server.poll() is None, log.read_text()
        yield publisher, path, log
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait() == 0


def test_all_workers_see_each_update_and_none_restarts(gunicorn: tuple[Publisher, Path, Path]) -> None:
    publisher, path, log = gunicorn
    seen: dict[int, int] = {}
    with ThreadPoolExecutor(2 * WORKERS) as pool:

        def request_until_all_answered(number: int) -> None:
            fresh: set[int] = set()
            while len(fresh) < WORKERS:
                for answer in pool.map(ask, [path] * 2 * WORKERS):
                    pid = answer["pid"]
                    assert pid != answer["opened_by"], "the client was opened before the fork"
                    assert answer["number"] >= seen.get(pid, 0), "never back"
                    seen[pid] = answer["number"]
                    if answer["number"] == number:
                        fresh.add(pid)

        request_until_all_answered(0)
        workers = set(seen)
        for number in range(1, 20):
            requests = [pool.submit(ask, path) for _ in range(2 * WORKERS)]
            publisher.publish({"number": flag(number)})
            assert all(request.result()["number"] in (number - 1, number) for request in requests)
            request_until_all_answered(number)
    assert set(seen) == workers and len(workers) == WORKERS
    assert log.read_text().count("Booting worker") == WORKERS
