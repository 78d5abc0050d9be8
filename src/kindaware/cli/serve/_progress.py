"""How far the loading of models has come: bars in a terminal, lines elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

import typer

from kindaware._server.log import read_failures, read_load_events
from kindaware._server.request_failures import write_load_failure
from kindaware.cli.serve._log_tail import LogTail

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_POLL_SECONDS = 0.1
_NUM_BARS = 8


class Display(Protocol):
    """Where progress is shown."""

    def loading(self, model: str) -> None:
        """A model has begun to load."""

    def done(self, model: str, event: str, seconds: float, reason: str) -> None:
        """A model is `ready`, or has `failed`, after so many seconds; for a reason that may not be known."""

    def close(self) -> None:
        """Show nothing any more."""


class LoadingProgress:
    """Shows how far loading has come, while a `with` block lasts.

    Args:
        log: the server's; it may not be there yet.
        display: where.
    """

    def __init__(self, log: Path, display: Display) -> None:
        self._tail = LogTail(log)
        self._held = ""
        self._seen = ""
        self._done: set[str] = set()
        self._display = display
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="kindaware progress", daemon=True)
        self._started = time.monotonic()

    def __enter__(self) -> LoadingProgress:
        self._started = time.monotonic()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closed.set()
        self._thread.join()
        self._look()
        self._display.close()

    def _follow(self) -> None:
        while not self._closed.wait(_POLL_SECONDS):
            self._look()

    def _look(self) -> None:
        """Show what the log has said since the last time."""
        lines, newline, self._held = (self._held + self._tail.read()).rpartition("\n")
        self._seen += lines + newline
        for event, model in read_load_events(lines if newline else ""):
            if event == "loading":
                self._display.loading(model)
            elif model not in self._done:
                self._done.add(model)
                seconds = time.monotonic() - self._started
                reason = read_failures(self._seen).get(model, "") if event == "failed" else ""
                self._display.done(model, event, seconds, write_load_failure(reason))


class Lines:
    """Lines of plain text."""

    def loading(self, model: str) -> None:
        """Say nothing: the server says at once of all models that it loads them."""

    def done(self, model: str, event: str, seconds: float, reason: str) -> None:
        """Print the line; the error that ends the command has the reason."""
        typer.echo(f"{model}: {event} after {seconds:.1f} s", err=True)

    def close(self) -> None:
        """Nothing is left to do."""


class Bars:
    """A bar for all models, and a line with a running time for each that loads."""

    def __init__(self, models: Collection[str]) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self._progress: Progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[count]}"),
            TimeElapsedColumn(),
            console=Console(stderr=True, highlight=False),
            transient=True,
        )
        self._num_models = len(models)
        self._num_done = 0
        self._tasks: dict[str, TaskID] = {}
        self._all = self._progress.add_task("starting Triton", total=self._num_models or None, count="")
        self._progress.start()

    def loading(self, model: str) -> None:
        """Add a line for it."""
        self._num_models = max(self._num_models, len(self._tasks) + self._num_done + 1)
        self._show_all()
        if model not in self._tasks:
            is_shown = len(self._tasks) < _NUM_BARS
            self._tasks[model] = self._progress.add_task(f"  {model}", total=None, count="", visible=is_shown)

    def done(self, model: str, event: str, seconds: float, reason: str) -> None:
        """Print the line above, and move the bar on."""
        self._progress.console.print(f"{model}: {event} after {seconds:.1f} s", markup=False)
        task = self._tasks.pop(model, None)
        if task is not None:
            self._progress.remove_task(task)
        for waiting in list(self._tasks.values())[:_NUM_BARS]:
            self._progress.update(waiting, visible=True)
        self._num_done += 1
        self._show_all()

    def close(self) -> None:
        """Remove what moves."""
        self._progress.stop()

    def _show_all(self) -> None:
        self._progress.update(
            self._all,
            description="loading models",
            completed=self._num_done,
            total=self._num_models,
            count=f"{self._num_done}/{self._num_models}",
        )
