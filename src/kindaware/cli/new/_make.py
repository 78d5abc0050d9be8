"""A new model: its files collected, completed with a README, and written."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Sequence
from pathlib import Path

from kindaware._authoring.readme import write_readme
from kindaware._authoring.scaffold import Files, check_free, check_name, write_directories
from kindaware._authoring.tasks import TENSOR, Scaffold, make_task
from kindaware._errors import OptionError
from kindaware.cli.new._made import Made
from kindaware.cli.new._port import scaffold_port


def make(
    directory: Path, *, source: str | None, task: str | None, examples: Sequence[str], is_forced: bool
) -> Made:
    """Make the directory of a model, and for a pipeline that of the model it calls.

    Raises:
        ConfigError: the name is no model's, the directory is there already, or `source` can't be served.
        OSError: something can't be read or written.
    """
    name = check_name(directory.absolute().name)
    check_free(directory, force=is_forced)  # before what may take long
    scaffold = _scaffold(directory, name, source=source, task=task, examples=examples)
    directories: dict[Path, Files] = {
        directory.with_name(model): files for model, files in scaffold.models.items()
    }
    commands = list_commands(directory, list(directories), scaffold)
    readme = write_readme(
        name,
        about=scaffold.about,
        files=list(directories[directory]),
        commands=commands,
        notes=scaffold.notes,
    )
    directories[directory] = {**directories[directory], "README.md": readme}
    write_directories(directories, force=is_forced)
    return Made(
        directory=directory,
        about=scaffold.about,
        files={one: list(files) for one, files in directories.items()},
        findings=scaffold.findings,
        questions=scaffold.questions,
        commands=commands,
    )


def _scaffold(
    directory: Path, name: str, *, source: str | None, task: str | None, examples: Sequence[str]
) -> Scaffold:
    is_callable = source is not None and not (source.endswith(".py") or Path(source).exists())
    if task is not None and source is not None:
        raise _contradiction(f"--task {task}", f"--from {source}")
    if examples and not is_callable:
        raise _contradiction("--example", "none, or a model.py" if source is None else f"--from {source}")
    if source is None:
        return make_task(task or TENSOR, name, shlex.quote(str(directory)))
    if not is_callable:
        return scaffold_port(Path(source), name, directory)
    from kindaware._authoring.from_callable import scaffold_callable

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the module's own code: they say nothing about what is written
        return scaffold_callable(source, name, examples)


def _contradiction(option: str, source: str) -> OptionError:
    expected = (
        "no --from beside it" if option.startswith("--task") else "--from PACKAGE.MODULE:CALLABLE with it"
    )
    return OptionError.of(option, expected=expected, got=source, remedy="leave one of them out")


def list_commands(directory: Path, directories: Sequence[Path], scaffold: Scaffold) -> list[str]:
    """Return the commands that check, test, serve and ask the model, from where the user stands."""
    return [
        f"kindaware check {shlex.quote(str(directory))}",
        f"pytest {shlex.quote(str(directory))}",
        f"kindaware serve {' '.join(shlex.quote(str(one)) for one in directories)}",
        f"{scaffold.ask}  # in another terminal",
    ]
