#!/usr/bin/env python3
"""Bad days of clients in Python: bad_days.py. Run by `cargo xtask compare`, as peers.py is by `cargo xtask bench`.

What happens is looked at, put into words and compared with the tables in docs/comparison.md, which say the same or are wrong. A client
that is to follow changes gets them in its usual way: libflags from flagsd, UnleashClient from a server it polls every second, the flagd
provider from a file it looks at every half second.
"""

import contextlib
import http.server
import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import peers

# A client that has not followed a change for so long after another process has does not follow it.
PATIENCE_SECONDS = 5
Ask = Callable[[], bool]


def eventually(ask: Ask, wanted: bool, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while ask() is not wanted:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


class Host:
    """Where a client gets its flags; one flag, `new`, which is on or off."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def turn(self, on: bool) -> None:
        raise NotImplementedError

    def open(self) -> Ask:
        """A new client."""
        raise NotImplementedError

    def go(self) -> None:
        """The source goes away."""
        raise NotImplementedError


def put(path: Path, text: str) -> None:
    path.with_suffix(".next").write_text(text)
    path.with_suffix(".next").rename(path)


def flagd_text(on: bool) -> str:
    variant = "on" if on else "off"
    return json.dumps({"flags": {"new": {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": variant}}})


class Libflags(Host):
    name = peers.LIBFLAGS

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.turn(False)
        command = [os.environ["FLAGSD"], "run", "--store", str(folder / "store"), "--source", f"file:{folder}/flags.json",
                   "--state-dir", str(folder / "state")]
        self.flagsd = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def turn(self, on: bool) -> None:
        put(self.folder / "flags.json", flagd_text(on))

    def open(self) -> Ask:
        import libflags

        deadline = time.monotonic() + 20
        while True:
            try:
                client = libflags.Client(self.folder / "store")
                return lambda: client.get_boolean_value("new", False)
            except libflags.Error:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def go(self) -> None:
        self.flagsd.kill()
        self.flagsd.wait()


class Unleash(Host):
    name = peers.UNLEASH

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.body = b""
        self.turn(False)
        host = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(host.body)))
                self.end_headers()
                self.wfile.write(host.body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def turn(self, on: bool) -> None:
        toggle = {"name": "new", "type": "release", "enabled": on, "variants": [],
                  "strategies": [{"name": "default", "parameters": {}, "constraints": []}]}
        self.body = json.dumps({"version": 2, "features": [toggle]}).encode()

    def open(self) -> Ask:
        from UnleashClient import UnleashClient

        client = UnleashClient(url=f"http://127.0.0.1:{self.server.server_port}/api", app_name="bad-days", refresh_interval=1,
                               disable_metrics=True, disable_registration=True, cache_directory=str(self.folder / "cache"))
        client.initialize_client()
        return lambda: client.is_enabled("new")

    def go(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class Flagd(Host):
    name = peers.FLAGD

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.turn(False)

    def turn(self, on: bool) -> None:
        put(self.folder / "flags.json", flagd_text(on))

    def open(self) -> Ask:
        from openfeature import api
        from openfeature.contrib.provider.flagd import FlagdProvider
        from openfeature.contrib.provider.flagd.config import ResolverType

        path = str(self.folder / "flags.json")
        api.set_provider(FlagdProvider(resolver_type=ResolverType.FILE, offline_flag_source_path=path, deadline_ms=500))
        client = api.get_client()
        return lambda: client.get_boolean_value("new", False)

    def go(self) -> None:
        (self.folder / "flags.json").unlink()


def in_child(act: Callable[[], str]) -> Callable[[], str]:
    """Forks; what the child says is there when it is asked for."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, act().encode())
        except BaseException:
            traceback.print_exc()
        os._exit(0)
    os.close(write)

    def said() -> str:
        with os.fdopen(read) as pipe:
            words = pipe.read()
        os.waitpid(child, 0)
        assert words, "the child died"
        return words

    return said


def forked(host: Host) -> str:
    """A client that is opened, then its process forks, as a web server with preloaded workers does."""
    ask = host.open()
    assert ask() is False
    go_read, go_write = os.pipe()

    def child() -> str:
        os.read(go_read, 1)
        return "the child follows changes" if eventually(ask, True, PATIENCE_SECONDS) else "the child stays as it was at the fork"

    said = in_child(child)
    host.turn(True)
    assert eventually(ask, True, 30), "the parent does not follow"
    os.write(go_write, b"x")
    return said()


def without_source(host: Host) -> tuple[str, str]:
    """The source goes away; a client that is open is asked, and one in a new process."""
    host.turn(True)
    ask = host.open()
    assert eventually(ask, True, 30)
    host.go()
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        if ask() is not True:
            return "answers change", ""
        time.sleep(0.05)
    program = "import sys, bad_days; bad_days.newcomer(*sys.argv[1:])"
    port = str(host.server.server_port) if isinstance(host, Unleash) else "0"
    said = subprocess.run([sys.executable, "-c", program, host.name, str(host.folder), port], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, cwd=Path(__file__).parent, timeout=120).stdout.decode()
    new = "it has the last flags" if "True" in said else "it has defaults only"
    return "it answers as before", new


def newcomer(name: str, folder: str, port: str) -> None:
    logging.disable(logging.CRITICAL)
    host = object.__new__(next(kind for kind in HOSTS if kind.name == name))
    host.folder = Path(folder)
    if isinstance(host, Unleash):
        host.server = type("Gone", (), {"server_port": int(port)})
    print(eventually(host.open(), True, 3), flush=True)
    os._exit(0)


HOSTS: list[type[Host]] = [Libflags, Unleash, Flagd]


@contextlib.contextmanager
def folders() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def main() -> None:
    logging.disable(logging.CRITICAL)
    days: dict[str, list[str]] = {"its source goes away": [], "its source is away, a new process starts": [],
                                  "its process forks after it was opened": []}
    for kind in HOSTS:
        outcomes = []
        # Each in a process of its own, since some clients exist once a process.
        for test in (without_source, forked):
            def tell(kind: type[Host] = kind, test: Callable[[Host], object] = test) -> str:
                with folders() as folder:
                    host = kind(folder)
                    try:
                        return json.dumps(test(host))
                    finally:
                        if isinstance(host, Libflags):
                            host.go()

            outcomes.append(json.loads(in_child(tell)()))
        (open_client, new), after_fork = outcomes
        for day, outcome in zip(days, (open_client, new, after_fork), strict=True):
            days[day].append(outcome)
            print(f"{day}, {kind.name}: {outcome}", flush=True)
    text = (Path(__file__).parent / "../../docs/comparison.md").read_text()
    rows = [f"| {day} | {' | '.join(outcomes)} |" for day, outcomes in days.items()]
    missing = [row for row in rows if row not in text]
    assert not missing, "docs/comparison.md does not say what happened:\n" + "\n".join(missing)
    print(f"{len(rows) * len(HOSTS)} passed, 0 failed")


if __name__ == "__main__":
    main()
