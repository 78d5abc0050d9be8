"""Settings of numpy that a model may change."""

from __future__ import annotations

from typing import Any

from kindaware.testing.harness.process.setting import Setting


def settings_of_numpy(numpy: Any) -> dict[str, Setting]:
    """Return the settings by name."""
    return {
        "numpy.seterr": Setting(numpy.geterr, lambda value: numpy.seterr(**value), is_of_thread=True),
        "numpy.seterrcall": Setting(numpy.geterrcall, numpy.seterrcall, is_of_thread=True),
        "numpy.setbufsize": Setting(numpy.getbufsize, numpy.setbufsize, is_of_thread=True),
        "numpy.set_printoptions": Setting(
            lambda: {name: one for name, one in numpy.get_printoptions().items() if name != "override_repr"},
            lambda value: numpy.set_printoptions(**{**value, "legacy": value["legacy"] or False}),
            is_of_thread=True,
        ),
    }
