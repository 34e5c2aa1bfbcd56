"""answer.py STORE: evaluates flags as it is told on standard input, and answers each line with one. tests/c/answer.c has
the particulars."""

import json
import struct
import sys
from typing import Any

import libflags


class Default:
    """An object that no flag has as its value."""


def text_of(kind: str, value: Any) -> str:
    if kind == "bool":
        assert type(value) is bool
        return "bool:true" if value else "bool:false"
    if kind == "int":
        assert type(value) is int
        return f"int:{value}"
    if kind == "float":
        assert type(value) is float
        return f"float:{struct.unpack('>Q', struct.pack('>d', value))[0]:016x}"
    if kind == "text":
        assert type(value) is str
        return f"text:{value.encode().hex()}"
    return f"json:{json.dumps(value).encode().hex()}"


def answer(flags: libflags.Snapshot, key: str, kind: str, targeting_key: Any, attributes: dict[str, Any]) -> str:
    evaluate, default = {
        "bool": (flags.get_boolean_details, True),
        "int": (flags.get_integer_details, -99),
        "float": (flags.get_float_details, -99.5),
        "text": (flags.get_string_details, "the default"),
        "json": (flags.get_object_details, Default()),
    }[kind]
    context = dict(attributes)
    if targeting_key is not None:
        context["targetingKey"] = targeting_key
    details = evaluate(key, default, context)  # type: ignore[operator]
    assert details.flag_key == key
    if details.variant is None:
        assert details.value is default or details.value == default, details
        variant, value = "-", "-"
    else:
        variant, value = "=" + details.variant.encode().hex(), text_of(kind, details.value)
    return f"{details.reason}\t{details.error_code or '-'}\t{variant}\t{value}"


def main() -> None:
    client = libflags.Client(sys.argv[1])
    flags = client.snapshot()
    for line in sys.stdin.buffer:
        asked = json.loads(line)
        if asked is None:
            flags.close()
            flags = client.snapshot()
            print(f"generation {flags.generation}", flush=True)
        else:
            print(answer(flags, *asked), flush=True)


main()
