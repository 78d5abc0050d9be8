"""The simulated server: the models of one harness."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import torch

from kindaware._errors import ConfigError
from kindaware.testing.harness.failures import HarnessError, ModelLoadError
from kindaware.testing.harness.pending import ClientRequest, Pending
from kindaware.testing.harness.process.context import ServerContext
from kindaware.testing.harness.process.instance import Instance
from kindaware.testing.harness.process.surroundings import Leftovers
from kindaware.testing.harness.process.waiting import wait_for
from kindaware.testing.harness.server.ensemble import ServedEnsemble, Step, read_steps
from kindaware.testing.harness.server.input_check import RefusedRequest
from kindaware.testing.harness.server.option_check import check_gpu, check_source
from kindaware.testing.harness.server.options import ModelOptions, ModelSource
from kindaware.testing.harness.server.repository import ModelRepository, StoredModel
from kindaware.testing.harness.server.served import ServedModel, read_arguments
from kindaware.testing.stand_in import Answer, BlsCall, RefusalError

NOT_FOUND_SINCE = (26, 7)
"""Since then an unknown model or version is `not found`, before it is `not ready`."""

Served = ServedModel | ServedEnsemble


class SimulatedServer:
    """The models of one harness, and what one of them may ask of the others.

    Args:
        context: what their processes share.
        default_kind: of the instances of models whose kind the test does not say; None is the
            configuration's.
    """

    def __init__(self, context: ServerContext, default_kind: str | None = None) -> None:
        self.context = context
        self.default_kind = default_kind
        self.models: dict[str, Served] = {}
        self._retired: list[Served] = []
        self._repository = ModelRepository(ModelOptions(kind=default_kind))
        self._loaded: dict[str, StoredModel] = {}
        self._calls: dict[int, Pending] = {}

    def check_device(self, pending: Pending) -> None:
        """Refuse a request whose inputs are on a GPU that the host doesn't have.

        Raises:
            HarnessError: an input is on such a GPU.
        """
        for ordinal in {wire.gpu for wire in pending.sent.inputs if wire.gpu is not None}:
            devices = None if self.context.accelerator is None else len(self.context.accelerator.devices)
            check_gpu(ordinal, torch.cuda.device_count() if devices is None else devices)

    def load(self, source: ModelSource, options: ModelOptions) -> Served:
        """Load a model that the test names."""
        check_source(source)
        stored = self._repository.open(source, options)
        model = self._serve(stored)
        self._repository.add(model.name, stored)
        return model

    def _serve(self, stored: StoredModel) -> Served:
        """Start a model; one of the same name is replaced, and finalized when it is idle."""
        arguments = read_arguments(stored.source, stored.options, self.context.accelerator)
        model: Served
        if steps := read_steps(arguments.config):
            self._load_steps(arguments.name, steps)
            version = self.context.server_version
            model = ServedEnsemble(self, stored.source, stored.options, arguments, version)
        else:
            model = ServedModel(self.context, self, stored.source, stored.options, arguments)
        self._retire(self.models.pop(model.name, None))
        self.models[model.name] = model
        self._note_loaded(model.name, stored)
        return model

    def _load_steps(self, name: str, steps: Sequence[Step]) -> None:
        """Load the models of an ensemble that are not loaded, from the directories beside it.

        Raises:
            ConfigError: there is no such model.
        """
        for missing in dict.fromkeys(step.model for step in steps if step.model not in self.models):
            stored = self._repository.find(missing)
            if stored is None:
                raise ConfigError.of(
                    f"ensemble {name!r}",
                    expected="steps of models that are loaded, or lie beside it",
                    got=f"{missing!r}, which is neither",
                    remedy="pass it in models=, or put its directory beside the ensemble's",
                )
            self._serve(stored)

    def is_streaming(self, name: str) -> bool:
        """Return whether a loaded model may send any number of responses."""
        return name in self.models and self.models[name].is_decoupled

    def _note_loaded(self, name: str, stored: StoredModel) -> None:
        self._loaded[name] = stored
        self.context.log.add("INFO", f"successfully loaded '{name}'", "model_lifecycle.cc", 0, name)

    def find(self, name: str) -> Served:
        """Return a loaded model.

        Raises:
            HarnessError: there is none of this name.
        """
        if name not in self.models:
            raise HarnessError.of(
                f"model {name!r}",
                expected=f"one of the loaded models {sorted(self.models)}",
                got="another",
                remedy="load it with models= or add_model",
            )
        return self.models[name]

    def close(self) -> Leftovers:
        """Finalize all models, restore the process, and return what stays changed."""
        try:
            for model in [*self._retired, *reversed(self.models.values())]:
                model.stop()
        finally:
            self._retired.clear()
            self.models.clear()
            left = self.context.close()
            self._repository.close()
        return left

    def run_call(self, call: BlsCall) -> Iterator[Answer]:
        """Run a model for another one; answers come as they are sent.

        Raises:
            RefusalError: the request can't be submitted.
        """
        model = self._find_for_call(call)
        pending = Pending(ClientRequest.of_call(call))
        try:
            admitted = model.admit(pending)
        except RefusedRequest as error:
            raise RefusalError(error.failure.message) from None
        self._calls[id(call)] = pending
        if not call.is_decoupled:
            instance = model.run([admitted])
            self.settle(model)
            return self._answers(call, instance, pending)
        index = model.pick(admitted)
        instance = model.choose(index)

        def run() -> None:
            try:
                model.run([admitted], index)
            except BaseException as error:
                pending.fail(error)

        self.context.start_callee(run, pending)
        return self._answers(call, instance, pending)

    def _answers(self, call: BlsCall, instance: Instance | None, pending: Pending) -> Iterator[Answer]:
        index = 0
        try:
            while True:
                wait_for(pending, instance, self.context.hang_timeout_seconds, index + 1)
                if index == len(pending.answers):
                    return
                yield pending.answers[index]
                index += 1
        finally:
            self._calls.pop(id(call), None)
            self._settle_all()

    def _find_for_call(self, call: BlsCall) -> Served:
        name = call.model_name
        model = self.models.get(name)
        is_there = model is not None and call.model_version in (-1, int(model.version))
        if model is None or not is_there:
            if self.context.server_version >= NOT_FOUND_SINCE:
                raise RefusalError(_not_found(name, None if model is None else str(call.model_version)))
            raise RefusalError(f"Failed for execute the inference request. Model '{name}' is not ready.")
        if model.is_decoupled and not call.is_decoupled:
            raise RefusalError(
                f"Model {name} is using the decoupled. The current BLS request call doesn't support models "
                "using the decoupled transaction policy. Please use 'decoupled=True' argument to the 'exec' "
                "or 'async_exec' calls for decoupled models.'"
            )
        return model

    def cancel_call(self, call: BlsCall) -> None:
        """Cancel the request of a running call."""
        pending = self._calls.get(id(call))
        if pending is not None:
            pending.cancel()

    def load_model(self, name: str, config: str, files: dict[str, bytes]) -> None:
        """Load what `pb_utils.load_model` asks for, from the directories of the loaded models.

        A model that is loaded stays as it is unless its files were changed or its configuration is another.
        Files that come with the call count as older than any, so with the same configuration they are
        ignored.

        Source: core `model_repository_manager.cc`, ModelRepositoryManager::InitializeModelInfo, and
        `model_lifecycle.cc`, ModelLifeCycle::AsyncLoad (commit 03f1b58); measured on 2.51.0.

        Raises:
            RefusalError: there is no such model, or it does not load.
        """
        self._check_not_loading(name)
        stored = self._repository.write(name, files) if files else self._repository.find(name)
        if stored is None:
            raise self._poll_error(name, f"failed to poll model '{name}': model not found in any repository")
        if files and not config:
            raise self._poll_error(name, f"Poll failed for model directory '{name}': files without config")
        try:
            if config:
                stored = stored.with_config(json.loads(config))
            if not self._is_up_to_date(name, stored):
                self._serve(stored)
        except ModelLoadError as error:
            raise RefusalError(f"{error}\n") from error
        except (ConfigError, ValueError) as error:
            text = f"Poll failed for model directory '{name}': {error}"
            raise self._poll_error(name, text) from error

    def _poll_error(self, name: str, reason: str) -> RefusalError:
        """Return the error for a model that can't be read from the repository; the reason is only logged."""
        self.context.log.add("ERROR", reason, "model_repository_manager.cc", 0, name)
        return RefusalError(f"failed to load '{name}', failed to poll from model repository")

    def _is_up_to_date(self, name: str, stored: StoredModel) -> bool:
        """Return whether a model can stay as it is."""
        model, loaded = self.models.get(name), self._loaded.get(name)
        if model is None or loaded is None:
            return False
        if not stored.is_override and stored.is_unchanged_since(loaded):
            return True
        if stored.files_ns <= loaded.files_ns and model.is_configured_as(stored.source, stored.options):
            self._note_loaded(name, stored)
            return True
        return False

    def _check_not_loading(self, name: str) -> None:
        for host in self.context.hosts:
            if host.model_name == name and host.phase in ("construct", "initialize"):
                raise host.violation(
                    f"wait for ever: load_model({name!r}) waits for a load that waits for it",
                    "don't let a model load itself before it is loaded",
                )

    def unload_model(self, name: str) -> None:
        """Unload a model; an unknown one is no error."""
        self._retire(self.models.pop(name, None))

    def is_model_ready(self, name: str, version: str) -> bool | None:
        """Return whether a model is ready; None if it is unknown."""
        model = self.models.get(name)
        if model is None:
            return None
        if version and int(version) not in (-1, int(model.version)):
            if self.context.server_version >= NOT_FOUND_SINCE:
                raise RefusalError(_not_found(name, version))
            return False
        return model.is_ready()

    def _retire(self, model: Served | None) -> None:
        """Finalize a model, at once or when it is idle."""
        if model is not None:
            self._retired.append(model)
            self.settle(model)

    def _settle_all(self) -> None:
        for model in list(self._retired):
            self.settle(model)

    def settle(self, model: Served) -> None:
        """Finalize a model that was replaced, if it is idle."""
        if model in self._retired and not any(instance.is_busy() for instance in model.instances):
            self._retired.remove(model)
            model.stop()


def _not_found(name: str, version: str | None) -> str:
    return f"Request for unknown model: '{name}' {f'version {version} ' if version else ''}is not found"
