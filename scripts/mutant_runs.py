"""Mutants in forks of a process that has imported the library and collected its tests.

A mutant's function gets the changed code, and the tests that call the function run until one fails: in turn
from each path through it, those first that run little else. So most mutants cost a second or less, and only
one that survives costs all of its tests. What runs in other processes still has the code as it was.
"""

from __future__ import annotations

import ast
import contextlib
import ctypes
import gc
import importlib
import json
import math
import os
import resource
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest
from mutated_modules import EQUIVALENT
from mutations import Mutation, mutate

Place = tuple[str, int]
"""Name and first line of a function's code."""

_NOTE = "_note_line"
"""What a function calls before each statement, with its line, while the tests are measured."""

_NUM_RECENT = 5
"""Tests that noticed the last mutants, and run first."""

_PR_SET_PDEATHSIG = 1

_NUM_FOR_EQUIVALENT = 20
"""Tests of each path through the function of a mutant that none should notice."""

_NUMBER_BYTES = 4


@dataclass(frozen=True, slots=True)
class Measured:
    """What one test does with the library as it is.

    Attributes:
        lines: the lines that it runs, a bit for each; see `MutantRuns.bits`.
        seconds: how long it takes.
        is_passed: whether it passes.
    """

    lines: int
    seconds: float
    is_passed: bool

    def share_of(self, lines: int) -> float:
        """Return how many of the lines that it runs are some of these, from 0 to 1."""
        return (self.lines & lines).bit_count() / max(1, self.lines.bit_count())


class Changeable:
    """A module of the library as it is imported, whose functions can be changed.

    Args:
        module: path of the module in the package, such as `_device/staging`.
        path: its file.
        functions: those of all modules.
    """

    def __init__(self, module: str, path: Path, functions: list[FunctionType]) -> None:
        self.module = module
        self._file = str(path)
        self._source = path.read_text()
        self._functions = [one for one in functions if one.__code__.co_filename == self._file]
        self._spans = [
            (one.lineno, one.end_lineno or one.lineno) for one in _functions_of(ast.parse(self._source))
        ]

    def lines_around(self, line: int) -> range | None:
        """Return the lines of the function that has this line; None for code that runs with the import."""
        spans = [span for span in self._spans if span[0] <= line <= span[1]]
        return range(max(spans)[0], max(spans)[1] + 1) if spans else None

    @property
    def num_lines(self) -> int:
        """Number of lines."""
        return self._source.count("\n") + 1

    def note_lines(self, note: Callable[[int], None]) -> None:
        """Have each function note the line of each statement that it runs."""
        codes = _codes_by_place(compile(_noting(ast.parse(self._source)), self._file, "exec"))
        for function in self._functions:
            function.__globals__[_NOTE] = note
            function.__code__ = codes[_place(function)]

    def change(self, mutation: Mutation) -> bool:
        """Put a mutant's code in place of the functions'; return whether that is possible."""
        codes = _codes_by_place(compile(mutate(mutation, self._source), self._file, "exec"))
        if self.lines_around(mutation.line) is None or not all(_fits(one, codes) for one in self._functions):
            return False
        for function in self._functions:
            function.__code__ = codes[_place(function)]
        return True


class MutantRuns:
    """A plugin of pytest that runs mutants in place of the tests.

    Args:
        package: the folder of the library, as it is imported.
        mutations: the mutants.
        results: a file that gets a line of JSON for each: number of the mutant, name of the test that fails
            or "" or None where the mutant can't be put in place, seconds. The number is None for a test that
            fails with the library as it is, and is left out.
        jobs: how many mutants run at a time.
        per_path: how many tests of each path through the function run; None for all.
    """

    def __init__(
        self, package: Path, mutations: list[Mutation], results: Path, *, jobs: int, per_path: int | None
    ) -> None:
        self._package = package
        self._mutations = mutations
        self._results = os.open(results, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._jobs = jobs
        self._per_path = per_path
        self._first_bits: dict[str, int] = {}
        self._is_failed = False
        self._killers: list[str] = []
        self._items: dict[str, pytest.Item] = {}
        self._measured: dict[str, Measured] = {}
        self._modules: dict[str, Changeable] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Look at the outcome of one phase of one test."""
        self._is_failed = self._is_failed or report.failed

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run each mutant against the tests that call its function."""
        self._items = {item.nodeid: item for item in session.items}
        for module in {one.module for one in self._mutations}:
            importlib.import_module(f"{self._package.name}.{module.replace('/', '.')}")  # some come late
        gc.collect()
        # The tests' own set-up freezes what it has imported, which is not among the objects then.
        gc.unfreeze()
        functions = [one for one in gc.get_objects() if type(one) is FunctionType]
        gc.freeze()  # or each fork would copy the pages of what a collection looks at
        num_bits = 0
        for module in dict.fromkeys(one.module for one in self._mutations):
            self._modules[module] = Changeable(module, self._package / f"{module}.py", functions)
            self._first_bits[module] = num_bits
            num_bits += self._modules[module].num_lines + 1
        for name, lines, seconds, is_passed in _forked(self._measure):
            self._measured[name] = Measured(int(lines, 16), seconds, is_passed)
            if not is_passed:
                self._write(None, name, seconds)
        waiting, to_do = os.pipe()
        os.write(
            to_do, b"".join(place.to_bytes(_NUMBER_BYTES, "big") for place in range(len(self._mutations)))
        )
        os.close(to_do)
        workers = [_fork(partial(self._work, waiting)) for _ in range(self._jobs)]
        for worker in workers:
            os.waitpid(worker, 0)
        return True

    def _work(self, waiting: int) -> None:
        """Run one mutant after another, until all are taken."""
        while place := os.read(waiting, _NUMBER_BYTES):
            number = int.from_bytes(place, "big")
            started = time.monotonic()
            self._write(number, self._find_killer(self._mutations[number]), time.monotonic() - started)

    def _write(self, number: int | None, killer: str | None, seconds: float) -> None:
        os.write(self._results, f"{json.dumps([number, killer, seconds])}\n".encode())

    def _find_killer(self, mutation: Mutation) -> str | None:
        """Return the name of the test that fails for a mutant alone; None where it can't be put in place."""
        names = self._choose(mutation)
        change = partial(self._modules[mutation.module].change, mutation)
        while True:
            *_, place = _forked(partial(self._first_failure, names, change))
            if place is None or place < 0:
                return None if place is None else ""
            killer, names = names[place], names[place + 1 :]
            if self._fails_for(change, killer):
                self._killers = [*(one for one in self._killers if one != killer), killer]
                return killer

    def _fails_for(self, change: Callable[[], bool], name: str) -> bool:
        """Whether it is the change that a test fails for: it does so again, and not without."""

        def fails(*changes: Callable[[], bool]) -> bool:
            *_, place = _forked(partial(self._first_failure, [name], *changes))
            return bool(place >= 0)

        # Without the change a second failure counts: the machine may have been busy.
        return fails(change) and not (fails() and fails())

    def bits(self, module: str, lines: Iterable[int]) -> int:
        """Return lines of a module as bits of a number."""
        return sum(1 << (self._first_bits[module] + line) for line in lines)

    def _choose(self, mutation: Mutation) -> list[str]:
        """List the tests that call a mutant's function: some that noticed the last ones, then those about it.

        These are the tests that run little else, first one case of each test function. They come in turn from
        each path through the function, which is the set of its lines that a test runs: first the rare ones.
        Of a mutant in `EQUIVALENT`, which none should notice, each path has only the first few.
        """
        module = self._modules[mutation.module]
        function = self.bits(mutation.module, module.lines_around(mutation.line) or ())
        whole = self.bits(mutation.module, range(module.num_lines + 1))
        paths: dict[int, list[str]] = {}
        for name in sorted(
            self._measured, key=lambda name: self._measured[name].share_of(whole), reverse=True
        ):
            if self._measured[name].is_passed and (path := self._measured[name].lines & function):
                paths.setdefault(path, []).append(name)
        limit = _NUM_FOR_EQUIVALENT if mutation.key in EQUIVALENT else self._per_path
        chosen = [_one_case_each_first(names)[:limit] for names in sorted(paths.values(), key=len)]
        in_turn = [name for some in zip_longest(*chosen) for name in some if name is not None]
        recent = [name for name in reversed(self._killers[-_NUM_RECENT:]) if name in in_turn]
        return list(dict.fromkeys([*recent, *in_turn]))

    def _first_failure(
        self, names: list[str], change: Callable[[], bool] = lambda: True
    ) -> Iterator[int | None]:
        """Run tests until one fails, or takes much longer than before; gives the place of each, then -1.

        Gives None alone where the change can't be made.
        """
        if not change():
            yield None
            return
        for place, name in enumerate(names):
            yield place
            limit = time.process_time() + 5 + 5 * self._measured[name].seconds
            resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(limit), resource.RLIM_INFINITY))
            if not self._passes(self._items[name]):
                return
        yield -1

    def _passes(self, item: pytest.Item) -> bool:
        self._is_failed = False
        try:
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
        except BaseException:  # of a time limit that ends while the failure is reported
            return False
        return not self._is_failed

    def _measure(self) -> Iterator[tuple[str, str, float, bool]]:
        """Run each test with the library as it is; gives its name, and what is measured."""
        lines: dict[str, set[int]] = {name: set() for name in self._modules}
        for name, module in self._modules.items():
            module.note_lines(lines[name].add)
        for name, item in self._items.items():
            for some in lines.values():
                some.clear()
            started = time.monotonic()
            is_passed = self._passes(item) or self._passes(item)  # the machine may have been busy
            seconds = time.monotonic() - started
            bits = sum(self.bits(module, some) for module, some in lines.items())
            yield name, f"{bits:x}", seconds, is_passed


def _one_case_each_first(names: list[str]) -> list[str]:
    """Sort the names of tests so that the first cases of all functions come before their second ones."""
    num_cases: Counter[str] = Counter()
    order = []
    for name in names:
        function = name.partition("[")[0]
        order.append((num_cases[function], name))
        num_cases[function] += 1
    return [name for _, name in sorted(order, key=lambda one: one[0])]


def end_with_parent() -> None:
    """Have the kernel end this process when the one that forked it ends, however that comes about."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _fork(work: Callable[[], None]) -> int:
    """Run in a fork, whose status is 1 if it raises."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        os.setsid()
        end_with_parent()
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def _forked(work: Callable[[], Iterator[Any]]) -> Iterator[Any]:
    """Run in a fork; gives what it yields until it ends, or a signal ends it.

    Raises:
        RuntimeError: it raised; see the output.
    """
    reading, writing = os.pipe()

    def send() -> None:
        with os.fdopen(writing, "w") as results:
            for found in work():
                print(json.dumps(found), file=results, flush=True)

    child = _fork(send)
    os.close(writing)
    with os.fdopen(reading) as results:
        for line in results:
            yield json.loads(line)
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # what its tests have started
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise RuntimeError("a fork has raised; see above")


def _functions_of(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """List functions and methods; one within another belongs to that."""
    for node in tree.body:
        for one in node.body if isinstance(node, ast.ClassDef) else [node]:
            if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef):
                yield one


def _noting(tree: ast.Module) -> ast.Module:
    """Have each function note the line of each of its statements."""
    for function in _functions_of(tree):
        for node in list(ast.walk(function)):
            for field in ("body", "orelse", "finalbody"):
                if isinstance(statements := getattr(node, field, None), list):
                    setattr(node, field, [one for each in statements for one in (_note_of(each), each)])
    return tree


def _note_of(statement: ast.stmt) -> ast.stmt:
    note = ast.parse(f"{_NOTE}({statement.lineno})").body[0]
    for node in ast.walk(note):
        ast.copy_location(node, statement)
    return note


def _place(function: FunctionType) -> Place:
    return function.__code__.co_name, function.__code__.co_firstlineno


def _fits(function: FunctionType, codes: dict[Place, CodeType]) -> bool:
    """Whether a function can have its code of these: it keeps the variables of what is around it."""
    return len(codes[_place(function)].co_freevars) == len(function.__code__.co_freevars)


def _codes_by_place(code: CodeType) -> dict[Place, CodeType]:
    """Find the code of each function in that of a module."""
    found = {(code.co_name, code.co_firstlineno): code}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found |= _codes_by_place(constant)
    return found
