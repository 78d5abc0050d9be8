"""A hand-written model as the scaffold of its port."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from kindaware._authoring.config_writer import write_config
from kindaware._authoring.port import Ported, find_tensors, port_model
from kindaware._authoring.scaffold import Files
from kindaware._authoring.tasks import Scaffold, name_test, render
from kindaware._config.model_spec import ModelSpec, TensorSpec
from kindaware._errors import ConfigError

_LEFT_BEHIND = ("__pycache__", ".pytest_cache")
_NO_CONFIG = (
    "PORT: no config.pbtxt beside it names its tensors: the names are those that the code uses, data types "
    "and dims are guesses."
)


def scaffold_port(source: Path, name: str, directory: Path) -> Scaffold:
    """Return the scaffold of a model.py's port.

    Args:
        source: the old model.py, or the directory of the old model.
        name: of the new model.
        directory: of the new model, for the path from its test to the old one.

    Raises:
        ConfigError: there is none, or it is no hand-written model of the Python backend.
    """
    old = _find_code(source)
    text = _read(old)
    has_place = old.parent.name.isdecimal()
    model_directory = old.parent.parent if has_place else old.parent
    config = model_directory / "config.pbtxt"
    spec, config_text, questions = _read_config(config, text, str(old), name)
    ported = port_model(text, str(old), spec)
    found = [f"{old}:{line}: {question}" for line, question in ported.questions]
    files: dict[str, str | Path] = {"config.pbtxt": config_text, "1/model.py": ported.text}
    is_comparable = has_place and config.is_file()
    reference = os.path.relpath(model_directory.absolute(), directory.absolute())
    files[name_test(name)] = _write_test(spec, reference if is_comparable else None)
    files["client.py"] = _write_client(spec, name)
    for path, companion in (_companions(model_directory, old) if has_place else {}).items():
        is_taken = path in files or path == "README.md"
        files[f"original_{path}" if is_taken else path] = companion
    return _scaffold(name, old, text, ported, files, [*questions, *found], spec)


def _find_code(source: Path) -> Path:
    """Return the model.py of a path, which may be its directory or its model's."""
    if source.is_file():
        return source
    versions = sorted(source.glob("[0-9]*/model.py"), key=lambda one: one.parent.name)
    code = versions[-1] if versions else source / "model.py"
    if not code.is_file():
        raise ConfigError.of(
            f"--from {source}",
            expected="a model.py, or a model's directory",
            got="no such file" if not source.exists() else "a directory without one",
            remedy="correct the path",
        )
    return code


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError.of(
            str(path), expected="a model.py in UTF-8", got=str(error), remedy="correct the file"
        ) from None


def _read_config(config: Path, text: str, origin: str, name: str) -> tuple[ModelSpec, str, list[str]]:
    """Return the tensors of the old model, the new configuration, and what is to be decided about it."""
    # Here, since the test kit is what knows the format, and other commands do without it.
    from kindaware.testing import instance_args

    if config.is_file():
        args = instance_args(None, config=config)
        spec = ModelSpec.from_config(json.loads(args["model_config"]))
        if spec.inputs and spec.outputs:
            return spec, rename_config(config.read_text(encoding="utf-8"), name), []
    inputs, outputs, streams = find_tensors(text, origin)
    if not (inputs and outputs):
        raise ConfigError.of(
            origin,
            expected=f"a config.pbtxt beside it, {config}, or code that names its tensors",
            got=f"inputs {inputs} and outputs {outputs}",
            remedy="put the model's config.pbtxt there",
        )
    spec = ModelSpec(
        name=name,
        max_batch_size=0,
        inputs=tuple(TensorSpec(one, "FP32", [-1]) for one in inputs),
        outputs=tuple(TensorSpec(one, "FP32", [-1]) for one in outputs),
        decoupled=streams,
    )
    written = write_config(name=name, inputs=spec.inputs, outputs=spec.outputs, decoupled=streams)
    return spec, f"# {_NO_CONFIG}\n{written}", [f"config.pbtxt: {_NO_CONFIG.removeprefix('PORT: ')}"]


def rename_config(text: str, name: str) -> str:
    """Return a configuration with another name of the model, and the rest as it is."""
    field = re.compile(r'^(\s*name\s*:\s*)("[^"]*"|\'[^\']*\')', re.MULTILINE)
    depth, position = 0, 0
    for line in text.splitlines(keepends=True):
        match = field.match(line)
        if match and depth == 0:
            start = position + match.start(2)
            text = text[:start] + f'"{name}"' + text[position + match.end(2) :]
            break
        code = line.partition("#")[0]
        depth += sum(code.count(one) for one in "{[<") - sum(code.count(one) for one in "}]>")
        position += len(line)
    return text if re.search(r"^\s*backend\s*:", text, re.MULTILINE) else f'backend: "python"\n{text}'


def _companions(model_directory: Path, old: Path) -> dict[str, str | Path]:
    """Return the other files of the old model: weights, labels, modules beside it."""
    found: dict[str, str | Path] = {}
    for path in sorted(model_directory.rglob("*")):
        relative = path.relative_to(model_directory)
        first = relative.parts[0]
        is_other_version = first.isdecimal() and first != old.parent.name
        is_left_behind = any(part in _LEFT_BEHIND or part.startswith(".") for part in relative.parts)
        if path.is_file() and not (is_other_version or is_left_behind) and path != old:
            target = Path("1", *relative.parts[1:]) if first == old.parent.name else relative
            if str(target) != "config.pbtxt":
                found[str(target)] = path
    return found


def _write_test(spec: ModelSpec, reference: str | None) -> str:
    rows = [2] if spec.batches else []
    entries = ",\n".join(
        f'    "{one.name}": {_example(one, rows, seed)}' for seed, one in enumerate(spec.inputs)
    )
    ask = "model.stream(INPUTS)" if spec.decoupled else "[model.infer(INPUTS)]"
    if spec.batches and not spec.decoupled and reference is not None and spec.sequences is None:
        # Two requests in one call, since joined rows are what a port can get wrong.
        ask = "model.infer_batch([INPUTS, {name: rows[:1] for name, rows in INPUTS.items()}])"
    if reference is None:
        return render(
            "port/test_alone",
            inputs=entries,
            ask=ask,
            outputs=repr([o.name for o in spec.outputs]).replace("'", '"'),
        )
    return render("port/test_original", inputs=entries, ask=ask, original=reference)


def _example(one: TensorSpec, rows: list[int], seed: int) -> str:
    shape = (*rows, *(3 if size < 0 else size for size in one.shape))
    if one.dtype.torch is None:
        return f'np.full({shape}, "text", dtype=object)'
    kind = str(one.dtype.numpy or "float32")
    if kind.startswith("float"):
        return f"np.random.default_rng({seed}).random({shape}).astype(np.{kind})"
    values = f"np.random.default_rng({seed}).integers(0, {2 if kind == 'bool' else 10}, {shape})"
    return f"{values}.astype(np.{'bool_' if kind == 'bool' else kind})"


def _write_client(spec: ModelSpec, name: str) -> str:
    entries = ",\n".join(
        f'    "{one.name}": {_example(one, [], seed)}' for seed, one in enumerate(spec.inputs)
    )
    return render("port/client_stream" if spec.decoupled else "port/client", name=name, inputs=entries)


def _scaffold(
    name: str,
    old: Path,
    text: str,
    ported: Ported,
    files: Files,
    questions: list[str],
    spec: ModelSpec,
) -> Scaffold:
    before, after = (len(one.splitlines()) for one in (text, ported.text))
    findings = [f"ported  {old}: {before} lines, now {after}"]
    notes = [f"Ported from `{old}`: {before} lines before, {after} now."]
    if spec.batches and not spec.decoupled:
        findings.append(
            "forward gets the rows of several requests at once: what it does must hold for each row"
        )
        notes.append(
            "`forward` gets the rows of all requests that wait, joined: each row must be computed by itself."
        )
    if questions:
        notes.append("What could not be ported is marked with `PORT` in `1/model.py`.")
    return Scaffold(
        models={name: files},
        about=f"The port of `{old}`.",
        ask=f"kindaware infer {name} --random",
        notes=notes,
        findings=findings,
        questions=questions,
    )
