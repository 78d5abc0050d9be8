"""`ModelHarness`: a model without a server."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from types import ModuleType, TracebackType
from typing import Any

from kindaware.testing.accelerator import SimulatedAccelerator
from kindaware.testing.arguments import ConfigSource
from kindaware.testing.harness.client.client import ModelClient
from kindaware.testing.harness.failures import HarnessError
from kindaware.testing.harness.process.context import ServerContext
from kindaware.testing.harness.process.log import LogLine
from kindaware.testing.harness.process.modules import ModuleSpace
from kindaware.testing.harness.server.metrics_text import write_metrics
from kindaware.testing.harness.server.option_check import check_models, check_source, parse_version
from kindaware.testing.harness.server.options import ModelOptions, ModelSource
from kindaware.testing.harness.server.server import Served, SimulatedServer


class LoadedModel(ModelClient):
    """One model of a harness, by name."""

    def __init__(self, server: SimulatedServer, name: str, raise_errors: bool) -> None:
        self._server = server
        self._name = name
        self.raise_errors = raise_errors

    @property
    def served(self) -> Served:
        """The model as the simulated server has it now."""
        return self._server.find(self._name)


class ModelHarness(ModelClient):
    """Loads a model as Triton's Python backend does, in this process, and sends it requests.

        with ModelHarness("models/resnet50") as model:
            result = model.infer(INPUT=array)
            assert result.outputs["OUTPUT"].shape == (1, 1000)

    `triton_python_backend_utils` can be imported while the block lasts, and not after it. What the model
    changed in this process (modules, import path, environment, directory, torch's settings, loggers) is put
    back at the end.

    Args:
        model: a model's directory, or a class. Of an ensemble, the models beside it that are its steps are
            loaded too.
        config: path, dict, or text of a config.pbtxt; by default the directory's. A class needs one.
        kind: `CPU`, `GPU` or `MODEL`, whatever the configuration's instance_group says; None takes its kind,
            and needs the GPU that it asks for, or `accelerator`. `CPU` holds for the further models too.
        device_id: ordinal of the GPU.
        raise_errors: a request that fails raises `InferenceError`; else its Result has the error.
        server_version: the release whose behaviour is wanted: `(24, 10)`, `"24.10"`, or `"current"`.
        name: the model's name; by default that of configuration or directory.
        version: the version; by default the highest of the directory that `version_policy` allows.
        parameters: of the model, over those of the configuration.
        instances: how many; by default as many as the configuration's `count`.
        group_index: which of the configuration's groups they are of.
        num_gpus: what the simulated host has; by default as many as it takes.
        auto_complete: let the model complete its configuration.
        models: further models that this one may call: directories, or tuples of a class and a configuration.
            They are loaded first.
        accelerator: `simulated`, or a `SimulatedAccelerator`: GPUs in host memory for torch's CUDA;
            None is torch's own.
        hang_timeout_seconds: how long a model's threads may take to answer before it counts as a hang, and
            how long a call of its code may wait while neither the process nor its children work.
        finalize_timeout_seconds: how long `finalize` may take, as long as on a server unless said.

    Raises:
        ConfigError: on entering: there is no model.py, or the configuration can't be parsed or is refused.
        ModelLoadError: on entering: the model's code fails; in the server's words.
        TritonContractError: a server would crash or hang.
    """

    def __init__(
        self,
        model: ModelSource,
        *,
        config: ConfigSource | None = None,
        kind: str | None = None,
        device_id: int = 0,
        raise_errors: bool = True,
        server_version: tuple[int, int] | str = (24, 10),
        name: str | None = None,
        version: str | int | None = None,
        parameters: Mapping[str, str] | None = None,
        instances: int | None = None,
        group_index: int = 0,
        num_gpus: int | None = None,
        auto_complete: bool = True,
        models: Sequence[Any] = (),
        accelerator: SimulatedAccelerator | str | None = None,
        hang_timeout_seconds: float = 10.0,
        finalize_timeout_seconds: float = 30.0,
    ) -> None:
        check_source(model)
        self.raise_errors = raise_errors
        self._version = parse_version(server_version)
        self._hang_timeout_seconds = hang_timeout_seconds
        self._finalize_timeout_seconds = finalize_timeout_seconds
        self.accelerator = _open_accelerator(accelerator, num_gpus, device_id)
        self._source = model
        self._models = check_models(models)
        self._options = ModelOptions(
            config=config,
            kind=kind,
            device_id=device_id,
            name=name,
            version=None if version is None else str(version),
            parameters={} if parameters is None else parameters,
            instances=instances,
            group_index=group_index,
            num_gpus=num_gpus,
            auto_complete=auto_complete,
        )
        self._open: SimulatedServer | None = None
        self._last: SimulatedServer | None = None
        self._name = ""
        self._entered: ModuleSpace | None = None

    def __enter__(self) -> ModelHarness:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop(check=error is None)

    def __repr__(self) -> str:
        return f"<ModelHarness {self._source!r}: {'running' if self._open else 'not running'}>"

    def start(self) -> ModelHarness:
        """Load the models, as entering the block does."""
        if self._open is not None:
            raise HarnessError.of(
                "ModelHarness", expected="one start", got="a second", remedy="call stop() first"
            )
        context = ServerContext(
            self._version, self._hang_timeout_seconds, self.accelerator, self._finalize_timeout_seconds
        )
        kind = "CPU" if self._options.kind == "CPU" else None
        self._open = self._last = SimulatedServer(context, kind)
        try:
            for other in self._models:
                self.add_model(*other) if isinstance(other, tuple) else self.add_model(other)
            self._name = self._open.load(self._source, self._options).name
            self._open.context.raise_violations()
            self._enter()
        except BaseException:
            server, self._open = self._open, None
            server.close()
            raise
        return self

    def stop(self, *, check: bool = True) -> None:
        """Finalize the models and put everything back; a second call does nothing.

        Args:
            check: raise a TritonContractError that has not been raised yet.
        """
        server = self._open
        if server is None:
            return
        try:
            if self._entered is not None:
                self._entered.leave()
        finally:
            self._open = None
            left = server.close()
            texts = [f"{name} stays as the model has set it" for name in left.settings]
            for text in [*texts, *(f"thread {name!r} was left running" for name in left.threads)]:
                server.context.log.add("WARNING", text, "kindaware.testing", 0, self._name)
        for text in texts:
            warnings.warn(f"model {self._name!r}: {text}", stacklevel=2)
        if check:
            server.context.raise_violations()

    def add_model(
        self, model: ModelSource, config: ConfigSource | None = None, **options: Any
    ) -> LoadedModel:
        """Load a further model, which the others may call.

        Args:
            model: a model's directory, or a class.
            config: as for the harness.
            options: as for the harness: kind, device_id, name, version, parameters, instances and so on.

        Returns:
            A client of that model, with `infer`, `infer_batch` and `stream`.
        """
        options = {"kind": self._server.default_kind, **options}
        served = self._server.load(model, ModelOptions(config=config, **options))
        return LoadedModel(self._server, served.name, self.raise_errors)

    def model(self, name: str) -> LoadedModel:
        """Return a client of a loaded model."""
        self._server.find(name)
        return LoadedModel(self._server, name, self.raise_errors)

    @property
    def served(self) -> Served:
        """The model as the simulated server has it now."""
        return self._server.find(self._name)

    @property
    def pb_utils(self) -> ModuleType:
        """The first instance's `triton_python_backend_utils`."""
        loaded = self._first.loaded
        assert loaded is not None
        return loaded.pb_utils

    @property
    def logs(self) -> list[LogLine]:
        """All lines of the simulated server's log; also after the end."""
        return [] if self._last is None else list(self._last.context.log.lines)

    def log_text(self) -> str:
        """Return the log as text; also after the end."""
        return "" if self._last is None else self._last.context.log.text()

    def metrics_text(self) -> str:
        """Return the models' own metrics as the metrics port shows them."""
        return write_metrics(self._server.context.metrics)

    def metric(self, name: str, **labels: str) -> float:
        """Return the value of one of the models' metrics; for a histogram, the sum.

        Raises:
            HarnessError: there is none.
        """
        for sample in self._server.context.metrics.samples():
            if sample.name == name and sample.labels == labels:
                return sample.value
        raise HarnessError.of(
            f"metric {name}{labels or ''}",
            expected="one that a model has made and still holds",
            got=self.metrics_text() or "none",
            remedy="correct the name or the labels",
        )

    @property
    def _server(self) -> SimulatedServer:  # type: ignore[override]
        if self._open is None:
            raise HarnessError.of(
                "ModelHarness",
                expected="a running one",
                got="one that isn't",
                remedy="use it in a with statement, or call start()",
            )
        return self._open

    def _enter(self) -> None:
        """Keep the first instance's modules in place while the test's code runs; an ensemble has none."""
        loaded = self.served.instances[0].loaded if self.served.instances else None
        self._entered = None if loaded is None else loaded.space
        if self._entered is not None:
            self._entered.enter()


def _open_accelerator(
    accelerator: SimulatedAccelerator | str | None, num_gpus: int | None, device_id: int
) -> SimulatedAccelerator | None:
    if accelerator is None:
        return None
    if accelerator == "simulated":
        accelerator = SimulatedAccelerator()
    if not isinstance(accelerator, SimulatedAccelerator):
        raise HarnessError.of(
            "accelerator",
            expected="'simulated', a SimulatedAccelerator or None",
            got=repr(accelerator),
            remedy="pass one of those",
        )
    accelerator.require_devices(device_id + 1 if num_gpus is None else num_gpus)
    return accelerator
