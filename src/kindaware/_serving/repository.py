"""The model repository that `serve` writes: a directory per model, with a complete configuration."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn
from torch.export import ExportedProgram

from kindaware._authoring.class_example import tensors_of_class
from kindaware._authoring.config_writer import write_config
from kindaware._authoring.tensors_from_example import InferredTensors, tensors_from_example
from kindaware._config.model_spec import TensorSpec
from kindaware._errors import ConfigError
from kindaware._hooks.class_rules import streaming_hook
from kindaware._model import DEFAULT_BATCH_SIZE, KindAwareModel
from kindaware._serving import payload
from kindaware._serving.forms import CallForms
from kindaware._serving.options import Servable, check_name, read_instances, read_settings
from kindaware._serving.stub_side import STATE

_WRITTEN = frozenset(
    {
        *("name", "backend", "max_batch_size", "input", "output", "instance_group", "parameters"),
        *("inputs", "outputs", "instance_groups", "decoupled"),
    }
)
_MODEL_PY = '''"""Written by kindaware.serve."""

from kindaware._serving.stub_side import load_class

TritonPythonModel = load_class(__file__)
'''


@dataclass(frozen=True)
class Plan:
    """One model, checked and ready to be written.

    Args:
        name: of the model.
        thing: the class, module or function.
        config: the text of its config.pbtxt.
        found: what a run on its example has shown; None if the class declares its tensors.
    """

    name: str
    thing: Any
    config: str
    found: InferredTensors | None

    @property
    def is_complete(self) -> bool:
        """Whether the class leaves its configuration as it is written here."""
        if not _is_class(self.thing):
            return True
        name = "auto_complete_config"
        return inspect.getattr_static(self.thing, name) is inspect.getattr_static(KindAwareModel, name)

    def write(self, repository: Path) -> None:
        """Write the model's directory.

        Raises:
            ConfigError: the class, module or function can't be copied into the server's process.
        """
        folder = repository / self.name / "1"
        folder.mkdir(parents=True)
        (folder.parent / "config.pbtxt").write_text(self.config)
        (folder / "model.py").write_text(_MODEL_PY)
        state = {"sys_path": payload.list_sys_path(), "sources": payload.list_sources(self.thing)}
        (folder / STATE).write_text(json.dumps({**state, **self._write_payload(folder)}))

    def _write_payload(self, folder: Path) -> dict[str, Any]:
        if not _is_class(self.thing):
            assert self.found is not None, "read_plan has run the example"
            return {
                "callable": payload.pickle_callable(self.thing, folder),
                "kind": "generator"
                if self.found.streams
                else "coroutine"
                if _is_async(self.thing)
                else "function",
                "forms": CallForms.of(self.found).to_json(),
            }
        if payload.is_importable(self.thing):
            return {"module": self.thing.__module__, "qualname": self.thing.__qualname__}
        payload.pickle_class(self.thing, folder)
        return {}


def read_plan(name: str, servable: Servable) -> Plan:
    """Check a model, and run its example if it has one.

    Raises:
        ConfigError: it can't be served as it is.
    """
    check_name(name)
    subject = f"model {name!r}"
    thing = servable.model
    groups, parameters = read_instances(servable.instances, subject), read_settings(servable.settings)
    _check_config(servable.config, subject)
    found = _run_example(servable, subject)
    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]
    if found is not None:
        inputs, outputs = found.input_specs, found.output_specs
    else:
        inputs, outputs = _declared(thing)
    streams = streaming_hook(thing) is not None if _is_class(thing) else found is not None and found.streams
    config = write_config(
        name=name,
        max_batch_size=_choose_batch_size(servable, found, subject),
        inputs=inputs,
        outputs=outputs,
        decoupled=streams,
        instance_groups=groups,
        parameters=parameters,
        **servable.config,
    )
    return Plan(name, thing, config, found)


def _run_example(servable: Servable, subject: str) -> InferredTensors | None:
    thing: Any = servable.model
    if _is_class(thing):
        if servable.outputs is not None:
            raise ConfigError.of(
                f"{subject} outputs",
                expected="names of what a module or function returns",
                got="them beside a class",
                remedy="leave them out: the class declares its outputs, or returns no others",
            )
        return None if servable.example is None else tensors_of_class(thing, servable.example)
    _check_callable(thing, subject)
    if servable.example is None:
        raise ConfigError.of(
            subject,
            expected="an example of its inputs, which shows their data types and sizes",
            got="none",
            remedy="write serve(module, torch.rand(1, 3, 224, 224)), or a mapping of inputs by name",
        )
    function = thing.module() if isinstance(thing, ExportedProgram) else thing
    return tensors_from_example(function, servable.example, outputs=servable.outputs)


def _check_callable(thing: Any, subject: str) -> None:
    """Refuse what is neither a module nor a function."""
    if inspect.isclass(thing) or payload.is_compiled(thing) or not callable(thing):
        got = (
            f"class {thing.__name__}"
            if inspect.isclass(thing)
            else f"{type(thing).__name__} {str(thing)[:80]!r}"
        )
        raise ConfigError.of(
            subject,
            expected="a class derived from kindaware.KindAwareModel, a torch module, or a function",
            got=got,
            remedy=_remedy(thing),
        )


def _check_config(config: Mapping[str, Any], subject: str) -> None:
    """Refuse fields of config.pbtxt that are written from other options."""
    for name in config:
        if name in _WRITTEN:
            raise ConfigError.of(
                f"{subject} config",
                expected="fields of config.pbtxt that no option is for",
                got=repr(name),
                remedy="use name, max_batch_size, instances, settings, or the declarations of the class",
            )


def _declared(model_class: Any) -> tuple[Sequence[TensorSpec], Sequence[TensorSpec]]:
    """Return the inputs and outputs that a class declares."""
    if not model_class.inputs or not model_class.outputs:
        missing = " and ".join(name for name in ("inputs", "outputs") if not getattr(model_class, name))
        raise ConfigError.of(
            f"class {model_class.__name__}",
            expected="inputs and outputs",
            got=f"no {missing}",
            remedy=f"declare them as lists of kindaware.TensorSpec, or have them found by one call: "
            f"{model_class.__name__}.from_example(X=array)",
        )
    return model_class.inputs, model_class.outputs


def _choose_batch_size(servable: Servable, found: InferredTensors | None, subject: str) -> int:
    """Return `max_batch_size`: as given, as declared, or the default for what batches."""
    given = servable.max_batch_size
    thing: Any = servable.model
    declared: int = thing.max_batch_size if _is_class(thing) else 0
    if given is not None and (type(given) is not int or not 0 <= given < 2**31):
        raise ConfigError.of(
            f"{subject} max_batch_size",
            expected="a whole number, 0 or more",
            got=repr(given),
            remedy="correct it",
        )
    if found is None:
        return declared if given is None else given
    if not found.batches and given:
        raise ConfigError.of(
            f"{subject} max_batch_size",
            expected="0 for what does not batch",
            got=str(given),
            remedy=f"leave it out, since {found.why_batches}",
        )
    if given is None:
        given = declared or DEFAULT_BATCH_SIZE
    return given if found.batches else 0


def _is_class(thing: Any) -> bool:
    return inspect.isclass(thing) and issubclass(thing, KindAwareModel)


def _is_async(function: Any) -> bool:
    target = function.forward if isinstance(function, nn.Module) else function
    return inspect.iscoroutinefunction(target)


def _remedy(thing: Any) -> str:
    if isinstance(thing, KindAwareModel):
        return f"pass the class, {type(thing).__name__}, and no object of it"
    if inspect.isclass(thing) and issubclass(thing, nn.Module):
        return f"pass a module, such as {thing.__name__}()"
    if payload.is_compiled(thing):
        return "pass the module that was compiled, with settings={'compile': 'default'}"
    if isinstance(thing, (str, bytes)) or hasattr(thing, "__fspath__"):
        return "for a model repository run kindaware serve, or use kindaware.testing.TritonServer"
    return "derive it from KindAwareModel, or write a function"
