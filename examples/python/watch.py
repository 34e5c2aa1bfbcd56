"""Checks two flags a thousand times a second and says when an answer changes.

The store is the one in $FLAGS_STORE, or the host's own.
"""

import itertools
import time

import libflags

client = libflags.Client()
context = {"targetingKey": "user-1", "country": "DE"}
seen = ""
for checks in itertools.count(1):
    checkout = client.get_boolean_value("new-checkout", False, context)
    greeting = client.get_string_value("greeting", "?", context)
    answers = f"new-checkout={str(checkout).lower()} greeting={greeting}"
    if answers != seen:
        print(answers, flush=True)
        seen = answers
    if checks % 100 == 0:
        print("checks", checks, flush=True)
    time.sleep(0.001)
