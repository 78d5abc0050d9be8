"""One run of a command: what it was told, what it says, and what it keeps as it comes."""

from __future__ import annotations

import argparse
import contextlib
import json
import re
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
        about: see `describe_run`.
        minutes: after which no further scenario is begun; unless said, there is no limit.

    Attributes:
        parts: what was found, by part, as in the file.
        failed: why a part failed, by part.
        missing: what the part that runs could not measure, and why.
    """

    def __init__(
        self, args: argparse.Namespace, about: dict[str, Any], minutes: float = float("inf")
    ) -> None:
        self.args = args
        self.about = about
        self.parts: dict[str, Any] = {}
        self.failed: dict[str, str] = {}
        self.missing: list[str] = []
        self._part = ""
        self._started = time.monotonic()
        self._minutes = minutes

    def say(self, text: str) -> None:
        """Tell whoever waits what goes on."""
        print(f"[{time.monotonic() - self._started:5.0f} s] {text}", flush=True)

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
            print("\n".join(tables.align(tables.render(self.parts, bars))))
            for part, why in self.failed.items():
                self.say(f"FAILED: {part}: {why}")
        return 1 if self.failed else 0

    def add(self, found: dict[str, Any], name: str, measure: Callable[[], dict[str, Any]]) -> None:
        """Measure a scenario of the part that runs, and keep what the part has found so far."""
        with self.going_on(name):
            self.check_time()
            self.say(name)
            found["scenarios"].append({"name": name, **measure()})
        self.keep(found)

    def check_time(self) -> None:
        """Raise UnavailableError where there is no time to begin something."""
        if time.monotonic() - self._started > 60 * self._minutes:
            raise UnavailableError("there was no time left")

    def keep(self, found: Any) -> None:
        """Write what the part that runs has found so far."""
        self.parts[self._part] = json.loads(results.to_json(found))
        self._save()

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
        if self.parts and self.args.name:
            self.about["minutes"] = round((time.monotonic() - self._started) / 60, 1)
            results.save(self.args.name, {**self.about, "failed": self.failed}, self.parts)


def without_folders(text: str) -> str:
    """Cut the folders of this machine out of a text, which leaves the names of files."""
    return re.sub(r"(?<![\w:/])/(?:[^\s/:]+/)+", "", text)


def make_parser(
    command: str, parts: Mapping[str, Callable[..., Any]], *others: str
) -> argparse.ArgumentParser:
    """Return the parser of what the commands have in common; the help on parts is of their docstrings."""

    def known(part: str) -> str:
        names = (*parts, *others)
        if part not in names:
            raise argparse.ArgumentTypeError(f"expected some of {', '.join(names)}, got {part!r}; see --help")
        return part

    about = {part: str(run.__doc__).partition("\n")[0] for part, run in parts.items()}
    lines = [f"  {part:10} {text}" for part, text in about.items()]
    parser = argparse.ArgumentParser(
        command,
        epilog="\n".join(["parts:", *lines]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", metavar="PART", type=known, help="what to measure")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds: no figures to keep")
    parser.add_argument("--name", help="of the result file; unless said, it is made up")
    return parser
