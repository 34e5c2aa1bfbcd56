"""soak.py STORE ANSWERS: reads the flags of a soak without a pause until its standard input ends, and compares each answer
with the table of the round that the pinned version names. tests/src/soak/table.rs draws a table, tests/src/processes.rs says
what is printed; the generation there is the round."""

import json
import select
import struct
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import libflags


class Default:
    """An object that no flag has as its value."""


DEFAULTS: dict[str, Any] = {"bool": True, "int": -99, "float": -99.5, "text": "the default", "json": Default()}
METHODS = {"bool": "boolean", "int": "integer", "float": "float", "text": "string", "json": "object"}


class Row(NamedTuple):
    key: str
    kind: str
    context: dict[str, Any]
    answer: str


def read_value(kind: str, text: str) -> Any:
    match kind:
        case "bool":
            return text == "true"
        case "int":
            return int(text)
        case "float":
            return struct.unpack(">d", bytes.fromhex(text))[0]
    return bytes.fromhex(text).decode()


def read_table(path: Path) -> list[Row]:
    subjects: list[dict[str, Any]] = []
    rows = []
    *lines, end, _ = path.read_text().split("\n")
    assert end == "end", f"{path} is cut short"
    for line in lines:
        what, *fields = line.split("\t")
        if what == "subject":
            names, kinds, values = fields[1::3], fields[2::3], fields[3::3]
            context = {bytes.fromhex(name).decode(): read_value(*typed) for name, *typed in zip(names, kinds, values)}
            if fields[0] != "-":
                context["targetingKey"] = bytes.fromhex(fields[0][1:]).decode()
            subjects.append(context)
        else:
            key, kind, subject, *answer = fields
            rows.append(Row(key, kind, subjects[int(subject)], "\t".join(answer)))
    return rows


def text_of(kind: str, value: Any) -> str:
    match kind, value:
        case "bool", bool():
            return "bool:true" if value else "bool:false"
        case "int", int():
            return f"int:{value}"
        case "float", float():
            return f"float:{struct.pack('>d', value).hex()}"
        case "text", str():
            return f"text:{value.encode().hex()}"
        case "json", (dict() | list()):
            return f"json:{json.dumps(value, separators=(',', ':'), ensure_ascii=False).encode().hex()}"
    return f"{value!r}, which is no {kind}"


def check(flags: libflags.Snapshot, rows: list[Row]) -> tuple[Row, str] | None:
    """The first row that is answered otherwise."""
    for row in rows:
        default = DEFAULTS[row.kind]
        details = getattr(flags, f"get_{METHODS[row.kind]}_details")(row.key, default, row.context)
        if details.variant is None:
            assert details.value is default or details.value == default, details
            answer = f"{details.reason}\t{details.error_code or '-'}\t-\t-"
        else:
            variant = details.variant.encode().hex()
            answer = f"{details.reason}\t{details.error_code or '-'}\t={variant}\t{text_of(row.kind, details.value)}"
        if answer != row.answer:
            return row, answer
    return None


def check_unpinned(client: libflags.Client, rows: list[Row]) -> tuple[Row, Any] | None:
    """The first row whose value the client answers otherwise."""
    for row in rows:
        default = DEFAULTS[row.kind]
        value = getattr(client, f"get_{METHODS[row.kind]}_value")(row.key, default, row.context)
        expected = row.answer.rpartition("\t")[2]
        right = (value is default or value == default) if expected == "-" else text_of(row.kind, value) == expected
        if not right:
            return row, value
    return None


def generation_of(client: libflags.Client) -> int:
    with client.snapshot() as flags:
        return flags.generation


def main() -> None:
    client = libflags.Client(sys.argv[1])
    answers = Path(sys.argv[2])
    by_handle = client.flag("soak-round")
    generation = round = evaluations = 0
    rows: list[Row] = []
    reported = 0.0
    while True:
        with client.snapshot() as flags:
            newer = flags.get_integer_value("soak-round", 0)
            assert flags.generation >= generation, f"generation {flags.generation} after {generation}"
            generation = flags.generation
            assert newer > 0, f"generation {generation} names no round"
            assert newer >= round, f"round {newer} after {round}"
            if newer > round:
                round = newer
                rows = read_table(answers / str(round))
            wrong = check(flags, rows)
            assert wrong is None, f"round {round}, generation {generation}: {wrong}"
            evaluations += len(rows)
        # The client itself, where no update comes between.
        wrong = check_unpinned(client, rows)
        number = by_handle.get_integer_value(0)
        if generation_of(client) == generation:
            assert wrong is None, f"round {round}, generation {generation}, by the client: {wrong}"
            assert number == round, f"round {round}, generation {generation}: by handle it is round {number}"
            evaluations += len(rows) + 1
        if time.monotonic() > reported + 0.005:
            reported = time.monotonic()
            print(f"progress {evaluations} {round} {evaluations}", flush=True)
            if select.select([sys.stdin], [], [], 0)[0]:
                return  # nothing is ever written there: it has ended


main()
