"""Mutants of one module, each in a fork of a process that has imported the library and collected its tests.

A mutant's function gets the changed code, and those tests run that call the function, so that most mutants
cost a second or less. What runs in other processes still has the code as it was.
"""

from __future__ import annotations

import ast
import contextlib
import gc
import json
import math
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, TextIO

import pytest
from mutations import Mutation, mutate

Place = tuple[str, int]
"""Name and first line of a function's code."""

_NOTE = "_note_call"
"""What a function calls with its line, while the tests are measured."""


@dataclass(slots=True)
class Calls:
    """What a test has called of the module, and how long it took.

    Attributes:
        lines: first lines of the functions.
        seconds: of processor time.
        is_passed: whether it passes with the library as it is.
    """

    lines: list[int] = field(default_factory=list)
    seconds: float = 0.0
    is_passed: bool = True


class WarmRuns:
    """A plugin of pytest that runs mutants in place of the tests.

    Args:
        path: the module's file, in the library as it is imported.
        mutations: of that module.
        results: gets a line of JSON for each: number, killer, seconds. The number is None for a test that
            fails with the library as it is, and is left out.
    """

    def __init__(self, path: Path, mutations: list[Mutation], results: TextIO) -> None:
        self._path = path
        self._mutations = mutations
        self._results = results
        self._is_failed = False
        self._killers: list[str] = []
        self._calls: dict[str, Calls] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Look at the outcome of one phase of one test."""
        self._is_failed = self._is_failed or report.failed

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run each mutant against the tests that call its function."""
        items = {item.nodeid: item for item in session.items}
        gc.collect()
        functions = [
            one
            for one in gc.get_objects()
            if type(one) is FunctionType and one.__code__.co_filename == str(self._path)
        ]
        gc.freeze()  # or each fork would copy the pages of what a collection looks at
        source = self._path.read_text()
        spans = [(one.lineno, one.end_lineno or one.lineno) for one in _functions(ast.parse(source))]
        self._calls = {
            name: Calls(**one) for name, one in self._forked(partial(self._measure, items, source, functions))
        }
        for name, one in self._calls.items():
            if not one.is_passed:
                self._write(None, name, one.seconds)
        for mutation in self._mutations:
            started = time.monotonic()
            names = self._choose(mutation, spans)
            killer = self._find_killer(mutation, source, functions, [items[name] for name in names])
            self._write(mutation.number, killer, time.monotonic() - started)
        return True

    def _write(self, number: int | None, killer: str, seconds: float) -> None:
        print(json.dumps([number, killer, seconds]), file=self._results, flush=True)

    def _choose(self, mutation: Mutation, spans: list[tuple[int, int]]) -> list[str]:
        """List the tests that call a mutant's function: those that have noticed others, then the fast."""
        start, stop = min(
            (span for span in spans if span[0] <= mutation.line <= span[1]),
            key=lambda span: span[1] - span[0],
            default=(0, sys.maxsize),
        )
        names = [
            name
            for name, one in self._calls.items()
            if one.is_passed and any(start <= line <= stop for line in one.lines)
        ]
        rank = {name: place for place, name in enumerate(reversed(self._killers))}
        return sorted(names, key=lambda name: (rank.get(name, len(rank)), self._calls[name].seconds))

    def _find_killer(
        self,
        mutation: Mutation,
        source: str,
        functions: list[FunctionType],
        items: list[pytest.Item],
    ) -> str:
        """Run a mutant; gives the name of the test that fails for it and for it alone."""
        codes = _codes_by_place(compile(mutate(mutation, source), str(self._path), "exec"))
        if any(len(codes[_place(one)].co_freevars) != len(one.__code__.co_freevars) for one in functions):
            return ""  # can't be put in place of the other

        def run_changed(chosen: list[pytest.Item]) -> Iterator[int]:
            for function in functions:
                function.__code__ = codes[_place(function)]
            return self._first_failure(chosen)

        while items:
            [*_, place] = self._forked(partial(run_changed, items))
            if place < 0:
                break
            killer = items[place]
            items = items[place + 1 :]
            [*_, place] = self._forked(partial(self._first_failure, [killer]))
            if place < 0:  # it is the change that it fails for
                self._killers = [*(one for one in self._killers if one != killer.nodeid), killer.nodeid]
                return killer.nodeid
        return ""

    def _first_failure(self, items: list[pytest.Item]) -> Iterator[int]:
        """Run tests until one fails, or takes much longer than before; gives the place of each, then -1."""
        for place, item in enumerate(items):
            yield place
            limit = time.process_time() + 5 + 5 * self._calls[item.nodeid].seconds
            resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(limit), resource.RLIM_INFINITY))
            if not self._passes(item):
                return
        yield -1

    def _passes(self, item: pytest.Item) -> bool:
        self._is_failed = False
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
        return not self._is_failed

    def _measure(
        self, items: dict[str, pytest.Item], source: str, functions: list[FunctionType]
    ) -> Iterator[Any]:
        """Run each test with the library as it is; gives what it calls of the module."""
        lines: set[int] = set()
        codes = _codes_by_place(compile(_noting(ast.parse(source)), str(self._path), "exec"))
        for function in functions:
            function.__globals__[_NOTE] = lines.add
            function.__code__ = codes[_place(function)]
        for name, item in items.items():
            lines.clear()
            started = time.process_time()
            is_passed = self._passes(item) or self._passes(item)  # the machine may have been busy
            seconds = time.process_time() - started
            yield name, {"lines": sorted(lines), "seconds": seconds, "is_passed": is_passed}

    def _forked(self, work: Callable[[], Iterator[Any]]) -> Iterator[Any]:
        """Run in a fork; gives what it yields until it ends, or a signal ends it.

        Raises:
            RuntimeError: it raised; see the output.
        """
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            status = 1
            try:
                os.setsid()
                with os.fdopen(writing, "w") as results:
                    for found in work():
                        print(json.dumps(found), file=results, flush=True)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                os._exit(status)
        os.close(writing)
        with os.fdopen(reading) as results:
            for line in results:
                yield json.loads(line)
        _, status = os.waitpid(child, 0)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # what its tests have started
        if os.WIFEXITED(status) and os.WEXITSTATUS(status):
            raise RuntimeError("a fork has raised; see above")


def _functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """List functions and methods; one within another belongs to that."""
    for node in tree.body:
        for one in node.body if isinstance(node, ast.ClassDef) else [node]:
            if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef):
                yield one


def _noting(tree: ast.Module) -> ast.Module:
    """Have each function note its line when it is called."""
    for one in _functions(tree):
        note = ast.parse(f"{_NOTE}({one.lineno})").body[0]
        for node in ast.walk(note):
            ast.copy_location(node, one.body[0])
        one.body.insert(0, note)
    return tree


def _place(function: FunctionType) -> Place:
    return function.__code__.co_name, function.__code__.co_firstlineno


def _codes_by_place(code: CodeType) -> dict[Place, CodeType]:
    """Find the code of each function in that of a module."""
    found = {(code.co_name, code.co_firstlineno): code}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found |= _codes_by_place(constant)
    return found
