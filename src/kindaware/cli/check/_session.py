"""One run of `kindaware check`, from its options to the exit code."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import typer

from kindaware._errors import ConfigError, OptionError
from kindaware._server.model_folder import describe_wrong_path, is_model, list_folders
from kindaware.cli._machine import Machine
from kindaware.cli._reporting import FAILED
from kindaware.cli._shapes import parse_shapes
from kindaware.cli.check import rules  # noqa: F401  (registers the rules)
from kindaware.cli.check._registry import LEVELS, RULES, Finding, apply_rules
from kindaware.cli.check._report import Report, as_document, write_report
from kindaware.cli.check._subject import Subject
from kindaware.cli.check._trial import TrialOptions, run_trial
from kindaware.cli.profile._inputs import parse_parameters
from kindaware.testing.arguments import new_config


def check_models(
    path: Path,
    *,
    kind: str | None,
    strict: bool,
    ignored: Sequence[str],
    shapes: Sequence[str],
    parameters: Sequence[str],
    run: bool,
    timeout: float,
    as_json: bool,
) -> None:
    """Check one model or all of a repository; the arguments are the options of the command.

    Raises:
        ConfigError: an option is wrong, or there is no model.
        typer.Exit: with 1, if there is an error, or with `strict` a warning.
    """
    new_config()  # raises where the packages that know its format are missing
    _check_rules(ignored)
    given = TrialOptions(parse_shapes(shapes), parse_parameters(parameters), timeout)
    options = given if run else None
    machine = Machine()
    reports = []
    folders = find_models(path)
    for position, folder in enumerate(folders, 1):
        if len(folders) > 1:
            typer.echo(f"checking {folder.name} ({position} of {len(folders)})", err=True)
        report = check_model(Subject(folder, machine, kind), options, ignored=ignored)
        reports.append(report)
        if not as_json:
            write_report(report)
    if as_json:
        typer.echo(json.dumps(as_document(reports), ensure_ascii=False))
    failing = {"error", "warning"} if strict else {"error"}
    if any(one.level in failing for report in reports for one in report.findings):
        raise typer.Exit(FAILED)


def check_model(subject: Subject, options: TrialOptions | None, *, ignored: Sequence[str] = ()) -> Report:
    """Apply the rules to a model; one whose files have an error isn't run, nor is any without options."""
    findings = [one for one in apply_rules(subject, "files") if one.rule not in ignored]
    is_broken = any(one.level == "error" for one in findings)
    if options is not None and subject.is_python and not is_broken:
        subject.trial = run_trial(subject, options)
        findings += apply_rules(subject, "run")
    if subject.config_error is None:
        findings += apply_rules(subject, "machine")
    kept = sorted({one for one in findings if one.rule not in ignored}, key=_order)
    return Report(subject, kept, _why_not_run(subject, options is not None, is_broken))


def find_models(path: Path) -> list[Path]:
    """Return the models of a path: itself, or those of a repository.

    Raises:
        ConfigError: there is none.
    """
    if (wrong := describe_wrong_path(path)) is not None:
        got, remedy = wrong
    elif is_model(path) or (path / "model.py").is_file():
        return [path]
    else:
        folders = list_folders(path)
        if any(is_model(one) or (one / "model.py").is_file() for one in folders):
            return folders
        above = [
            str(one) for one in folders if any(is_model(inner) for inner in one.iterdir() if inner.is_dir())
        ]
        got = "neither a model nor a repository with any in it"
        remedy = f"pass {' or '.join(above[:3])}" if above else f"write {path / '1' / 'model.py'}"
    raise ConfigError.of(str(path), expected="a model's directory, or a repository", got=got, remedy=remedy)


def _check_rules(ignored: Sequence[str]) -> None:
    for one in ignored:
        if one not in RULES:
            raise OptionError.of(
                "--ignore",
                expected=f"a rule: {', '.join(sorted(RULES))}",
                got=repr(one),
                remedy="pass one of those",
            )


def _why_not_run(subject: Subject, run: bool, is_broken: bool) -> str:
    if subject.is_ensemble:
        return "an ensemble has no code of its own"
    if not subject.is_python and subject.config_error is None:
        return f"its backend is {subject.written.get('backend') or 'another'}, not python"
    if is_broken:
        return "correct the errors first"
    return "" if run else "--no-run"


def _order(finding: Finding) -> tuple[object, ...]:
    return LEVELS.index(finding.level), str(finding.file), finding.line, finding.rule
