"""What the tests share. They run against the installed package, see ci/python.sh."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import libflags

from support import Flags, Publisher, write


@pytest.fixture
def client_of(tmp_path: Path) -> Callable[..., libflags.Client]:
    """Makes a client of flags that are compiled in this process."""

    def make(flags: Flags, **more: Any) -> libflags.Client:
        return libflags.Client.from_file(write(tmp_path / "flags.json", flags, **more))

    return make


@pytest.fixture
def publisher(tmp_path: Path) -> Iterator[Publisher]:
    """A publisher of the store `tmp_path / "store"`, with nothing published yet."""
    if "FLAGS_PUBLISH" not in os.environ:
        pytest.skip("FLAGS_PUBLISH does not name the flags-publish program")
    publisher = Publisher(tmp_path / "store")
    yield publisher
    publisher.close()
