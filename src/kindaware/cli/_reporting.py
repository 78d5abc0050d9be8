"""How a command ends: its exit code, and an error as one line."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable
from contextvars import ContextVar
from typing import ParamSpec

import typer

from kindaware._errors import KindAwareError, OptionError

FAILED, WRONG_COMMAND_LINE, INTERRUPTED = 1, 2, 130
"""Exit codes: what was asked for failed; the command line is wrong, as typer has it; Ctrl-C. 0 is success."""

EXIT_CODES = (
    "Exit codes: 0 success, 1 what was asked for failed, 2 a wrong command line, 130 Ctrl-C; 0 where Ctrl-C "
    "is the usual end, as of serve and run --watch."
)


def exit_code(error: BaseException) -> int:
    """Return the exit code of a command that an error has ended."""
    return WRONG_COMMAND_LINE if isinstance(error, OptionError) else FAILED


shows_tracebacks: ContextVar[bool] = ContextVar("shows_tracebacks", default=False)
"""Whether `--debug` was given."""

Parameters = ParamSpec("Parameters")


def reported(name: str, command: Callable[Parameters, None]) -> Callable[Parameters, None]:
    """Return a command whose errors are one line on standard error, with the traceback before it on request.

    Args:
        name: of the command, which the line begins with.
        command: raises KindAwareError or OSError for what the user can correct; anything else is a fault of
            the program, and keeps its traceback.
    """

    @functools.wraps(command)
    def run(*args: Parameters.args, **options: Parameters.kwargs) -> None:
        try:
            command(*args, **options)
        except (KindAwareError, OSError) as error:
            if shows_tracebacks.get():
                traceback.print_exception(error)
            typer.echo(f"kindaware {name}: {error}", err=True)
            raise typer.Exit(exit_code(error)) from None
        except KeyboardInterrupt:
            typer.echo(f"kindaware {name}: interrupted", err=True)
            raise typer.Exit(INTERRUPTED) from None

    return run
