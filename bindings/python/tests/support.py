"""What the tests share beside fixtures."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

Flags = dict[str, Any]


def flag(value: Any, **more: Any) -> dict[str, Any]:
    """An enabled flag without targeting."""
    return {"state": "ENABLED", "variants": {"it": value}, "defaultVariant": "it"} | more


def switch(targeting: Any) -> dict[str, Any]:
    """A flag that is true where `targeting` is true, and false where it is false."""
    return flag(
        None,
        variants={"true": True, "false": False},
        defaultVariant="false",
        targeting={"if": [targeting, "true", "false"]},
    )


def write(path: Path, flags: Flags, **more: Any) -> Path:
    """Writes a definition as editors should: readers of the path see the old one or the new one."""
    draft = path.with_name(path.name + ".draft")
    draft.write_text(json.dumps({"flags": flags, **more}))
    return draft.replace(path)


class Publisher:
    """A publisher in a process of its own (tests/src/bin/flags-publish.rs of the workspace)."""

    def __init__(self, store: Path) -> None:
        self.store = store
        self._process = subprocess.Popen(
            [os.environ["FLAGS_PUBLISH"], str(store)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def publish(self, flags: Flags) -> None:
        self.say(f"publish {write(self.store.with_name(self.store.name + '.json'), flags)}")

    def say(self, command: str) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer.startswith("ok"), f"the publisher answers {command!r} with {answer!r}"

    def kill(self) -> None:
        self._process.kill()
        self.close()

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
