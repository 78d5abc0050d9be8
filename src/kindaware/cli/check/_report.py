"""What `kindaware check` prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import typer

from kindaware.cli._hanging import hang
from kindaware.cli.check._registry import LEVELS, Finding
from kindaware.cli.check._subject import Subject

_COLOURS = {"error": typer.colors.RED, "warning": typer.colors.YELLOW, "hint": typer.colors.BLUE}


@dataclass(frozen=True)
class Report:
    """What was found about one model.

    Attributes:
        subject: the model.
        findings: the worst first.
        not_run: why it was not run; empty if it was.
    """

    subject: Subject
    findings: Sequence[Finding]
    not_run: str


def write_report(report: Report) -> None:
    """Print a report; colours only in a terminal."""
    typer.secho(f"{report.subject.name}  {report.subject.folder}", bold=True)
    for line in [*_instance_lines(report), *_request_lines(report)]:
        typer.echo(f"  {hang(line, 2, further=4)}")
    for one in report.findings:
        place = f"{one.file}:{one.line}" if one.line else str(one.file)
        level = typer.style(one.level, fg=_COLOURS[one.level])
        column = len(f"{place}: {one.level} {one.rule} ")
        typer.echo(f"{place}: {level} {one.rule} {hang(one.text, column, further=8)}")
        typer.echo(f"    {hang(one.remedy, 4)}")
    counts = Counter(one.level for one in report.findings)
    said = [f"{counts[level]} {level}{'s' * (counts[level] > 1)}" for level in LEVELS if counts[level]]
    typer.echo(f"  {', '.join(said) or 'nothing to correct'}")


def _instance_lines(report: Report) -> Iterator[str]:
    if report.not_run:
        yield f"not run: {report.not_run}"
    subject = report.subject
    groups = subject.groups()
    for one in subject.trial.instances if subject.trial else []:
        _, count, gpus = groups[one["group"]] if groups else ("", 1, [])
        number = count * max(1, len(gpus))
        batches = (
            f"batches of up to {subject.max_batch_size} rows" if subject.max_batch_size else "no batches"
        )
        device = one["device"] if len(gpus) < 2 else ", ".join(f"cuda:{gpu}" for gpu in gpus)
        threads = f"{one['threads']} thread{'s' * (one['threads'] > 1)}"
        name = one["name"] + (f" and {number - 1} more" if number > 1 else "")
        yield f"{name}: {one['kind']} -> {device}, {threads} each, {batches}"


def _request_lines(report: Report) -> Iterator[str]:
    request = report.subject.trial.request if report.subject.trial else None
    if request is None:
        return
    sent = ", ".join(f"{name} {dtype} {shape}" for name, (dtype, shape) in request["inputs"].items())
    got = ", ".join(f"{name} {dtype} {shape}" for name, (dtype, shape) in request["outputs"].items())
    answers = f", {request['responses']} responses or more" if request["responses"] > 1 else ""
    answer = got or ("an error" if request.get("error") else "no outputs")
    yield f"request: {sent or 'no inputs'} -> {answer}, {request['seconds'] * 1e3:.1f} ms{answers}"


def as_document(reports: Sequence[Report]) -> dict[str, Any]:
    """Return all reports as values for JSON."""
    counts = Counter(one.level for report in reports for one in report.findings)
    return {
        "models": [
            {
                "name": report.subject.name,
                "directory": str(report.subject.folder),
                "not_run": report.not_run or None,
                "instances": report.subject.trial.instances if report.subject.trial else [],
                "request": report.subject.trial.request if report.subject.trial else None,
                "findings": [
                    {
                        "rule": one.rule,
                        "level": one.level,
                        "file": str(one.file),
                        "line": one.line or None,
                        "text": one.text,
                        "remedy": one.remedy,
                    }
                    for one in report.findings
                ],
            }
            for report in reports
        ],
        **{f"{level}s": counts[level] for level in LEVELS},
    }
