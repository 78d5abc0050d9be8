"""What can be read out of a server's log: why models failed, and what ready instances said."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from kindaware._server.keeper import CONTINUATION, RECORD_HEADER

_RECORD = re.compile(rf"(?P<header>{RECORD_HEADER})(?P<text>.*)")
_LEVEL = re.compile("[EWIV]")
_SOURCE = re.compile(r"(\S+)\] $")
_FAILURE = re.compile(
    r"failed to load '(?P<model>.+?)' version (?P<version>-?\d+): (?P<reason>.*)"
    r"|failed to load model '(?P<unversioned>.+?)': (?P<unversioned_reason>.*)"
    r"|Poll failed for model directory '(?P<directory>.+?)': (?P<poll_reason>.*)",
    re.DOTALL,
)
_BAD_TEXT = re.compile(r"Error parsing text-format inference\.ModelConfig: (?P<place>\d+:\d+): (?P<text>.*)")
"""What protobuf prints on a line of its own, before the server says which file it was."""
_LOADING = re.compile(r"loading: (?P<model>.+):-?\d+$")
_JSON_BEGINNING = '{"time": "'
_LEVEL_LETTERS = {"critical": "E", "error": "E", "warning": "W", "info": "I", "debug": "V"}
"""Of the levels in the lines of JSON that instances write where KINDAWARE_LOG_FORMAT is `json`."""
_LOADED = re.compile(r"(?:successfully loaded|failed to load) '(?P<model>.+?)'")
_STUB_FAILURE = re.compile(
    r"(?P<text>Python model file not found in '(?P<path>[^']*)'"
    r"|triton_python_backend_stub: error while loading shared libraries: .*)"
)
_STUB_ERROR = re.compile(r"Failed to initialize Python stub: (?P<reason>.*)", re.DOTALL)
_INSTANCE_ERROR = re.compile("ERROR: Failed to create instance: ")
_MODEL_FILE = re.compile(r"^ *\S.*/([^/\n]+)/\d+/[^/\n]+\.py\(\d+\): ", re.MULTILINE)
_INSTANCE = re.compile(
    r"kindaware instance (?P<name>.+?) ready: kind (?P<kind>CPU|GPU|MODEL), "
    r"device (?P<device>[^\s,]+(?:,[^\s,]+)*),.*? threads (?P<threads>\d+) \((?P<reason>.*?)\), "
    r"precision (?P<precision>\S+), load (?P<load>[\d.]+) s, warm-up (?P<warmup>[^\n\"]*?)"
    r"(?:; without effect: [^\n\"]*)?(?=[\n\"]|$)"
)
"""The line that an instance logs when it is ready. Its own words may stand between device and threads, and in
place of the warm-up's seconds."""
USAGE = "Usage: tritonserver "
"""What it prints, with pages of text, when it can't read its options."""
_PORT_IN_USE = re.compile(r"Socket '(?P<address>[^']*)' already in use")
_STUB_END = re.compile("Fatal Python error: PyThreadState_Get: ")
"""What every stub prints when it ends, from 26.04 on; it does no harm."""
_STUB_STATE = re.compile(
    r"\s*$|Python runtime state: |(?:Current t|T)hread 0x|  File \"|  <no Python frame>|Extension modules: "
)
_NOISE = re.compile(
    r"^[|+]|^(?:I\d{4} .*|\d.*Z I \d+) "
    r"(?:server|metrics|tritonserver|model_lifecycle|cuda_memory_manager)\.cc:\d+\]"
    r"|CUDA driver version|CudaDriverHelper|NVML|DCGM|TRITONBACKEND_ModelInstanceInitialize"
    r"|Failed to create instance|failed to load|Failed to initialize Python stub"
)


@dataclass(frozen=True)
class Record:
    """One entry of the log, or a line that is none.

    Args:
        level: `E`, `W`, `I` or `V`; empty for other lines.
        text: what it says; further lines follow each other in it.
        source: file and line that it comes from, such as `model.py:4`, or the instance; empty if unknown.
    """

    level: str
    text: str
    source: str = ""


@dataclass(frozen=True)
class InstanceReport:
    """What a kindaware instance wrote when it was ready.

    Args:
        name: of the instance; instances on several GPUs share it.
        kind: `CPU`, `GPU` or `MODEL`.
        device: where it is, such as `cpu`, `cuda:1`, or for a model on several devices `cuda:0,cuda:1`.
        threads: its number of CPU threads.
        threads_reason: why that many.
        precision: such as `32-true`.
        load_seconds: time that `load()` took.
        warmup: how the warm-up went: its seconds, or why there was none.
    """

    name: str
    kind: str
    device: str
    threads: int
    threads_reason: str
    precision: str
    load_seconds: float
    warmup: str


def read_records(log: str) -> Iterator[Record]:
    """Yield the log's entries, in order; a quoted text is unquoted, one on several lines joined."""
    record = None
    for line in log.split("\n"):
        match = _RECORD.match(line)
        if match is None and record is not None and line.startswith(CONTINUATION):
            record = replace(record, text=record.text + "\n" + line.removeprefix(CONTINUATION))
            continue
        if record is not None:
            yield record
            record = None
        if match is None:
            yield _read_line(line)
            continue
        record = _read_record(match)
        if match["text"].startswith('"'):  # complete
            yield record
            record = None
    if record is not None:
        yield record


def read_failures(log: str) -> dict[str, str]:
    """Return why each model that did not load failed, by model name, in the server's words."""
    failures: dict[str, str] = {}
    parse_error = ""
    for record in read_records(log):
        bad_text = _BAD_TEXT.search(record.text)
        if bad_text is not None:
            parse_error = f" ({bad_text['place']}: {bad_text['text']})"
        match = _FAILURE.match(record.text) if record.level == "E" else None
        if match is not None:
            model = match["model"] or match["unversioned"] or match["directory"]
            reason = match["reason"] or match["unversioned_reason"] or match["poll_reason"] + parse_error
            failures.setdefault(model, reason.strip())
            parse_error = ""
    return failures


def is_load_failure(record: Record) -> bool:
    """Return whether an entry says why a model did not load."""
    return any(one.match(record.text) for one in (_FAILURE, _STUB_ERROR, _INSTANCE_ERROR))


def read_stub_failure(log: str) -> str | None:
    """Return the last words of a stub that ended without the server noticing, or None."""
    match = _STUB_FAILURE.search(log)
    return None if match is None else match["text"].strip()


def read_stub_errors(log: str, unfinished: Sequence[str]) -> dict[str, str]:
    """Return what stubs said in which `initialize` raised, by model name; the server may not know of it yet.

    A stub says so before it ends, which a thread that is no daemon can prevent.

    Args:
        log: all that the server printed.
        unfinished: the models that are being loaded: if it is one, errors without a model's file are its own.
    """
    errors: dict[str, str] = {}
    for record in read_records(log):
        match = _STUB_ERROR.match(record.text)
        if match is not None:
            named = _MODEL_FILE.findall(match["reason"])
            for model in named or (unfinished if len(unfinished) == 1 else []):
                errors.setdefault(model, match["reason"].strip())
    return errors


def read_creation_error(log: str) -> str | None:
    """Return why the server itself could not be created, or None."""
    for record in read_records(log):
        if record.level == "E" and record.source.startswith("tritonserver.cc:"):
            return record.text.strip()
    return None


def read_unfinished(log: str) -> list[str]:
    """Return the models whose loading has begun, and has neither succeeded nor failed."""
    begun, ended = [], set(read_failures(log))
    for record in read_records(log):
        begun += [match["model"] for match in [_LOADING.match(record.text)] if match]
        ended |= {match["model"] for match in [_LOADED.match(record.text)] if match}
    return [model for model in dict.fromkeys(begun) if model not in ended]


def read_load_events(log: str) -> Iterator[tuple[str, str]]:
    """Yield `loading`, `ready` or `failed` and the model's name, in the order of the log."""
    for record in read_records(log):
        begun, ended = _LOADING.match(record.text), _LOADED.match(record.text)
        if begun is not None:
            yield "loading", begun["model"]
        elif ended is not None:
            yield "failed" if record.text.startswith("failed") else "ready", ended["model"]


def read_instances(log: str) -> list[InstanceReport]:
    """Return what the kindaware instances reported, in the order in which they became ready."""
    return [
        InstanceReport(
            name=match["name"],
            kind=match["kind"],
            device=match["device"],
            threads=int(match["threads"]),
            threads_reason=match["reason"],
            precision=match["precision"],
            load_seconds=float(match["load"]),
            warmup=match["warmup"],
        )
        for match in _INSTANCE.finditer(log)
    ]


def read_port_in_use(log: str) -> str | None:
    """Return the address that the server could not bind, or None."""
    match = _PORT_IN_USE.search(log)
    return None if match is None else match["address"]


def last_lines(log: str, count: int = 12) -> str:
    """Return the end of the log without tables, routine, missing GPUs, and what `read_failures` reads."""
    lines, is_noise, is_stub_end = [], False, False
    for line in log.splitlines():
        is_stub_end = _STUB_END.match(line) is not None or (is_stub_end and bool(_STUB_STATE.match(line)))
        if not line.startswith(CONTINUATION):
            is_noise = is_stub_end or _NOISE.search(line) is not None
        if line.strip() and not is_noise:
            lines.append(line[:400])
    return "\n".join(lines[-count:])


def _read_record(match: re.Match[str]) -> Record:
    """Return the entry that begins with a matched line."""
    header = match["header"]
    level, source = _LEVEL.search(header), _SOURCE.search(header)
    assert level is not None, "RECORD_HEADER has one"
    assert source is not None, "RECORD_HEADER has one"
    return Record(level[0], _unquote(match["text"]), source[1])


def _read_line(line: str) -> Record:
    """Return the entry that an instance has written as JSON; any other line has no level."""
    if line.startswith(_JSON_BEGINNING):
        with contextlib.suppress(ValueError, KeyError, TypeError):
            fields = json.loads(line)
            return Record(_LEVEL_LETTERS[fields["level"]], str(fields["message"]), str(fields["instance"]))
    return Record("", line)


def _unquote(text: str) -> str:
    """Undo the quoting of newer servers, which write a text as a JSON string."""
    if text.startswith('"'):
        try:
            return str(json.loads(text))
        except ValueError:
            return text.strip('"')
    return text.strip()
