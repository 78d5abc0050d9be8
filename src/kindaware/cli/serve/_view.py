"""What `kindaware serve` shows of a server: text for a person, or events for a program."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Protocol

import typer

from kindaware._errors import KindAwareError
from kindaware._server.healing.events import HealEvents
from kindaware._server.server import TritonServer
from kindaware.cli._heal_lines import HealText
from kindaware.cli.serve._block import write_block
from kindaware.cli.serve._error_lines import ErrorLines
from kindaware.cli.serve._progress import Bars, Display, Lines


class LogLines(Protocol):
    """Turns the text of a growing log into what is shown of it."""

    def feed(self, text: str) -> str:
        """Return what to show of the next piece; with an empty one, of what has come before."""

    def close(self) -> str:
        """Return the rest."""


class View(Protocol):
    """Where what happens to a server is shown."""

    def write_log(self, text: str) -> None:
        """A piece of the log has come, as far as it is to be shown."""

    def starting(self, repositories: Sequence[str]) -> None:
        """The server is about to be started."""

    def open_display(self, models: Collection[str]) -> Display:
        """Return where the loading of these models is shown."""

    def open_errors(self) -> LogLines:
        """Return what picks errors and warnings out of the log."""

    def open_heals(self) -> HealEvents:
        """Return where deaths and heals of models are shown."""

    def ready(self, server: TritonServer) -> None:
        """The server is ready for the first time."""

    def ready_again(self, server: TritonServer) -> None:
        """It had to be started again, and is ready."""

    def reloaded(self, model: str, what: str, seconds: float) -> None:
        """A model was `loaded`, `reloaded` or `unloaded`."""

    def not_reloaded(self, model: str, reason: str, *, is_served: bool) -> None:
        """A model could not be loaded; the version before may go on serving."""

    def waiting(self) -> None:
        """The server can't load models any more, and starts again at the next change."""

    def failed(self, error: KindAwareError, log_path: Path) -> None:
        """The server has not started, or has ended by itself."""

    def stopping(self) -> None:
        """A signal has come."""

    def draining(self, models: Collection[str], seconds: float) -> None:
        """These models have requests in flight, which may take so many seconds more."""

    def cut_off(self, models: Collection[str]) -> None:
        """These models had requests in flight when the time was up."""

    def stopped(self, status: int) -> None:
        """Everything has ended, and the command does with this status."""


class TextView:
    """Text in the terminal: what is asked for on standard output, all else on standard error.

    Args:
        settings: what was changed in the models' configurations.
        has_all_examples: whether requests to paste are shown for every model.
    """

    def __init__(self, settings: Sequence[str], *, has_all_examples: bool) -> None:
        self._settings = settings
        self._has_all_examples = has_all_examples

    def say(self, text: str, level: str = "info") -> None:
        """Print a line, or several, on standard error."""
        typer.echo(text, err=True)

    def write_log(self, text: str) -> None:
        """Show a piece of the log."""
        sys.stderr.write(text)
        sys.stderr.flush()

    def open_errors(self) -> LogLines:
        """Return what shows a line for each failed request, and not the same one all the time."""
        return ErrorLines()

    def open_heals(self) -> HealEvents:
        """Return what prints a line for each."""
        return HealText(self.say)

    def starting(self, repositories: Sequence[str]) -> None:
        """Show nothing: progress follows."""

    def open_display(self, models: Collection[str]) -> Display:
        """Return bars in a terminal, lines elsewhere."""
        return Bars(models) if sys.stderr.isatty() else Lines()

    def ready(self, server: TritonServer) -> None:
        """Print where the server is, and what it serves."""
        typer.echo(write_block(server, self._settings, has_all_examples=self._has_all_examples))

    def ready_again(self, server: TritonServer) -> None:
        """Print a line: it is where it was."""
        self.say("Triton is ready again")

    def reloaded(self, model: str, what: str, seconds: float) -> None:
        """Print a line."""
        self.say(f"{what} {model} in {seconds:.1f} s")

    def not_reloaded(self, model: str, reason: str, *, is_served: bool) -> None:
        """Print why, and what serves."""
        goes_on = "\n  the version before goes on serving" if is_served else ""
        self.say(f"{model}: not {'reloaded' if is_served else 'loaded'}: {reason}{goes_on}", "error")

    def waiting(self) -> None:
        """Print a line."""
        self.say("Triton can't load models any more: it starts again at the next change", "warning")

    def failed(self, error: KindAwareError, log_path: Path) -> None:
        """Print what went wrong, and where the whole log is."""
        self.say(f"kindaware serve: {error}", "error")
        if log_path.exists() and log_path.stat().st_size:
            self.say(f"\nthe whole log: {log_path}")

    def stopping(self) -> None:
        """Print a line, for the end may take a moment."""
        self.say("stopping the server ...")

    def draining(self, models: Collection[str], seconds: float) -> None:
        """Print a line, and how not to wait."""
        if models:
            names = ", ".join(models)
            self.say(f"waiting up to {seconds:.0f} s for {names}; a second Ctrl-C does not")

    def cut_off(self, models: Collection[str]) -> None:
        """Print a line."""
        self.say(f"requests in flight of {', '.join(models)} get no answer: the time was up", "warning")

    def stopped(self, status: int) -> None:
        """Show nothing: the shell has its prompt again."""
