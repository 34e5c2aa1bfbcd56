#!/usr/bin/env python3
"""Times the Python face of libflags: bench.py [--json] [--batches N]

Each answer is asserted before it is timed. Times are nanoseconds a call, the `for` loop around it included, over batches of 2 000 calls: the best
batch, the median, and the 99th percentile of the batches. "no-op method" is a method of the same native module that does
nothing: what any call from Python costs before the first flag is looked up.

With --json, one object: {"python": "3.11.7", "libflags": "0.1.0", "rows": [{"name": "static bool", "min_ns": …, "median_ns": …, "p99_ns": …}]}.
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple

import libflags

CALLS = 2_000
CONTEXT = {"targetingKey": "user-1", "plan": "premium", "country": "NL", "age": 42, "beta": True}


class Row(NamedTuple):
    name: str
    # Makes what is timed, of a client of 1 000 flags.
    ready: Callable[[libflags.Client], Callable[..., object]]
    arguments: tuple[object, ...]
    expected: object
    # What of the answer is compared with what is expected.
    answered: Callable[[Any], object] = lambda answer: answer


RULE = ("rule", False, CONTEXT)
SMALL = {"size": 3, "names": ["x", "y"]}
ROWS = [
    Row("no-op method", lambda client: closed(client).__exit__, (None, None, None), None),
    Row("static bool", lambda client: client.get_boolean_value, ("static", False), True),
    Row("static bool, context dict of 5", lambda client: client.get_boolean_value, ("static", False, CONTEXT), True),
    Row("static bool by flag()", lambda client: client.flag("static").get_boolean_value, (False,), True),
    Row("one rule, context dict of 5", lambda client: client.get_boolean_value, RULE, True),
    Row("one rule by flag(), context dict of 5", lambda client: client.flag("rule").get_boolean_value, RULE[1:], True),
    Row("one rule in a snapshot, context dict of 5", lambda client: client.snapshot().get_boolean_value, RULE, True),
    Row("two levels, context dict of 5", lambda client: client.get_boolean_value, ("two-levels", False, CONTEXT), True),
    Row("fractional, context dict of 5", lambda client: client.get_boolean_value, ("half", False, CONTEXT), True),
    Row("in over 10 000 ids, context dict of 5", lambda client: client.get_boolean_value, ("written", False, CONTEXT), True),
    Row("static string", lambda client: client.get_string_value, ("text", ""), "#00f"),
    Row("small object", lambda client: client.get_object_value, ("object", None), SMALL),
    Row("one rule with details, context dict of 5", lambda client: client.get_boolean_details, RULE, "on",
        answered=lambda answer: answer.variant),
]


def closed(client: libflags.Client) -> libflags.Snapshot:
    snapshot = client.snapshot()
    snapshot.close()
    return snapshot


def definition() -> str:
    switch = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "on"}
    premium, country = {"==": [{"var": "plan"}, "premium"]}, {"==": [{"var": "country"}, "NL"]}
    adult = {"and": [{">=": [{"var": "age"}, 18]}, {"==": [{"var": "beta"}, False]}]}
    either = {"or": [adult, {"and": [premium, country]}]}
    ids = [f"user-{number}" for number in range(10_000)]
    flags = {f"flag-{number}": switch for number in range(993)}
    flags["static"] = switch
    for name, targeting in [
        ("rule", {"if": [premium, "on", "off"]}),
        ("two-levels", {"if": [either, "on", "off"]}),
        ("half", {"fractional": [["on", 50], ["off", 50]]}),
        ("written", {"if": [{"in": [{"var": "targetingKey"}, ids]}, "on", "off"]}),
    ]:
        flags[name] = {**switch, "defaultVariant": "off", "targeting": targeting}
    flags["text"] = {"state": "ENABLED", "variants": {"blue": "#00f"}, "defaultVariant": "blue"}
    flags["object"] = {"state": "ENABLED", "variants": {"a": SMALL}, "defaultVariant": "a"}
    return json.dumps({"flags": flags})


def time_calls(call: Callable[..., object], arguments: tuple[object, ...], batches: int) -> list[float]:
    """Nanoseconds a call, of each batch."""
    # The usual numbers of arguments are written out: unpacking them would cost as much as a call.
    if len(arguments) == 1:
        def batch(one: object = arguments[0]) -> None:
            for _ in repeat(None, CALLS):
                call(one)
    elif len(arguments) == 2:
        def batch(one: object = arguments[0], two: object = arguments[1]) -> None:
            for _ in repeat(None, CALLS):
                call(one, two)
    else:
        one, two, three = arguments
        def batch(one: object = one, two: object = two, three: object = three) -> None:
            for _ in repeat(None, CALLS):
                call(one, two, three)
    batch()
    times = []
    for _ in range(batches):
        start = time.perf_counter_ns()
        batch()
        times.append((time.perf_counter_ns() - start) / CALLS)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--batches", type=int, default=2_000, help="batches of 2 000 calls a row (default: 2 000)")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "flags.json")
        path.write_text(definition())
        client = libflags.Client.from_file(path)
    measured = []
    for row in ROWS:
        call = row.ready(client)
        answer = row.answered(call(*row.arguments))
        assert answer == row.expected and type(answer) is type(row.expected), (row.name, answer)
        times = sorted(time_calls(call, row.arguments, options.batches))
        best, median, p99 = times[0], statistics.median(times), times[len(times) * 99 // 100]
        measured.append({"name": row.name, "min_ns": round(best, 1), "median_ns": round(median, 1), "p99_ns": round(p99, 1)})
        if not options.json:
            print(f"{row.name:45} best {best:7.1f}  median {median:7.1f}  p99 {p99:7.1f} ns", flush=True)
    if options.json:
        print(json.dumps({"python": platform.python_version(), "libflags": libflags.__version__, "rows": measured}))


if __name__ == "__main__":
    main()
