"""What all commands have in common: help, version, exit codes, and an error as one line."""

import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from kindaware.cli._reporting import FAILED, INTERRUPTED, WRONG_COMMAND_LINE, reported, shows_tracebacks


def run(*args):
    command = [sys.executable, "-m", "kindaware.cli", *args]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def command(function):
    """A program whose only command is this function."""
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(reported("try", function))
    return CliRunner().invoke(app)


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_names_the_commands_and_the_exit_codes(option):
    done = run(option)
    assert done.returncode == 0
    assert "serve" in done.stdout
    assert "Exit codes: 0 success" in done.stdout


def test_version_has_a_short_option():
    assert run("-V").stdout == run("--version").stdout
    assert run("-V").stdout.startswith("kindaware ")


@pytest.mark.parametrize("args", [["serv"], ["serve"], ["serve", "--nope", "x"], ["profile", "--rows", "x"]])
def test_wrong_command_line_has_a_code_of_its_own_and_no_traceback(args):
    done = run(*args)
    assert done.returncode == WRONG_COMMAND_LINE
    assert "Error: " in done.stderr
    assert "Traceback" not in done.stderr


def test_misspelled_command_is_told_the_right_one():
    assert "Did you mean 'serve'?" in run("serv").stderr


@pytest.mark.parametrize("args", [["profile", "/nowhere"], ["serve", "/nowhere"]])
def test_error_is_one_line_and_a_failure(args):
    done = run(*args)
    assert done.returncode == FAILED
    [line] = done.stderr.splitlines()
    assert line.startswith(f"kindaware {args[0]}: ")


@pytest.mark.parametrize("args", [["--debug", "profile", "/nowhere"], ["profile", "/nowhere", "--debug"]])
def test_debug_shows_the_traceback_before_the_line(args):
    done = run(*args)
    assert done.returncode == FAILED
    assert done.stderr.startswith("Traceback")
    assert done.stderr.splitlines()[-1].startswith("kindaware profile: model /nowhere")


def test_file_that_can_not_be_opened_is_one_line():
    done = command(lambda: Path("/nowhere/at all").read_text())
    assert done.exit_code == FAILED
    assert done.stderr == "kindaware try: [Errno 2] No such file or directory: '/nowhere/at all'\n"


def test_ctrl_c_is_one_line_with_the_shells_code():
    def interrupted():
        raise KeyboardInterrupt

    done = command(interrupted)
    assert (done.exit_code, done.stderr) == (INTERRUPTED, "kindaware try: interrupted\n")


def test_fault_of_the_program_keeps_its_traceback():
    done = command(lambda: 1 / 0)
    assert isinstance(done.exception, ZeroDivisionError)


def test_tracebacks_are_off_by_default():
    assert shows_tracebacks.get() is False
