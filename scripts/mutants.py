"""Changes the library in one place after another, and shows which test notices.

    python scripts/mutants.py [--only TEXT ...] [--jobs N] [--list] [--likely]

The changes are those of `mutations.py`, in the modules of `mutated_modules.py`. Each mutant is run against
the tests of its module, in a fork of a process that has them ready; see `warm_runs.py`. One that these don't
notice is run against all tests, as a copy of the library in a temporary folder, unless `--likely` leaves that
out. The working tree stays as it is. The exit status is 1 when a mutant survives or stays undecided, or when
the unchanged copy fails.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import hypothesis
import numpy as np
import pytest
import torch
from mutated_modules import EQUIVALENT, MODULES
from mutations import Mutation, apply, find_mutations
from warm_runs import WarmRuns

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "kindaware"
TEST_TIMEOUT_SECONDS = 120
COPY_TIMEOUT_SECONDS = 1800
UNDECIDED = "UNDECIDED"
OPTIONS = ["-q", "-p", "no:cacheprovider", f"--timeout={TEST_TIMEOUT_SECONDS}", f"--rootdir={ROOT}"]
OPTIONS += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # hypothesis is there already


@dataclass(frozen=True, slots=True)
class Task:
    """What one fork does.

    Attributes:
        mutations: its mutants; none for the unchanged copy.
        work: writes a line of JSON for each to a file: number, killer, seconds. Gets a folder too.
        limit_seconds: how long it may take.
    """

    mutations: list[Mutation]
    work: Callable[[TextIO, Path], None]
    limit_seconds: float


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one mutant.

    Attributes:
        mutation: the change; None is none.
        killer: the test that failed; empty where none did. Begins with UNDECIDED where one took too long.
        seconds: how long that took.
    """

    mutation: Mutation | None
    killer: str
    seconds: float


class Searches:
    """A plugin of pytest that has searches of hypothesis try the same examples each time.

    Args:
        profile: how many; see `tests/searches.py`.
    """

    def __init__(self, profile: str) -> None:
        self._profile = profile

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self) -> None:
        """Change the profile before the tests read it."""
        profile = hypothesis.settings(
            hypothesis.settings.get_profile(self._profile),
            database=None,
            derandomize=True,  # else a flaky test would count as one that notices
            phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
        )
        hypothesis.settings.register_profile(self._profile, profile)
        hypothesis.settings.load_profile(self._profile)


class FirstFailure:
    """A plugin of pytest that keeps the name of the first test that failed."""

    def __init__(self) -> None:
        self.name = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Look at the outcome of one phase of one test."""
        if report.failed:
            undecided = f"{UNDECIDED}: " if "Timeout (>" in report.longreprtext else ""
            self.name = self.name or f"{undecided}{report.nodeid}"

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Look at the outcome of one import."""
        if report.failed:
            self.name = self.name or report.nodeid


def likely_tests(module: str) -> list[str]:
    """List the files of tests that are about a module."""
    return [f"tests/{name}" for name in MODULES[module].tests]


def all_tests() -> list[str]:
    """List the files of tests that a mutant may fail."""
    folders = [ROOT / "tests" / name for name in ("simulated", "core")]
    return [str(path.relative_to(ROOT)) for one in folders for path in sorted(one.glob("test_*.py"))]


def warm_task(mutations: list[Mutation]) -> Task:
    """Run the mutants of one module against its tests, which are collected once."""
    module = mutations[0].module

    def work(results: TextIO, folder: Path) -> None:
        plugin = WarmRuns(PACKAGE / f"{module}.py", mutations, results)
        status = pytest.main([*OPTIONS, *likely_tests(module)], plugins=[plugin, Searches("fast")])
        if status != pytest.ExitCode.OK:
            raise RuntimeError(f"pytest ended with {status!r}")

    return Task(mutations, work, 24 * 3600)


def copy_task(mutation: Mutation | None) -> Task:
    """Run one mutant against all tests, as a copy of the library."""

    def work(results: TextIO, folder: Path) -> None:
        started = time.monotonic()
        shutil.copytree(PACKAGE, folder / "kindaware")
        if mutation is not None:
            apply(mutation, folder / "kindaware")
        sys.path.insert(0, str(folder))
        os.environ["PYTHONPATH"] = str(folder)
        first = likely_tests(mutation.module) if mutation is not None else []
        failure = FirstFailure()
        files = [*first, *(name for name in all_tests() if name not in first)]
        status = pytest.main(["-x", *OPTIONS, *files], plugins=[failure, Searches("ci")])
        killer = failure.name or ("" if status == pytest.ExitCode.OK else f"pytest ended with {status!r}")
        import kindaware

        assert Path(kindaware.__file__ or "").is_relative_to(folder), kindaware.__file__
        number = None if mutation is None else mutation.number
        print(json.dumps([number, killer, time.monotonic() - started]), file=results, flush=True)

    return Task([] if mutation is None else [mutation], work, COPY_TIMEOUT_SECONDS)


class Fork:
    """A task under way.

    Args:
        task: what it does.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._waiting = {one.number: one for one in task.mutations}
        self._folder = Path(tempfile.mkdtemp(prefix="kindaware-mutants-"))
        self._started = time.monotonic()
        (self._folder / "results").touch()
        self._results = (self._folder / "results").open()
        sys.stdout.flush()
        self._child = os.fork()
        if not self._child:
            self._work()

    def _work(self) -> None:
        """Do the task in the child; what it prints goes to a file."""
        os.setsid()
        try:
            os.chdir(ROOT)
            output = os.open(self._folder / "output", os.O_WRONLY | os.O_CREAT)
            os.dup2(output, 1)
            os.dup2(output, 2)
            with (self._folder / "results").open("w") as results:
                self._task.work(results, self._folder)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(0)

    def take(self) -> tuple[list[Result], bool]:
        """Return what is known since the last time, and whether that was all."""
        done, _ = os.waitpid(self._child, os.WNOHANG)
        seconds = time.monotonic() - self._started
        is_late = seconds >= self._task.limit_seconds
        found = [self._read(line) for line in self._results]
        if not (done or is_late):
            return found, False
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child, signal.SIGKILL)  # what its tests have started, or itself
        if not done:
            os.waitpid(self._child, 0)
        lost: list[Mutation | None] = list(self._waiting.values())
        if not self._task.mutations and not found:
            lost = [None]
        if lost or any(one.mutation is None and one.killer for one in found):
            print((self._folder / "output").read_text()[-10_000:])
        shutil.rmtree(self._folder, ignore_errors=True)
        found += [Result(one, f"{UNDECIDED}: no end after {seconds:.0f} s", seconds) for one in lost]
        return found, True

    def _read(self, line: str) -> Result:
        number, killer, seconds = json.loads(line)
        return Result(self._waiting.pop(number, None), killer, seconds)


def run_all(tasks: list[Task], jobs: int) -> Iterator[Result]:
    """Run tasks, so many at a time; gives what became of each mutant when it is known."""
    running: list[Fork] = []
    waiting = list(tasks)
    while waiting or running:
        while waiting and len(running) < jobs:
            running.append(Fork(waiting.pop(0)))
        for fork in list(running):
            found, is_done = fork.take()
            yield from found
            if is_done:
                running.remove(fork)
        time.sleep(0.05)


def shown(results: Iterator[Result]) -> Iterator[Result]:
    """Pass results on, and print each."""
    for one in results:
        name = one.mutation or "the unchanged copy"
        print(f"{one.seconds:6.1f} s  {name}  <-  {one.killer or 'no test'}", flush=True)
        yield one


def run_warm(mutations: list[Mutation], jobs: int) -> list[Result]:
    """Run mutants against the tests of their modules, the module with most mutants first."""
    by_module: dict[str, list[Mutation]] = {}
    for one in mutations:
        by_module.setdefault(one.module, []).append(one)
    tasks = [warm_task(some) for some in sorted(by_module.values(), key=len, reverse=True)]
    return list(shown(run_all(tasks, jobs)))


def run_copies(mutations: list[Mutation], jobs: int) -> list[Result]:
    """Run mutants against all tests, when the unchanged copy has passed them."""
    results = list(shown(run_all([copy_task(None)], 1)))
    if any(one.killer for one in results):
        sys.exit("the unchanged copy: expected its tests to pass, got a failure; see above")
    return list(shown(run_all([copy_task(one) for one in mutations], jobs)))


def report(results: list[Result]) -> bool:
    """Print the table and the survivors; gives whether all is well."""
    order = {name: place for place, name in enumerate(MODULES)}
    rows = [(one.mutation, one.killer) for one in results if one.mutation is not None]
    rows.sort(key=lambda row: (order[row[0].module], row[0].number))
    print("\n| Mutant | Killed by |\n|---|---|")
    for mutation, killer in rows:
        cell = f"`{killer}`" if killer else EQUIVALENT.get(mutation.key, "SURVIVES")
        print(f"| `{str(mutation).replace('|', chr(92) + '|')}` | {cell} |")
    survivors = [mutation for mutation, killer in rows if not killer and mutation.key not in EQUIVALENT]
    undecided = [mutation for mutation, killer in rows if killer.startswith(UNDECIDED)]
    killed = [mutation for mutation, killer in rows if killer and mutation not in undecided]
    wrong = {one.key for one in killed} & set(EQUIVALENT)
    failures = [one.killer for one in results if one.mutation is None and one.killer]
    by_module = Counter(mutation.module for mutation, _ in rows)
    modules = ", ".join(f"{name} {count}" for name, count in by_module.items())
    print(f"\n{len(rows)} mutants ({modules}): {len(killed)} killed")
    for mutation in survivors:
        print(f"survivor: {mutation}")
    for mutation in undecided:
        print(f"undecided: {mutation}")
    for text in sorted(wrong):
        print(f"listed as equivalent, and is not: {text}")
    for text in failures:
        print(f"fails without any change, and was left out: {text}")
    return not (survivors or undecided or wrong or failures)


def prepare() -> None:
    """Set up what every fork shares. None of it imports the library."""
    torch.set_num_threads(1)  # threads do not survive a fork
    torch.ones(2, device="meta") + np.ones(2).sum()  # imports what torch imports late


def main() -> int:
    """Run the mutants."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--only",
        action="append",
        metavar="TEXT",
        help="mutants whose name has this text, or another given so",
    )
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="how many at a time")
    parser.add_argument("--list", action="store_true", help="only list the mutants")
    parser.add_argument("--likely", action="store_true", help="only the tests of a mutant's own module")
    options = parser.parse_args()
    mutations = [
        one for one in find_mutations(PACKAGE) if any(text in str(one) for text in options.only or [""])
    ]
    if options.list:
        print(*mutations, sep="\n")
        return 0
    prepare()
    started = time.monotonic()
    results = run_warm(mutations, options.jobs)
    left = [one.mutation for one in results if one.mutation and not one.killer]
    unexplained = [one for one in left if one.key not in EQUIVALENT]
    if unexplained and not options.likely:
        results = [one for one in results if one.mutation not in unexplained]
        results += run_copies(unexplained, options.jobs)
    is_well = report(results)
    print(f"{time.monotonic() - started:.0f} s, {options.jobs} at a time")
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main())
