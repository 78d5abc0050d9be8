"""What goes on, on standard error: a bar in a terminal, lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import typer

_TICK_SECONDS = 0.2


class Progress:
    """Says what is measured; use it in a `with` statement.

    Args:
        total_seconds: how long everything takes, about.
    """

    def __init__(self, total_seconds: float) -> None:
        self._bar: Any = None
        self._task: Any = None
        self._done_seconds = 0.0
        if sys.stderr.isatty():
            from rich import progress
            from rich.console import Console

            self._bar = progress.Progress(
                progress.TextColumn("{task.description}"),
                progress.BarColumn(),
                progress.TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
                refresh_per_second=5,
            )
            self._task = self._bar.add_task("connecting", total=total_seconds)

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def say(self, text: str) -> None:
        """Print a line that stays."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            typer.echo(text, err=True)

    @contextmanager
    def step(self, text: str, seconds: float) -> Iterator[None]:
        """Show what is done for about so many seconds, and let the bar move meanwhile."""
        if self._bar is None:
            yield
            return
        over = threading.Event()
        self._bar.update(self._task, description=text)
        ticker = threading.Thread(target=self._move, args=(seconds, over), daemon=True)
        ticker.start()
        try:
            yield
        finally:
            over.set()
            ticker.join()
            self._done_seconds += seconds
            self._bar.update(self._task, description="", completed=self._done_seconds)

    def _move(self, seconds: float, over: threading.Event) -> None:
        started = time.monotonic()
        while not over.wait(_TICK_SECONDS):
            passed = min(time.monotonic() - started, seconds)
            self._bar.update(self._task, completed=self._done_seconds + passed)
