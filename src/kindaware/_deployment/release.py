"""Releases of Triton: what of a deployment depends on them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kindaware._errors import OptionError

_FIRST, _NUMPY_2, _MODELS_ASKED = (23, 5), (24, 12), (26, 4)


@dataclass(frozen=True, order=True)
class Release:
    """A release of NVIDIA's container, such as 26.07.

    Attributes:
        year: its first number.
        month: its second.
    """

    year: int
    month: int

    @classmethod
    def parse(cls, text: str) -> Release:
        """Read `YY.MM`.

        Raises:
            OptionError: it is no release, or one whose Python isn't known.
        """
        match = re.fullmatch(r"(\d\d)\.(\d\d)", text)
        release = cls(int(match[1]), int(match[2])) if match else cls(0, 0)
        if not (release >= cls(*_FIRST) and release.month in range(1, 13)) or release == cls(24, 11):
            raise OptionError.of(
                "--triton",
                expected="a release from 23.05 on whose Python is known, such as 25.06",
                got=repr(text),
                remedy="pass the release in the image's tag",
            )
        return release

    @property
    def python(self) -> str:
        """The version of Python that its stub is built for."""
        return "3.12" if self.has_numpy_2 else "3.10"

    @property
    def numpy(self) -> str:
        """The requirement for numpy that its stub can work with."""
        return "numpy>=2" if self.has_numpy_2 else "numpy<2"

    @property
    def has_numpy_2(self) -> bool:
        """Whether its stub is built for numpy 2."""
        return self >= Release(*_NUMPY_2)

    @property
    def glibc(self) -> int:
        """The minor version of its image's glibc 2, that of Ubuntu 22.04 or 24.04."""
        return 39 if self.has_numpy_2 else 35

    @property
    def asks_models(self) -> bool:
        """Whether the server's own readiness asks every model, and so notices a dead stub."""
        return self >= Release(*_MODELS_ASKED)

    @property
    def image(self) -> str:
        """NVIDIA's image."""
        return f"nvcr.io/nvidia/tritonserver:{self}-py3"

    def __str__(self) -> str:
        return f"{self.year}.{self.month:02}"
