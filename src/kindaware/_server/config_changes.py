"""Changes of configurations that a server gets in copies: the user's files stay as they are."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from kindaware._config.settings import PREFIX, SETTING_NAMES
from kindaware._server.config_text import ConfigText
from kindaware._server.failure import ServerError

PARAMETERS = "parameters."
_NUMBER = re.compile(r"\d+")
FIELDS: Mapping[str, re.Pattern[str]] = {
    "max_batch_size": _NUMBER,
    "instance_group.count": _NUMBER,
    "instance_group.kind": re.compile("KIND_(CPU|GPU|MODEL|AUTO)"),
    "dynamic_batching.max_queue_delay_microseconds": _NUMBER,
}
"""Fields of a configuration that can be set, and what their values look like."""


@dataclass(frozen=True)
class ConfigChanges:
    """What differs from the user's configurations.

    Attributes:
        on_cpu: whether every instance is on the CPU.
        settings: value by key, by model.
    """

    on_cpu: bool = False
    settings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def concern(self, models: Iterable[str]) -> bool:
        """Return whether the configuration of one of these models is another one."""
        return self.on_cpu or any(model in self.settings for model in models)

    def apply(self, model: str, text: str) -> str:
        """Return a model's configuration as the server is to get it."""
        config = ConfigText(text)
        for key, value in self.settings.get(model, {}).items():
            if key in FIELDS:
                config = config.with_field(key, value)
            else:
                config = config.with_parameter(key.removeprefix(PARAMETERS), value)
        return config.on_cpu() if self.on_cpu else str(config)


def parse_settings(options: Sequence[str], models: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return values by key, by model, of options such as `resnet50.kindaware.precision=bf16-true`.

    Args:
        options: `MODEL.KEY=VALUE` each, where KEY is a setting of the library, a field out of `FIELDS`, or a
            parameter as `parameters.NAME`.
        models: those that there are.

    Raises:
        ServerError: an option has another form, or names a model, a setting or a value that does not exist.
    """
    found: dict[str, dict[str, str]] = {}
    for option in options:
        target, equals, value = option.partition("=")
        model = max((one for one in models if target.startswith(f"{one}.")), key=len, default="")
        if not equals or "." not in target:
            raise _refusal(option, "MODEL.SETTING=VALUE", repr(option), "write it like " + _example(models))
        if not model:
            raise _unknown(option, "a model", target.partition(".")[0], models)
        key = target.removeprefix(f"{model}.")
        _check(option, key, value)
        found.setdefault(model, {})[key] = value
    return found


def _check(option: str, key: str, value: str) -> None:
    known = [*FIELDS, *(PREFIX + name for name in SETTING_NAMES)]
    if key.startswith(PARAMETERS) and key != PARAMETERS:
        return
    if key not in known:
        raise _unknown(option, "a setting", key, known)
    if key in FIELDS and not FIELDS[key].fullmatch(value):
        allowed = "a whole number" if FIELDS[key] is _NUMBER else f"a value like {FIELDS[key].pattern}"
        raise _refusal(option, allowed, repr(value), "correct the value")


def _unknown(option: str, what: str, got: str, known: Sequence[str]) -> ServerError:
    nearest = difflib.get_close_matches(got, known, n=1, cutoff=0.5)
    last = {name.rpartition(".")[2]: name for name in known}
    nearest = nearest or [last[one] for one in difflib.get_close_matches(got.rpartition(".")[2], last, n=1)]
    remedy = f"did you mean {nearest[0]}?" if nearest else "correct the name"
    return _refusal(option, f"{what} out of {', '.join(known)}", repr(got), remedy)


def _refusal(option: str, expected: str, got: str, remedy: str) -> ServerError:
    return ServerError.of(f"setting {option}", expected=expected, got=got, remedy=remedy)


def _example(models: Sequence[str]) -> str:
    return f"{models[0] if models else 'MODEL'}.kindaware.precision=bf16-true"
