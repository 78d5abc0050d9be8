"""Changes the library in one place after another, and shows which test notices.

    python scripts/mutants.py [--only TEXT ...] [--tests FILE ...] [--keep FILE] [--per-path N] [--jobs N]
                              [--list]

The changes are those of `mutations.py`, in the modules of `mutated_modules.py`. The tests run once with the
library as it is, which shows which lines each runs; then each mutant runs against the tests that call its
function, until one fails, in a fork of a process that has them ready; see `mutant_runs.py`. A change that
can't be made there, such as one of code that runs with the import, is made in a copy of the library in a
temporary folder. The working tree stays as it is. The exit status is 1 when a mutant survives or stays
undecided, or when a test fails without any change.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch
from mutant_runs import MutantRuns, end_with_parent
from mutated_modules import EQUIVALENT, MODULES
from mutations import Mutation, apply, find_mutations

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "kindaware"
TESTS = ("core", "simulated", "testing/harness")
UNDECIDED = "UNDECIDED"
OPTIONS = ["-q", "-p", "no:cacheprovider", "--timeout=60", f"--rootdir={ROOT}"]
OPTIONS += ["-m", "not (server or alone)"]
OPTIONS += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # hypothesis is there already
COPY_SECONDS = 1800


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one mutant.

    Attributes:
        mutation: the change; None is none.
        killer: the test that failed; empty where none did. Begins with UNDECIDED where the run was lost.
        seconds: how long that took.
    """

    mutation: Mutation | None
    killer: str
    seconds: float

    @property
    def is_killed(self) -> bool:
        """Whether a test failed."""
        return bool(self.killer) and not self.killer.startswith(UNDECIDED)


class Kept:
    """Mutants that a test has noticed, in a file, so that a run that was ended goes on where it was.

    Args:
        path: the file, which is made if it is missing; None keeps nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._digests = {
            module: hashlib.sha256((PACKAGE / f"{module}.py").read_bytes()).hexdigest() for module in MODULES
        }
        lines = path.read_text().splitlines() if path is not None and path.exists() else []
        self._killers = {(digest, key): killer for digest, key, killer in map(json.loads, lines)}

    def find(self, mutation: Mutation) -> Result | None:
        """Return the mutant's earlier result; None if no test noticed, or its module has changed since."""
        killer = self._killers.get((self._digests[mutation.module], mutation.key))
        return None if killer is None else Result(mutation, killer, 0.0)

    def add(self, result: Result) -> None:
        """Keep a result, if it is a mutant that a test noticed."""
        mutation = result.mutation
        if self._path is None or mutation is None or not result.is_killed:
            return
        with self._path.open("a") as file:
            print(json.dumps([self._digests[mutation.module], mutation.key, result.killer]), file=file)


class Searches:
    """A plugin of pytest that has searches of hypothesis try the same few examples each time."""

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self) -> None:
        """Change the profile before the tests read it."""
        profile = hypothesis.settings(
            hypothesis.settings.get_profile("fast"),
            database=None,
            derandomize=True,  # else a flaky test would count as one that notices
            phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
        )
        hypothesis.settings.register_profile("fast", profile)
        hypothesis.settings.load_profile("fast")


def all_tests() -> list[str]:
    """List the files of tests that a mutant may fail."""
    folders = [ROOT / "tests" / name for name in TESTS]
    return [str(path.relative_to(ROOT)) for one in folders for path in sorted(one.glob("test_*.py"))]


def run_in_forks(
    mutations: list[Mutation], files: list[str], jobs: int, per_path: int | None
) -> Iterator[Result | Mutation]:
    """Run mutants in forks of a process with the tests; those that can't be put in place as they are."""
    with tempfile.TemporaryDirectory(prefix="kindaware-mutants-") as folder:
        found, output = Path(folder, "results"), Path(folder, "output")
        found.touch()
        waiting = dict(enumerate(mutations))
        sys.stdout.flush()
        child = os.fork()
        if not child:
            plugin = MutantRuns(PACKAGE, mutations, found, jobs=jobs, per_path=per_path)
            _run_pytest(plugin, files, output)
        with found.open() as lines:
            is_done = False
            while not is_done:
                time.sleep(0.1)
                is_done = os.waitpid(child, os.WNOHANG)[0] != 0
                for line in lines:
                    number, killer, seconds = json.loads(line)
                    mutation = waiting.pop(number, None)
                    yield mutation if mutation and killer is None else Result(mutation, killer, seconds)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # what is left of its forks
        if waiting:
            print(output.read_text()[-10_000:])
        yield from (Result(one, f"{UNDECIDED}: its run was lost", 0.0) for one in waiting.values())


def _run_pytest(plugin: MutantRuns, files: list[str], output: Path) -> None:
    """Run pytest in a child, whose output goes to a file."""
    os.setsid()
    end_with_parent()
    try:
        os.chdir(ROOT)
        written = os.open(output, os.O_WRONLY | os.O_CREAT)
        os.dup2(written, 1)
        os.dup2(written, 2)
        pytest.main([*OPTIONS, *files], plugins=[plugin, Searches()])
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(0)


def run_in_copy(mutation: Mutation, files: list[str]) -> Result:
    """Run one mutant against all tests, as a copy of the library."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="kindaware-mutants-") as folder:
        shutil.copytree(PACKAGE, Path(folder, "kindaware"))
        apply(mutation, Path(folder, "kindaware"))
        command = [sys.executable, "-m", "pytest", "-x", "--hypothesis-profile=fast", *OPTIONS, *files]
        environment = {**os.environ, "PYTHONPATH": folder}  # goes before the installed one
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env=environment,
                capture_output=True,
                text=True,
                timeout=COPY_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Result(mutation, f"{UNDECIDED}: no end after {COPY_SECONDS} s", time.monotonic() - started)
    names = [line.split()[1] for line in done.stdout.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    killer = names[0] if names else "" if done.returncode == 0 else f"pytest ended with {done.returncode}"
    return Result(mutation, killer, time.monotonic() - started)


def run_all(mutations: list[Mutation], files: list[str], jobs: int, per_path: int | None) -> Iterator[Result]:
    """Run mutants, so many at a time; gives what became of each when it is known."""
    not_in_place: list[Mutation] = []
    for one in run_in_forks(mutations, files, jobs, per_path):
        if isinstance(one, Result):
            yield one
        else:
            not_in_place.append(one)
    # Last, since each takes long, and what is known by then is kept.
    yield from (run_in_copy(one, files) for one in not_in_place)


def shown(results: Iterator[Result], kept: Kept) -> Iterator[Result]:
    """Pass results on, and print and keep each."""
    for one in results:
        kept.add(one)
        name = one.mutation or "without any change"
        print(f"{one.seconds:6.1f} s  {name}  <-  {one.killer or 'no test'}", flush=True)
        yield one


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
    parser.add_argument(
        "--tests", action="append", metavar="FILE", help="only the tests of this file, or of others given so"
    )
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="FILE",
        help="keep the mutants that a test notices in this file; those that it has do not run again, unless "
        "their module has changed",
    )
    parser.add_argument(
        "--per-path",
        type=int,
        metavar="N",
        help="only so many tests for each path through a mutant's function",
    )
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="how many at a time")
    parser.add_argument("--list", action="store_true", help="only list the mutants")
    options = parser.parse_args()
    mutations = [
        one for one in find_mutations(PACKAGE) if any(text in str(one) for text in options.only or [""])
    ]
    if options.list:
        print(*mutations, sep="\n")
        return 0
    prepare()
    started = time.monotonic()
    files = options.tests or all_tests()
    kept = Kept(options.keep)
    earlier = [one for one in map(kept.find, mutations) if one is not None]
    left = [one for one in mutations if kept.find(one) is None]
    found = run_all(left, files, options.jobs, options.per_path) if left else iter(())
    is_well = report([*earlier, *shown(found, kept)])
    print(f"{time.monotonic() - started:.0f} s, {options.jobs} at a time")
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main())
