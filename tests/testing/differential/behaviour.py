"""How a named behaviour is written down."""

import textwrap
from dataclasses import dataclass

from differential_kit import x


@dataclass(frozen=True)
class Behaviour:
    """The body of an `execute`, and the requests that it gets, one call after the other.

    `body` sees `self`, `requests` and `request`, the first of them. With `model` "batches" all requests come
    in one call; with "streams" there may be any number of responses.
    """

    body: str
    asks: tuple = (x(),)
    model: str = "runner"
    is_async: bool = False
    logs: bool = False


def says(lines, *asks, setup="", names="", **options):
    """A behaviour that reports what each of these expressions gives or raises."""
    found = f'return [report(tries(r"""\n{textwrap.dedent(lines).strip()}\n""", request=request, {names}))]'
    return Behaviour(f"{textwrap.dedent(setup).strip()}\n{found}", asks or (x(),), **options)
