"""What all commands have in common: help, version, exit codes, and an error as one line."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from kindaware.cli._app import app
from kindaware.cli._app import run as run_here
from kindaware.cli._reporting import FAILED, INTERRUPTED, WRONG_COMMAND_LINE, reported, shows_tracebacks

PAGES = Path(__file__).parents[2] / "docs" / "reference" / "commands"
COMMANDS = sorted(page.stem for page in PAGES.glob("*.md") if page.stem != "index")


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


@pytest.mark.parametrize(
    "args",
    [
        ["check", "m", "--ignore", "KA0"],
        ["check", "m", "--shape", "X"],
        ["check", "m", "--parameter", "X"],
        ["check", "m", "--kind", "XPU"],
        ["run", "m", "--kind", "XPU"],
        ["run", "m", "--set", "nothing"],
        ["run", "m", "--device-id", "0"],
        ["profile", "m", "--kind", "CPU", "--device-id", "1"],
        ["run", "m", "--set", "kindaware.precison=32-true"],
        ["profile", "m", "--kind", "XPU"],
        ["profile", "m", "--data", "X"],
        ["profile", "m", "--parameter", "X"],
        ["serve", ".", "--http-port", "70000"],
        ["serve", ".", "--http-port", "8000", "--grpc-port", "8000"],
        ["serve", ".", "--set", "m.max_batch_size=x"],
        ["serve", ".", "--watch", "--", "--model-control-mode=poll"],
        ["infer", "m", "--url", "ftp://here:1"],
        ["infer", "m", "--sequence-start"],
        ["bench", "m", "--rounds", "3"],
        ["bench", "m", "--concurrency", "many"],
        ["bench", "m", "--set", "x"],
        ["bench", "m", "--tune", "--try", "x"],
        ["bench", "m", "--compare", "kindaware.precision='bf16-true"],
        ["bench", "localhost:1", "--compare", "max_batch_size=4"],
        ["bench", "localhost:1", "--kind", "CPU"],
        ["bench", "localhost:1", "--tune"],
        ["bench", "m", "--plot", "m.txt"],
        ["new", "a b"],
        ["new", "n", "--example", "4"],
        ["new", "n", "--from", "torch.nn:Identity", "--example", "4:"],
    ],
    ids=" ".join,
)
def test_option_that_is_wrong_whatever_the_model_is_a_wrong_command_line(args, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m" / "1").mkdir(parents=True)
    (tmp_path / "m" / "1" / "model.py").write_text("class TritonPythonModel:\n    pass\n")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit) as ended:
        run_here(args)
    said = capsys.readouterr()
    assert ended.value.code == WRONG_COMMAND_LINE, said
    assert said.out == ""
    assert said.err.splitlines()[-1].startswith(("Error: ", f"kindaware {args[0]}: ")), said
    assert sorted(tmp_path.rglob("*")) == before


def endings(text):
    return dict(re.findall(r"^ +(\d+) +(\S.*)$", text.partition("Exit codes:")[2], re.MULTILINE))


@pytest.mark.parametrize("name", COMMANDS)
def test_page_has_the_exit_codes_of_the_help(name):
    shown = endings(CliRunner().invoke(app, [name, "--help"]).stdout)
    page = (PAGES / f"{name}.md").read_text().partition("\n## Exit codes\n")[2].partition("\n## ")[0]
    assert dict(re.findall(r"^\| (\d+) \| (.+) \|$", page, re.MULTILINE)) == shown
    assert list(shown) == ["0", "1", "2", "130"]


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
