"""Removes each line that guards order or memory on a device, one at a time, and shows which test notices.

    python scripts/mutants.py [--only TEXT ...] [--jobs N] [--list]

The changed library is a copy in a temporary folder, which comes first on the path; the working tree stays as
it is. Each mutant runs in a fork of this process, which has imported torch already. The exit status is 1 when
a mutant survives or stays undecided, which is what becomes of one that takes too long, or when the unchanged
copy fails.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
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
from mutations import MODULES, Mutation, apply, find_mutations

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "kindaware"
CORE, SIMULATED = "tests/core", "tests/simulated"
TIMEOUT_SECONDS = 600
UNDECIDED = "UNDECIDED"

KILLERS = {
    "_staging": [
        "core/test_pinned_staging.py",
        "simulated/test_memory_of_triton.py",
        "simulated/test_order_of_copies.py",
    ],
    "_runner": [
        "core/test_pipeline_faults.py",
        "core/test_device_fault.py",
        "simulated/test_state_of_hooks.py",
        "simulated/test_memory_of_triton.py",
        "simulated/test_memory_limits.py",
        "core/test_calls.py",
        "simulated/test_calls_on_gpu.py",
    ],
    "_graphs": ["core/test_cuda_graphs.py", "simulated/test_graph_buckets.py"],
    "_pipeline": [
        "core/test_device_fault.py",
        "core/test_pipeline_faults.py",
        "core/test_pipeline_isolation.py",
    ],
    "_adapter": [
        "simulated/test_faults_at_every_call.py",
        "core/test_triton_bridge.py",
        "core/test_calls.py",
        "simulated/test_calls_on_gpu.py",
    ],
    "_model": [
        "simulated/test_order_of_copies.py",
        "simulated/test_state_of_hooks.py",
        "simulated/test_lost_device.py",
    ],
    "_warmup": ["core/test_warm_up.py", "simulated/test_memory_limits.py"],
    "_padding": ["core/test_padding.py", "simulated/test_padding_on_gpu.py"],
    "_stream_pass": ["core/test_streams_on_gpu.py", "core/test_streams.py"],
    "_stream": ["core/test_streams_on_gpu.py", "core/test_streams.py"],
    "_outputs": ["core/test_pipeline_outputs.py", "simulated/test_order_of_copies.py"],
    "_modules": ["core/test_loaded_modules.py", "core/test_streams_on_gpu.py"],
    "_device_placement": ["core/test_cuda_free.py", "simulated/test_state_of_hooks.py"],
    "_runtime": ["core/test_cuda_runtime.py", "simulated/test_order_of_copies.py"],
    "_bls": ["core/test_calls.py", "simulated/test_calls_on_gpu.py"],
    "_call_stream": ["core/test_calls.py", "simulated/test_calls_on_gpu.py"],
    "_loop": ["core/test_event_loop.py", "core/test_calls.py", "simulated/test_calls_on_gpu.py"],
    "_device_map": ["core/test_device_map.py", "simulated/test_several_gpus.py"],
}
"""Where the mutants of a module mostly fail; these run first, then all others."""

EQUIVALENT: dict[str, str] = {}
"""Mutants that no test can notice, as `module.py text`, and why. One that fails or is gone is an error."""


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


def run_tests(files: list[str]) -> str:
    """Run tests until one fails; gives its name, or nothing."""
    failure = FirstFailure()
    options = ["-x", "-q", "-p", "no:cacheprovider", f"--timeout={TIMEOUT_SECONDS // 2}", f"--rootdir={ROOT}"]
    warnings = ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # hypothesis is there already
    status = pytest.main([*options, *warnings, *files], plugins=[failure])
    return failure.name or ("" if status == pytest.ExitCode.OK else f"pytest ended with {status!r}")


def stages(module: str | None) -> Iterator[list[str]]:
    """Give the tests that a mutant of a module meets, those first that are likely to fail."""
    first = [f"tests/{name}" for name in KILLERS.get(module or "", [])]
    everything = [
        str(path.relative_to(ROOT))
        for folder in (SIMULATED, CORE)
        for path in sorted((ROOT / folder).glob("test_*.py"))
    ]
    yield from ([name] for name in first)
    yield [name for name in everything if name not in first]


def work(mutation: Mutation | None, folder: Path) -> str:
    """Test a changed copy in this process, which is a fork; gives the name of the test that failed."""
    shutil.copytree(PACKAGE, folder / "kindaware")
    if mutation is not None:
        apply(mutation, folder / "kindaware")
    sys.path.insert(0, str(folder))
    os.environ["PYTHONPATH"] = str(folder)
    for files in stages(mutation.module if mutation else None):
        if killer := run_tests(files):
            return killer
    import kindaware

    assert Path(kindaware.__file__ or "").is_relative_to(folder), kindaware.__file__
    return ""


def start(mutation: Mutation | None, folder: Path) -> int:
    """Fork; the child writes the name of the test that failed to a file, and its output to another."""
    child = os.fork()
    if child:
        return child
    os.setsid()
    try:
        os.chdir(ROOT)
        output = os.open(folder / "output", os.O_WRONLY | os.O_CREAT)
        os.dup2(output, 1)
        os.dup2(output, 2)
        (folder / "killer").write_text(work(mutation, folder))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(0)


class Runs:
    """The mutants that run now, each in its fork.

    Args:
        jobs: how many at a time.
    """

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._running: dict[int, tuple[Mutation | None, Path, float]] = {}

    def run(self, mutations: list[Mutation | None]) -> Iterator[Result]:
        """Run all; gives what became of each when it is known."""
        waiting = list(mutations)
        while waiting or self._running:
            while waiting and len(self._running) < self._jobs:
                folder = Path(tempfile.mkdtemp(prefix="kindaware-mutant-"))
                mutation = waiting.pop(0)
                self._running[start(mutation, folder)] = mutation, folder, time.monotonic()
            yield from self._collect()
            time.sleep(0.05)

    def _collect(self) -> Iterator[Result]:
        for child, (mutation, folder, started) in list(self._running.items()):
            seconds = time.monotonic() - started
            done, _ = os.waitpid(child, os.WNOHANG)
            if not done and seconds < TIMEOUT_SECONDS:
                continue
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)  # what its tests have started, or itself
            if not done:
                os.waitpid(child, 0)
            found = folder / "killer"
            killer = found.read_text() if found.is_file() else f"{UNDECIDED}: no end after {seconds:.0f} s"
            if mutation is None and killer:
                print((folder / "output").read_text())
            shutil.rmtree(folder, ignore_errors=True)
            del self._running[child]
            yield Result(mutation, killer, seconds)


def key_of(mutation: Mutation) -> str:
    """Name a mutant without its line, which changes."""
    return f"{mutation.module}.py {mutation.text}"


def report(outcomes: list[Result]) -> bool:
    """Print the table and the survivors; gives whether all is well."""
    rows = [(one.mutation, one.killer) for one in outcomes if one.mutation is not None]
    rows.sort(key=lambda row: (MODULES.index(row[0].module), row[0].number))
    print("\n| Mutant | Killed by |\n|---|---|")
    for mutation, killer in rows:
        shown = f"`{killer}`" if killer else EQUIVALENT.get(key_of(mutation), "SURVIVES")
        print(f"| `{str(mutation).replace('|', chr(92) + '|')}` | {shown} |")
    survivors = [mutation for mutation, killer in rows if not killer and key_of(mutation) not in EQUIVALENT]
    undecided = [mutation for mutation, killer in rows if killer.startswith(UNDECIDED)]
    killed = {key_of(mutation) for mutation, killer in rows if killer and mutation not in undecided}
    wrong = [
        text for text in EQUIVALENT if text in killed or text not in map(key_of, find_mutations(PACKAGE))
    ]
    by_module = Counter(mutation.module for mutation, _ in rows)
    modules = ", ".join(f"{name} {count}" for name, count in by_module.items())
    num_killed = sum(bool(killer) for _, killer in rows) - len(undecided)
    print(f"\n{len(rows)} mutants ({modules}): {num_killed} killed")
    for mutation in survivors:
        print(f"survivor: {mutation}")
    for mutation in undecided:
        print(f"undecided: {mutation}")
    for text in wrong:
        print(f"listed as equivalent, and is not: {text}")
    return not (survivors or undecided or wrong)


def prepare() -> None:
    """Set up what every fork shares. None of it imports the library."""
    profile = hypothesis.settings(
        database=None,
        derandomize=True,  # else a flaky test would count as one that notices
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    )
    hypothesis.settings.register_profile("mutants", profile)
    hypothesis.settings.load_profile("mutants")
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
    options = parser.parse_args()
    mutations = [
        one for one in find_mutations(PACKAGE) if any(text in str(one) for text in options.only or [""])
    ]
    if options.list:
        print(*mutations, sep="\n")
        return 0
    prepare()
    started = time.monotonic()
    outcomes = []
    for outcome in Runs(options.jobs).run([None, *mutations]):
        outcomes.append(outcome)
        name = outcome.mutation or "the unchanged copy"
        print(f"{outcome.seconds:6.1f} s  {name}  <-  {outcome.killer or 'no test'}", flush=True)
        if outcome.mutation is None and outcome.killer:
            print("the unchanged copy: expected its tests to pass, got a failure; see above")
            return 1
    is_well = report(outcomes)
    print(f"{time.monotonic() - started:.0f} s, {options.jobs} at a time")
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main())
