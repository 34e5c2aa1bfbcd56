"""What the processes of a pool run in test_processes.py: a module of its own, so that a spawned process can import it."""

from __future__ import annotations

import libflags


def check(client: libflags.Client, seen: int, updates: int = 3) -> int:
    """Waits for so many updates, each a later and whole one; gives the last number."""
    while updates:
        with client.snapshot() as pinned:
            number = pinned.get_integer_value("number", -1)
            assert pinned.get_string_value("twin", "") == str(number), "torn"
        assert number >= seen, "back in time"
        updates -= number > seen
        seen = number
    return seen


_client: libflags.Client | None = None


def open_client(store: str) -> None:
    global _client
    _client = libflags.Client(store)


def ask(number: int) -> int:
    assert _client is not None
    return check(_client, 0, 1)
