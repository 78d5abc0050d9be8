"""The setting `compile_cache`: modules that are compiled once and for all, instead of in each process.

`torch.compile` compiles in each process anew; even with its own caches it takes seconds to import and to
trace. With `compile_cache` the first instance compiles a module ahead of time into a file of the cache, and
later ones load that in milliseconds.

A file is for the code and the state that it was made from, see `module_facts`. They can't tell everything
that a forward may depend on, so each start compares the answers with those of the module itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from logging import Logger
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kindaware._cache import Cache, Entry
from kindaware._config.model_spec import ModelSpec
from kindaware._config.settings import Settings
from kindaware._device.module_call import ModuleCall, agree
from kindaware._device.module_facts import digest_code, digest_state
from kindaware._device.program_file import Program, write_program
from kindaware._errors import ConfigError, describe
from kindaware._placement.processor import describe_processor


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Compiler:
    """Compiles the modules of one instance on the CPU into the cache.

    Attributes:
        spec: spec of the model.
        settings: `compile`, `precision` and `memory_format` are used.
        repository: the model's directory.
        facts: what else the modules' code may depend on, such as the parameters of the configuration.
        logger: gets a line for each module that is compiled into the cache.
        environment: of the process; names the cache's folder.
    """

    spec: ModelSpec
    settings: Settings
    repository: str
    facts: Mapping[str, object]
    logger: Logger
    environment: Mapping[str, str]

    def compile(self, modules: Iterable[tuple[str, nn.Module]]) -> None:
        """Have modules, given by name, compiled at their first calls.

        Raises:
            ConfigError: inputs may have any size, and code in the cache is for fixed sizes.
        """
        dynamic = [tensor.name for tensor in self.spec.inputs if tensor.is_dynamic]
        if dynamic:
            raise ConfigError.of(
                f"model {self.spec.name!r} setting 'compile_cache'",
                expected="inputs of fixed sizes, but for the number of rows",
                got=f"input {dynamic[0]!r} with a dimension of -1",
                remedy="leave compile_cache out, and torch compiles in each process",
            )
        # Now, since what a first call imports differs from start to start; once, since it reads those files.
        code = digest_code()
        for name, module in modules:
            # Where torch.compile puts its own, so that references that the model holds are compiled too.
            module._compiled_call_impl = _CachedCall(self, name, module, code)


class _CachedCall:
    """What calls of a module run: the program for arguments of their form.

    Args:
        compiler: of the instance.
        name: of the attribute that holds the module.
        module: the module.
        code: digest of the code that was loaded with the model.
    """

    def __init__(self, compiler: Compiler, name: str, module: nn.Module, code: str) -> None:
        self._compiler = compiler
        self._name = name
        self._module = module
        # With the module's hooks, and without what is compiled.
        self._plain: Callable[..., Any] = module._call_impl
        self._programs: list[tuple[ModuleCall, Program]] = []
        self._code = code

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the module itself returns."""
        # Within the export of a module that holds this one.
        if torch.compiler.is_compiling():
            return self._plain(*args, **kwargs)
        call = ModuleCall.of(args, kwargs, batches=self._compiler.spec.batches)
        for known, program in self._programs:
            if call.is_like(known):
                return program(call.tensors)
        program = self._obtain(call)
        self._programs.append((call.without_values(), program))
        return program(call.tensors)

    def _obtain(self, call: ModuleCall) -> Program:
        """Return a program from the cache; compile it if there is none that answers like the module.

        Raises:
            ConfigError: the module can't be exported, or what was compiled answers otherwise.
            CacheError: the cache can't be used.
        """
        cache, entry = Cache("compiled", self._compiler.environment), self._entry(call)
        logger = self._compiler.logger
        path = cache.find(entry)
        if path is not None:
            program = Program(path, self._module)
            if agree(program, self._plain, call):
                return program
            # The digests of code and state don't tell everything.
            logger.warning(
                "module %r: the compiled code in the cache doesn't answer like the module: it was made from "
                "another one",
                self._name,
            )
            path.unlink(missing_ok=True)
        logger.info("module %r: compiling into the cache, which takes a while", self._name)
        program = Program(cache.obtain(entry, lambda path: self._write(call, path)), self._module)
        if not agree(program, self._plain, call):
            raise self._refusal("compiled code that answers like the module", "other answers")
        return program

    def _write(self, call: ModuleCall, path: Path) -> None:
        # torch.export calls the module.
        self._module._compiled_call_impl = None
        try:
            write_program(self._module, call.with_rows(), self._compiler.settings.compile, path)
        except Exception as error:
            expected = "a module that torch.export can export, for any number of rows"
            raise self._refusal(expected, describe(error)) from error
        finally:
            self._module._compiled_call_impl = self

    def _entry(self, call: ModuleCall) -> Entry:
        settings = self._compiler.settings
        use = {
            "facts": self._compiler.facts,
            "module": self._name,
            "call": call.describe(),
            "settings": [settings.compile, settings.precision, settings.memory_format],
            "threads": torch.get_num_threads(),
            "processor": describe_processor(),
        }
        source = {"code": self._code, "state": digest_state(self._module, self._compiler.repository)}
        return Entry(self._compiler.spec.name, use, source, ".pt2")

    def _refusal(self, expected: str, got: str) -> ConfigError:
        return ConfigError.of(
            f"model {self._compiler.spec.name!r} module {self._name!r} setting 'compile_cache'",
            expected=expected,
            got=got,
            remedy="leave compile_cache out, and torch compiles in each process",
        )
