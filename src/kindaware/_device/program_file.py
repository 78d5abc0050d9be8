"""A module compiled ahead of time by AOTInductor, in a file: written with its compiler, read without it.

The file is AOTInductor's package, without weights: those of the module are used where they are, so that
instances still share them. Tensors that are neither parameters nor buffers, such as constants in `forward`,
are added to it.
Source: torch, "AOTInductor: Ahead-Of-Time Compilation for Torch.Export-ed Models".
"""

from __future__ import annotations

import inspect
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from kindaware._device.module_call import ModuleCall
from kindaware._device.module_tree import named_tensors

CONSTANTS = "kindaware/constants.pt"
"""Name of the added part."""


def write_program(module: nn.Module, call: ModuleCall, mode: str, path: Path) -> None:
    """Compile a module and write the file; takes seconds to minutes.

    Args:
        module: the module, in eval mode.
        call: an example of at least two rows; the code takes any number of them.
        mode: of `torch.compile`.
        path: of the file.

    Raises:
        Exception: torch can't export the module, such as one that branches on values of tensors.
    """
    # Takes seconds to import.
    import torch._inductor
    from torch.export import Dim, export

    args, kwargs = call.arguments()
    named = inspect.signature(module.forward).bind(*args, **kwargs).arguments
    sizes = pytree.tree_map(lambda one: {0: Dim.DYNAMIC} if call.is_batch(one) else None, dict(named))
    options = {**torch._inductor.list_mode_options(mode), "aot_inductor.package_constants_in_so": False}
    with torch.inference_mode(False), torch.no_grad():
        program = export(module, args, kwargs, dynamic_shapes=sizes)
        torch._inductor.aoti_compile_and_package(program, package_path=str(path), inductor_configs=options)
    names = dict(named_tensors(module))
    constants = {name: one for name, one in program.constants.items() if name not in names}
    buffer = io.BytesIO()
    torch.save(constants, buffer)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(CONSTANTS, buffer.getvalue())


class Program:
    """A module compiled ahead of time, loaded from its file.

    Args:
        path: of the file.
        module: the module that it was compiled from, with its weights; they must not be replaced later.

    Raises:
        RuntimeError: the file isn't one of this version of torch.
    """

    def __init__(self, path: Path, module: nn.Module) -> None:
        with zipfile.ZipFile(path) as file:
            constants = torch.load(io.BytesIO(file.read(CONSTANTS)), weights_only=True)
        # And not torch._inductor.aoti_load_package, which imports the compiler.
        self._loader = torch._C._aoti.AOTIModelPackageLoader(str(path), "model", False, 1, -1)
        self._out_spec = pytree.treespec_loads(self._loader.get_call_spec()[1])
        tensors = {**dict(named_tensors(module)), **constants}
        # Kept, since the program only points to their memory.
        self._tensors = {name: tensors[name].detach() for name in self._loader.get_constant_fqns()}
        self._loader.load_constants(self._tensors, False, True, True)

    def __call__(self, tensors: Sequence[torch.Tensor]) -> Any:
        """Return what the module's forward returns for the tensors among its arguments."""
        return pytree.tree_unflatten(self._loader.boxed_run(list(tensors)), self._out_spec)
