#!/usr/bin/env python3
"""Other ways to read flags from Python, on the same work and in turns with libflags: peers.py [--json] [--check] [--only ROW]...

Run by `cargo xtask bench` with the packages of requirements.txt, libflags on PYTHONPATH, and flagsd in $FLAGSD. Nothing here needs a
network: each peer gets its flags from memory or a file, in its own format. Each shows that it answers right before it is timed.

With --json, one object a line: {"row": …, "about": …, "unit": …, "contenders": [{"name", "version", "best", "median", "p99", "samples"}],
"not_measured": [{"name", "why"}]}.
"""

import argparse
import contextlib
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from itertools import repeat
from pathlib import Path
from typing import Any

# As in bindings/python/bench.py.
CONTEXT = {"targetingKey": "user-1", "plan": "premium", "country": "NL", "age": 42, "beta": True}
# What is asked of each client: the key of a boolean flag, of which CONTEXT has "on" where it is true.
EXPECTED = {"static": True, "rule": True, "two-levels": True, "half": None, "written": True}
IDS = [f"user-{number}" for number in range(10_000)]
FLAGS = 993

LIBFLAGS, UNLEASH, FLAGD, GROWTHBOOK, STATSIG, IN_MEMORY = (
    "libflags", "UnleashClient", "openfeature-provider-flagd", "growthbook", "statsig-python-core", "openfeature-sdk")

Read = Callable[[str, dict[str, Any]], Callable[[], bool]]


# --- The flags, in everybody's terms. `number` static flags, and one flag of each rule.

def flagd_flags(number: int) -> dict[str, Any]:
    switch = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "on"}

    def ruled(rule: object) -> dict[str, Any]:
        return {**switch, "defaultVariant": "off", "targeting": rule}

    premium = {"==": [{"var": "plan"}, "premium"]}
    country = {"==": [{"var": "country"}, "NL"]}
    adult = {"and": [{">=": [{"var": "age"}, 18]}, {"==": [{"var": "beta"}, False]}]}
    flags = {f"flag-{index}": switch for index in range(number)}
    flags["static"] = switch
    flags["rule"] = ruled({"if": [premium, "on", "off"]})
    flags["two-levels"] = ruled({"if": [{"or": [adult, {"and": [premium, country]}]}, "on", "off"]})
    flags["half"] = ruled({"fractional": [["on", 50], ["off", 50]]})
    flags["written"] = ruled({"if": [{"in": [{"var": "targetingKey"}, IDS]}, "on", "off"]})
    return {"flags": flags}


def unleash_flags(number: int) -> dict[str, Any]:
    def toggle(name: str, *strategies: list[dict[str, Any]], **gradual: str) -> dict[str, Any]:
        kind = {"name": "flexibleRollout" if gradual else "default", "parameters": gradual}
        return {"name": name, "type": "release", "enabled": True, "variants": [],
                "strategies": [{**kind, "constraints": constraints} for constraints in strategies or ([],)]}

    def within(name: str, *values: str) -> dict[str, Any]:
        return {"contextName": name, "operator": "IN", "values": values}

    premium, country = within("plan", "premium"), within("country", "NL")
    adult = [{"contextName": "age", "operator": "NUM_GTE", "value": "18"}, within("beta", "false")]
    features = [toggle(f"flag-{index}") for index in range(number)]
    features += [toggle("static"), toggle("rule", [premium]), toggle("two-levels", adult, [premium, country]),
                 toggle("half", [], rollout="50", stickiness="userId", groupId="half"),
                 toggle("written", [within("userId", *IDS)])]
    return {"version": 2, "features": features}


def growthbook_flags(number: int) -> dict[str, Any]:
    def ruled(**rule: object) -> dict[str, Any]:
        return {"defaultValue": False, "rules": [{**rule, "force": True}]}

    features: dict[str, Any] = {f"flag-{index}": {"defaultValue": True} for index in range(number)}
    features["static"] = {"defaultValue": True}
    features["rule"] = ruled(condition={"plan": "premium"})
    features["two-levels"] = ruled(condition={
        "$or": [{"age": {"$gte": 18}, "beta": False}, {"plan": "premium", "country": "NL"}]})
    features["half"] = ruled(coverage=0.5, hashAttribute="targetingKey")
    features["written"] = ruled(condition={"targetingKey": {"$in": IDS}})
    return features


def statsig_flags(number: int) -> dict[str, Any]:
    conditions: dict[str, Any] = {}

    def condition(field: str, operator: str, value: object) -> str:
        kind = "unit_id" if field == "userID" else "user_field"
        return put({"type": kind, "targetValue": value, "operator": operator, "field": field})

    def put(found: dict[str, Any]) -> str:
        name = str(len(conditions))
        conditions[name] = {"targetValue": None, "operator": None, "field": None, "additionalValues": {}, "idType": "userID",
                            **found}
        return name

    def gate(*rules: list[str], share: int = 100) -> dict[str, Any]:
        return {"type": "feature_gate", "salt": "salt", "enabled": True, "defaultValue": False, "idType": "userID",
                "entity": "feature_gate", "rules": [
                    {"name": f"rule-{index}", "id": f"rule-{index}", "salt": f"salt-{index}", "passPercentage": share,
                     "returnValue": True, "conditions": rule, "idType": "userID"} for index, rule in enumerate(rules)]}

    everybody = put({"type": "public"})
    premium, country = condition("plan", "any_case_sensitive", ["premium"]), condition("country", "any_case_sensitive", ["NL"])
    adult = [condition("age", "gte", 18), condition("beta", "any", ["false"])]
    gates = {f"flag-{index}": gate([everybody]) for index in range(number)}
    gates["static"] = gate([everybody])
    gates["rule"] = gate([premium])
    gates["two-levels"] = gate(adult, [premium, country])
    gates["half"] = gate([everybody], share=50)
    gates["written"] = gate([condition("userID", "any_case_sensitive", IDS)])
    return {"feature_gates": gates, "dynamic_configs": {}, "layer_configs": {}, "condition_map": conditions,
            "experiment_to_layer": {}, "has_updates": True, "time": 1_700_000_000_000}


DEFINITIONS = {LIBFLAGS: flagd_flags, UNLEASH: unleash_flags, FLAGD: flagd_flags, GROWTHBOOK: growthbook_flags, STATSIG: statsig_flags}


# --- The clients. Each is opened on a file in its own format and gives, for a key and a context, what is timed: a call that has
# the context in the client's own terms already, since a program makes it once a request and asks for many flags.

def open_libflags(path: Path) -> Read:
    import libflags

    store = os.environ.get("FLAGS_COMPARE_STORE")
    client = libflags.Client(store) if store else libflags.Client.from_file(path)
    call = client.get_boolean_value
    return lambda key, context: lambda: call(key, False, context)


def open_unleash(path: Path) -> Read:
    from UnleashClient import UnleashClient
    from UnleashClient.cache import FileCache

    cache = FileCache("libflags-compare", directory=str(path.parent / "cache"))
    cache.bootstrap_from_dict(json.loads(path.read_text()))
    client = UnleashClient(url="http://localhost:1/api", app_name="libflags-compare", cache=cache, disable_metrics=True,
                           disable_registration=True)
    client.initialize_client(fetch_toggles=False)
    call = client.is_enabled

    def read(key: str, context: dict[str, Any]) -> Callable[[], bool]:
        properties = {name: str(value).lower() if isinstance(value, bool) else str(value)
                      for name, value in context.items() if name != "targetingKey"}
        own = {"userId": context["targetingKey"], "properties": properties}
        return lambda: call(key, own)

    return read


def open_flagd(path: Path) -> Read:
    from openfeature import api
    from openfeature.contrib.provider.flagd import FlagdProvider
    from openfeature.contrib.provider.flagd.config import ResolverType

    return open_feature(api, FlagdProvider(resolver_type=ResolverType.FILE, offline_flag_source_path=str(path)))


def open_in_memory(_: Path) -> Read:
    from openfeature import api
    from openfeature.provider.in_memory_provider import InMemoryFlag, InMemoryProvider

    flags = {key: InMemoryFlag("on", {"on": True, "off": False}) for key in flagd_flags(FLAGS)["flags"]}
    return open_feature(api, InMemoryProvider(flags))


def open_feature(api: Any, provider: Any) -> Read:
    from openfeature.evaluation_context import EvaluationContext

    domain = type(provider).__name__
    api.set_provider(provider, domain)
    call = api.get_client(domain).get_boolean_value
    for _ in range(2_000):
        if call("static", False):
            break
        time.sleep(0.005)

    def read(key: str, context: dict[str, Any]) -> Callable[[], bool]:
        attributes = {name: value for name, value in context.items() if name != "targetingKey"}
        own = EvaluationContext(context["targetingKey"], attributes)
        return lambda: call(key, False, own)

    return read


def open_growthbook(path: Path) -> Read:
    from growthbook import GrowthBook

    features = json.loads(path.read_text())

    def read(key: str, context: dict[str, Any]) -> Callable[[], bool]:
        call = GrowthBook(attributes=context, features=features).is_on
        return lambda: call(key)

    return read


def open_statsig(path: Path) -> Read:
    from statsig_python_core import FeatureGateEvaluationOptions, Statsig, StatsigOptions, StatsigUser
    from statsig_python_core.data_store import DataStore, DataStoreResponse

    specs = path.read_text()

    class Specs(DataStore):
        def get(self, key: str) -> DataStoreResponse:
            return DataStoreResponse(specs, 1_700_000_000_000)

    options = StatsigOptions(data_store=Specs(), disable_network=True, disable_all_logging=True, output_log_level="none")
    client = Statsig("secret-key", options)
    client.initialize().wait()
    call, quiet = client.check_gate, FeatureGateEvaluationOptions(disable_exposure_logging=True)

    def read(key: str, context: dict[str, Any]) -> Callable[[], bool]:
        attributes = {name: value for name, value in context.items() if name != "targetingKey"}
        own = StatsigUser(context["targetingKey"], custom=attributes)
        return lambda: call(own, key, quiet)

    return read


OPEN = {LIBFLAGS: open_libflags, UNLEASH: open_unleash, FLAGD: open_flagd, GROWTHBOOK: open_growthbook, STATSIG: open_statsig,
        IN_MEMORY: open_in_memory}
NO_RULES = {IN_MEMORY: "its rules would be functions in Python"}


# --- The rows.

def prove(name: str, read: Read, key: str) -> None:
    """Compares the answer with what is right; of a rollout, that half of all users have it."""
    expected = EXPECTED[key]
    if expected is None:
        trues = sum(read(key, {**CONTEXT, "targetingKey": f"user-{number}"})() for number in range(1_000))
        assert 400 < trues < 600, (name, key, trues)
    else:
        assert read(key, CONTEXT)() is expected, (name, key)
        if key != "static":
            other = {"targetingKey": "nobody", "plan": "free", "country": "DE", "age": 42, "beta": True}
            assert read(key, other)() is False, (name, key, "somebody else")


def in_turns(key: str, folder: Path, check: bool, names: list[str]) -> dict[str, list[float]]:
    """Nanoseconds a call, of each batch; the contenders take turns."""
    calls = {}
    for name in names:
        read = opened(name, folder)
        prove(name, read, key)
        calls[name] = read(key, CONTEXT)
    sizes = {name: 1 if check else max(1, int(400_000 / max(batch(call, 3), 50))) for name, call in calls.items()}
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(1 if check else 25):
        for name, call in calls.items():
            end = time.perf_counter_ns() + (0 if check else 40_000_000)
            while True:
                times[name].append(batch(call, sizes[name]))
                if time.perf_counter_ns() >= end:
                    break
    return times


def batch(call: Callable[[], bool], size: int) -> float:
    """Nanoseconds a call. The loop and the lambda are paid for by all alike."""
    start = time.perf_counter_ns()
    for _ in repeat(None, size):
        call()
    return (time.perf_counter_ns() - start) / size


OPENED: dict[str, Read] = {}


def opened(name: str, folder: Path) -> Read:
    if name not in OPENED:
        OPENED[name] = OPEN[name](written(name, folder, FLAGS))
    return OPENED[name]


def written(name: str, folder: Path, number: int) -> Path:
    path = folder / name / f"{number}.json"
    if name in DEFINITIONS and not path.exists():
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(DEFINITIONS[name](number)))
    return path


# What a process of its own does with 10 000 flags; prints its private memory in KiB.
CHILD = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
# What it imports of the standard library is paid for by the process without a client, too.
import peers
if len(sys.argv) > 2:
    assert peers.OPEN[sys.argv[2]](Path(sys.argv[3]))("rule", peers.CONTEXT)() is True
lines = open("/proc/self/smaps_rollup").read().splitlines()
print(sum(int(line.split()[1]) for line in lines if line.startswith("Private_")), flush=True)
import os
os._exit(0)
"""


def in_processes(folder: Path, check: bool, names: list[str]) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Milliseconds from the start of Python to the first answer, and private MiB then, both over what a process without a client takes."""
    number = 100 if check else 10_000
    paths = {name: written(name, folder, number) for name in names}
    here = str(Path(__file__).parent)
    times: dict[str, list[float]] = {name: [] for name in names}
    sizes: dict[str, list[float]] = {name: [] for name in names}
    bare: list[tuple[float, float]] = []

    def child(*arguments: str, **variables: str) -> tuple[float, float]:
        start = time.perf_counter()
        said = subprocess.run([sys.executable, "-c", CHILD, *arguments], env={**os.environ, **variables},
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, timeout=120).stdout
        return (time.perf_counter() - start) * 1e3, int(said.split()[-1]) / 1024

    with store(paths.get(LIBFLAGS)) as variables:
        for _ in range(1 if check else 5):
            for name, path in paths.items():
                # Next to each, so that what disturbs one disturbs the other.
                bare.append(child(here))
                its_time, its_size = child(here, name, str(path), **(variables if name == LIBFLAGS else {}))
                times[name].append(its_time)
                sizes[name].append(its_size)
    bare_time, bare_size = (statistics.median(values) for values in zip(*bare, strict=True))
    for samples, subtracted in ((times, bare_time), (sizes, bare_size)):
        for name, values in samples.items():
            samples[name] = [value - subtracted for value in values]
    return times, sizes


@contextlib.contextmanager
def store(path: Path | None) -> Iterator[dict[str, str]]:
    """flagsd on the file, as a host has it; what a child needs to find its store."""
    if path is None or "FLAGSD" not in os.environ:
        yield {}
        return
    import libflags

    place = path.parent / "store"
    command = [os.environ["FLAGSD"], "run", "--store", str(place), "--source", f"file:{path}", "--state-dir", str(path.parent / "state")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as flagsd:
        try:
            deadline = time.monotonic() + 20
            while True:
                try:
                    libflags.Client(place).close()
                    break
                except Exception:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.01)
            yield {"FLAGS_COMPARE_STORE": str(place)}
        finally:
            flagsd.kill()


def row(name: str, about: str, unit: str, samples: dict[str, list[float]], absent: dict[str, str]) -> dict[str, Any]:
    contenders = []
    for peer, values in samples.items():
        values = sorted(values)
        contenders.append({"name": peer, "version": version_of(peer), "best": round(values[0], 2),
                           "median": round(statistics.median(values), 2), "p99": round(values[(len(values) - 1) * 99 // 100], 2),
                           "samples": len(values)})
    return {"row": name, "about": about, "unit": unit, "contenders": contenders,
            "not_measured": [{"name": peer, "why": why} for peer, why in absent.items()]}


def version_of(peer: str) -> str:
    if peer == LIBFLAGS:
        import libflags

        return libflags.__version__
    return version(peer)


CALLS = [
    ("py-call-static-bool-context-dict-of-5", "static bool, context of 5, Python", "static", {}),
    ("py-call-one-rule-context-dict-of-5", "one rule, context of 5, Python", "rule", NO_RULES),
    ("py-call-two-levels-context-dict-of-5", "two levels of and/or, context of 5, Python", "two-levels", NO_RULES),
    ("py-call-fractional-context-dict-of-5", "half of all users, context of 5, Python", "half", NO_RULES),
    ("py-call-in-over-10-000-ids-context-dict-of-5", "in over 10 000 ids in the rule, context of 5, Python", "written", NO_RULES),
]
OPEN_ROW, MEMORY_ROW = "py-open-10k", "py-memory-10k"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.add_argument("--check", action="store_true", help="hardly measure: show that every peer works and answers right")
    parser.add_argument("--only", action="append", metavar="ROW", help="only the rows whose names begin so")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)

    def wanted(name: str) -> bool:
        return not options.only or any(name.startswith(start) for start in options.only)

    def say(found: dict[str, Any]) -> None:
        if options.json:
            print(json.dumps(found), flush=True)
            return
        print(f"{found['row']}: {found['about']} ({found['unit']})")
        for one in found["contenders"]:
            print(f"  {one['name']:<30}{one['best']:>12.1f}{one['median']:>12.1f}{one['p99']:>12.1f}", flush=True)

    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=memory) as directory:
        folder = Path(directory)
        # First, so that no thread of a client that is open here takes time from the children.
        if wanted(OPEN_ROW) or wanted(MEMORY_ROW):
            names = list(DEFINITIONS)
            absent = {IN_MEMORY: "has no file to open"}
            times, sizes = in_processes(folder, options.check, names)
            about = "import, open, first right answer of 10 000 flags: over a start of Python without a client"
            if wanted(OPEN_ROW):
                say(row(OPEN_ROW, about, "ms", times, absent))
            if wanted(MEMORY_ROW):
                about = "private memory of a process that has imported, opened and read 10 000 flags, over one without a client"
                say(row(MEMORY_ROW, about, "MiB", sizes, absent))
        for name, about, key, absent in CALLS:
            if wanted(name):
                names = [peer for peer in OPEN if peer not in absent]
                say(row(name, about, "ns", in_turns(key, folder, options.check, names), absent))
        sys.stdout.flush()
        # Some peers' threads would hold the end up.
        for entry in sorted(folder.rglob("*"), reverse=True):
            entry.rmdir() if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    os._exit(0)


if __name__ == "__main__":
    main()
