"""Values of inputs from the command line: files, pictures, JSON, text, or random ones."""

from __future__ import annotations

import json
import random
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from kindaware._errors import ConfigError
from kindaware.cli._sizes import fill_dims

_PICTURES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")
_FLOATING = ("FP", "BF")


class Tensor(Protocol):
    """An input of a model.

    Attributes:
        name: its name.
        datatype: Triton's wire name.
        dims: sizes of one row, -1 for any.
    """

    @property
    def name(self) -> str: ...
    @property
    def datatype(self) -> str: ...
    @property
    def dims(self) -> tuple[int, ...]: ...


def read_inputs(options: Sequence[str], tensors: Iterable[Tensor], *, random_rest: bool) -> dict[str, Any]:
    """Return the inputs that options such as `--input X=file.npy` give.

    Args:
        options: `NAME=VALUE` each; the name may be left out where the model has one input.
        tensors: the model's inputs.
        random_rest: whether inputs that no option gives are random; else the model may do without them.

    Raises:
        ConfigError: an option names no input, or its value can't be read.
    """
    known = {tensor.name: tensor for tensor in tensors}
    values = {}
    for option in options:
        name, found, text = option.partition("=")
        if name not in known and len(known) == 1 and not (found and name.isidentifier()):
            (name,), text = known, option
        if name not in known:
            raise ConfigError.of(
                f"--input {option}",
                expected=f"NAME=VALUE with an input of the model, one of {sorted(known)}",
                got=repr(name),
                remedy=f"write it like --input {next(iter(known), 'X')}=[1,2]",
            )
        values[name] = read_value(known[name], text)
    if random_rest:
        values |= {name: make_random(one) for name, one in known.items() if name not in values}
    return values


def read_value(tensor: Tensor, text: str) -> Any:
    """Return what a value stands for: the content of a file that is there, JSON, or text.

    Raises:
        ConfigError: it is none of these, or the file can't be read.
    """
    path = Path(text)
    is_file = len(text) < 4096 and path.is_file()
    suffix = path.suffix.lower()
    shown = text if is_file else " ".join(text[:60].split())
    if is_file and suffix == ".npy":
        return _read_array(tensor, path)
    if is_file and suffix in _PICTURES:
        return _read_bytes(tensor, path) if tensor.datatype == "BYTES" else _read_picture(tensor, path)
    if is_file:
        text = read_text_file(path, f"--input {tensor.name}={path}")
    elif suffix in (".npy", *_PICTURES):
        raise _unreadable(tensor, text, "no such file", "correct the path")
    if tensor.datatype == "BYTES" and suffix != ".json" and not text.startswith("["):
        return np.full([1 if size < 0 else size for size in tensor.dims], text, dtype=object)
    try:
        value = json.loads(text)
        is_one = not isinstance(value, list) and set(tensor.dims) <= {1, -1}
        return np.full([1] * len(tensor.dims), value) if is_one else value
    except ValueError as error:
        raise _unreadable(
            tensor, shown, f"what is no JSON ({error})", "write a number or a list, or name a file"
        ) from None


def read_labels(path: Path | None) -> tuple[str, ...]:
    """Return the names of the classes, one per line of a file; none without one.

    Raises:
        ConfigError: the file can't be read.
    """
    return () if path is None else tuple(read_text_file(path, f"--labels {path}").splitlines())


def read_text_file(path: Path, subject: str) -> str:
    """Return what is in a file that the command line names.

    Raises:
        ConfigError: it can't be read, or is not text in UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError.of(
            subject, expected="a text file in UTF-8", got=str(error), remedy="correct the path or the file"
        ) from error


def load_array(path: Path) -> np.ndarray[Any, Any]:
    """Return the array in a `.npy` file; nothing in it is run.

    Raises:
        ValueError: there is none that can be read; the text is what was got instead.
    """
    try:
        with path.open("rb") as file:
            found = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"a file that numpy can't read ({error})") from error
    if not isinstance(found, np.ndarray):
        raise ValueError("an archive of arrays")
    return found


def _unreadable(tensor: Tensor, text: str, got: str, remedy: str) -> ConfigError:
    return ConfigError.of(
        f"--input {tensor.name}={text}",
        expected=f"a .npy file, a picture, JSON or text, for {tensor.datatype} {list(tensor.dims)}",
        got=got,
        remedy=remedy,
    )


def _read_array(tensor: Tensor, path: Path) -> np.ndarray[Any, Any]:
    try:
        return load_array(path)
    except ValueError as error:
        raise _unreadable(tensor, str(path), str(error), "write one array with numpy.save") from error


def _read_bytes(tensor: Tensor, path: Path) -> np.ndarray[Any, Any]:
    return np.full([1 if size < 0 else size for size in tensor.dims], path.read_bytes(), dtype=object)


def _read_picture(tensor: Tensor, path: Path) -> np.ndarray[Any, Any]:
    """Return a picture in the layout of an input: three channels first or last, of its size if that is fixed.

    Numbers are 0 to 255 for integers, and 0 to 1 for floating point: no mean is taken off.
    """
    try:
        from PIL import Image
    except ImportError:
        raise _unreadable(tensor, str(path), "no pillow to read it", "pip install pillow") from None
    dims = tensor.dims
    is_first = len(dims) == 3 and dims[0] in (1, 3)
    if len(dims) != 3 or not (is_first or dims[2] in (1, 3)):
        raise _unreadable(
            tensor,
            str(path),
            "a picture",
            "pictures are for inputs of [3, height, width] or [height, width, 3]",
        )
    channels, (height, width) = (dims[0], dims[1:]) if is_first else (dims[2], dims[:2])
    try:
        with Image.open(path) as opened:
            picture = opened.convert("L" if channels == 1 else "RGB")
    except (OSError, SyntaxError, ValueError) as error:  # SyntaxError is pillow's for a broken PNG
        raise _unreadable(
            tensor, str(path), f"a picture that can't be read ({error})", "correct the file"
        ) from error
    if height > 0 or width > 0:
        size = (width if width > 0 else picture.width, height if height > 0 else picture.height)
        picture = picture.resize(size)
    array = np.asarray(picture).reshape(picture.height, picture.width, channels)
    if is_first:
        array = array.transpose(2, 0, 1)
    is_float = tensor.datatype.startswith(_FLOATING)
    return np.ascontiguousarray(array.astype(np.float32) / 255 if is_float else array)


def make_random(tensor: Tensor, seed: int = 0) -> Any:
    """Return one row of random values: 0 to 1 for floating point, small integers, a few words of text.

    They are the same in every run, and differ from one input to the next, so that swapped inputs show.
    """
    seeds = [seed, *tensor.name.encode()]
    generator = np.random.default_rng(seeds)
    sizes = fill_dims(tensor.dims, tensor.datatype)
    if tensor.datatype == "BYTES":
        words = random.Random(repr(seeds))
        texts = np.empty(sizes, dtype=object)
        texts[...] = " ".join(words.choices(("a", "cat", "sat", "on", "the", "mat"), k=4))
        return texts
    if tensor.datatype.startswith(_FLOATING):
        return generator.uniform(0, 1, sizes).astype(np.float32)
    if tensor.datatype == "BOOL":
        return generator.integers(0, 2, sizes).astype(bool)
    return generator.integers(0, 10, sizes)
