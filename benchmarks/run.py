"""One run of a command: what it was told, what it says, and what it keeps as it comes."""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from benchmarks import results
from benchmarks.bars import Bar
from benchmarks.report import tables


class UnavailableError(Exception):
    """Something that is measured can't be had here; the message says why."""


class Run:
    """What parts are told, and whom they tell.

    Args:
        args: of the command line, see `make_parser`.

    Attributes:
        about: see `describe_run`.
        name: of the result file; None to write none.
        parts: what was found, by part.
        failed: why a part failed, by part.
        missing: what the part that runs could not measure, and why.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.about: dict[str, Any] = {}
        self.name: str | None = args.name
        self.parts: dict[str, Any] = {}
        self.failed: dict[str, str] = {}
        self.missing: list[str] = []
        self._part = ""
        self._started = time.monotonic()

    @property
    def elapsed_seconds(self) -> float:
        """How long it has been running."""
        return time.monotonic() - self._started

    def say(self, text: str) -> None:
        """Tell whoever waits what goes on."""
        print(f"[{self.elapsed_seconds:5.0f} s] {text}", flush=True)

    def choose(self, full: int, quick: int) -> int:
        """Return one of two numbers: the second with `--quick`."""
        return quick if self.args.quick else full

    def rounds(self, full: int, quick: int) -> int:
        """Return the number of rounds: that of the command line, or one of these."""
        return self.args.rounds or self.choose(full, quick)

    def seconds(self, full: float) -> float:
        """Return how long something is measured: a third of the time with `--quick`."""
        return full / self.choose(1, 3)

    def measure(self, parts: Mapping[str, Callable[[Run], Any]], bars: Sequence[Bar]) -> int:
        """Measure the parts, and print their tables whatever happens; a part that fails does not end the run.

        Returns:
            The exit status.
        """
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # servers are ended on the way out
        try:
            for part, measure in parts.items():
                self._part, self.missing = part, []
                try:
                    self.keep(measure(self))
                except Exception as error:
                    self.failed[part] = without_folders(f"{type(error).__name__}: {error}")
                    self.say(f"FAILED: {part}\n{traceback.format_exc()}")
        finally:
            self._save()
            print("\n".join(tables.align(tables.render(self.plain_parts(), bars))))
            for part, why in self.failed.items():
                self.say(f"FAILED: {part}: {why}")
        return 1 if self.failed else 0

    def keep(self, found: Any) -> None:
        """Write what the part that runs has found so far."""
        self.parts[self._part] = found
        self._save()

    def plain_parts(self) -> dict[str, Any]:
        """Return the parts as they would be read from the file."""
        plain: dict[str, Any] = json.loads(results.to_json(self.parts))
        return plain

    @contextlib.contextmanager
    def going_on(self, subject: str) -> Iterator[None]:
        """Let the part go on after an error in the block, which is told and noted.

        Raises:
            AssertionError: an answer is wrong, so no figure means anything.
        """
        try:
            yield
        except AssertionError:
            raise
        except Exception as error:
            is_expected = isinstance(error, UnavailableError)
            reason = str(error) if is_expected else f"{type(error).__name__}: {error}"
            self.missing.append(without_folders(f"{subject}: {reason}"))
            self.say(f"NOT MEASURED: {subject}: {reason if is_expected else traceback.format_exc()}")

    def _save(self) -> None:
        if self.parts and self.name is not None:
            minutes = round(self.elapsed_seconds / 60, 1)
            results.save(self.name, {**self.about, "minutes": minutes, "failed": self.failed}, self.parts)


def without_folders(text: str) -> str:
    """Cut the folders of this machine out of a text, which leaves the names of files."""
    return re.sub(r"(?<![\w:/])/(?:[^\s/:]+/)+", "", text)


def make_parser(command: str, parts: Sequence[str], epilog: str = "") -> argparse.ArgumentParser:
    """Return the parser of what the commands have in common."""

    def known(part: str) -> str:
        if part not in parts:
            raise argparse.ArgumentTypeError(f"expected some of {', '.join(parts)}, got {part!r}; see --help")
        return part

    parser = argparse.ArgumentParser(
        command, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", type=known, help="what to measure")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds: no figures to keep")
    parser.add_argument("--name", help="of the result file; unless said, it is made up")
    return parser
