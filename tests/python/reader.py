"""reader.py STORE: reads the flags of tests/src/numbered.rs without a pause until its standard input ends, and checks each
answer. What it says is in tests/src/processes.rs."""

import select
import sys
import time

import libflags

CYCLE, NUMBERS, TEXTS = 256, 64, 8
TIERS = ("gold", "plain")


def check(flags: libflags.Snapshot) -> int:
    """Reads every flag of one version and checks that it is that version's; gives the number of evaluations."""
    generation = flags.generation
    number = generation % CYCLE
    for index in range(NUMBERS):
        found = flags.get_integer_value(f"n-{index}", -1)
        assert found == number, f"n-{index} is {found} in generation {generation}"
    for index in range(TEXTS):
        tier = TIERS[index % 2]
        text = flags.get_string_value(f"t-{index}", "default", {"targetingKey": "user", "tier": tier})
        assert text == f"{tier}-{number}", f"t-{index} is {text} in generation {generation}"
    is_even = number % 2 == 0
    assert flags.get_boolean_value("even", not is_even) is is_even, f"even is wrong in generation {generation}"
    return NUMBERS + TEXTS + 1


def generation_of(client: libflags.Client) -> int:
    with client.snapshot() as flags:
        return flags.generation


def main() -> None:
    client = libflags.Client(sys.argv[1])
    last = evaluations = 0
    reported = 0.0
    while True:
        with client.snapshot() as flags:
            generation = flags.generation
            assert generation >= last, f"generation {generation} after {last}"
            evaluations += check(flags)
        number = client.get_integer_value("n-0", -1)
        after = generation_of(client)
        between = number >= 0 and (number - generation) % CYCLE <= after - generation
        assert between, f"{number} between the generations {generation} and {after}"
        evaluations += 1
        last = generation
        if time.monotonic() > reported + 0.005:
            reported = time.monotonic()
            print(f"progress {evaluations} {generation} {evaluations}", flush=True)
            if select.select([sys.stdin], [], [], 0)[0]:
                return  # nothing is ever written there: it has ended


main()
