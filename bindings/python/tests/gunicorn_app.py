"""What gunicorn serves in test_gunicorn.py. The client is opened here, in gunicorn's master, before any worker is forked."""

import json
import os
import time

import libflags

client = libflags.Client(os.environ["STORE"])
opened_by = os.getpid()


def application(environ, start_response):
    number = client.get_integer_value("number", -1, {"targetingKey": environ["PATH_INFO"]})
    # Keeps this worker from taking the next request too, so that the others get some.
    time.sleep(0.005)
    body = json.dumps({"pid": os.getpid(), "opened_by": opened_by, "number": number}).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
