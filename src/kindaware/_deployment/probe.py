"""Ask a tritonserver in the same container whether it is well. Copied into pods; needs nothing but Python.

    probe.py live  --stubs 3            the server answers, and no stub is missing
    probe.py ready --stubs 3 MODEL...   the same, and the server and each model say that they are ready

The exit code is 0 or 1; what is wrong is on standard output, which `kubectl describe pod` shows.
"""

import argparse
import glob
import http.client
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import chain
from urllib.parse import quote

_STUB = b"triton_python_backend_stub"


def main(arguments: Sequence[str]) -> int:
    """Print what is wrong, and return the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("live", "ready"))
    parser.add_argument("models", nargs="*", help="models that must be ready")
    parser.add_argument("--stubs", type=int, default=0, help="how many processes of models must run")
    parser.add_argument("--server", type=int, default=0, help="process whose stubs count; any by default")
    parser.add_argument("--port", type=int, default=8000, help="of the server, for HTTP")
    parser.add_argument("--timeout", type=float, default=4.0, help="seconds that an answer may take")
    asked = parser.parse_intermixed_args(arguments)  # models may follow an option
    paths = ["/v2/health/live"]
    if asked.what == "ready":
        models = [quote(model, safe="") for model in asked.models]
        paths += ["/v2/health/ready", *(f"/v2/models/{model}/ready" for model in models)]
    for fault in chain(ask(paths, asked.port, asked.timeout), find_dead(asked.stubs, asked.server)):
        print(fault)
        return 1
    return 0


def ask(paths: Sequence[str], port: int, timeout: float) -> Iterator[str]:
    """Yield what the server says to each question, unless it is yes."""
    for path in paths:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)) as connection:
            try:
                connection.request("GET", path)
                answer = connection.getresponse()
                if answer.status != 200:
                    yield f"{path} says {answer.status} {answer.read(500).decode(errors='replace')}".rstrip()
            except (OSError, http.client.HTTPException) as error:
                yield f"{path} has no answer: {error!r}"


def find_dead(num_stubs: int, server: int) -> Iterator[str]:
    """Yield how many stubs are missing, if any."""
    found = count_stubs(server)
    if found < num_stubs:
        yield f"{found} of {num_stubs} Python stubs run: a model's process has died"


def count_stubs(server: int) -> int:
    """Count the running stubs; one that is dead but still listed has no command line.

    Args:
        server: whose children count; 0 for all processes of this container.
    """
    number = 0
    for folder in glob.glob("/proc/[0-9]*"):
        try:
            with open(f"{folder}/cmdline", "rb") as file:
                program = file.read().partition(b"\0")[0]
            with open(f"{folder}/stat", "rb") as file:
                parent = int(file.read().rpartition(b")")[2].split()[1])
        except (OSError, IndexError):
            continue
        number += program.rpartition(b"/")[2] == _STUB and server in (0, parent)
    return number


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
