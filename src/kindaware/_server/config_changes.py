"""Changes of configurations that a server gets in copies: the user's files stay as they are."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from kindaware._config.settings import PREFIX, SETTING_NAMES
from kindaware._errors import ConfigError
from kindaware._server.config_edit import change_config
from kindaware._server.config_text import ConfigText
from kindaware._server.failure import ServerError, ServerOptionError

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
        try:
            changed = change_config(text, self.settings.get(model, {}))
        except ConfigError as error:
            raise ServerError(f"model {model!r}: {error}") from error
        return ConfigText(changed).on_cpu() if self.on_cpu else changed


def parse_settings(options: Sequence[str], models: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return values by key, by model, of options such as `resnet50.kindaware.precision=bf16-true`.

    Args:
        options: `MODEL.KEY=VALUE` each, where KEY is a setting of the library, a field out of `FIELDS`, or a
            parameter as `parameters.NAME`.
        models: those that there are.

    Raises:
        ServerOptionError: an option has another form, or names a model, a setting or a value that there
            isn't.
    """
    found: dict[str, dict[str, str]] = {}
    for option in options:
        model = max((one for one in models if option.startswith(f"{one}.")), key=len, default="")
        if not model:
            if len(models) == 1 and _starts_with_a_setting(option):
                example = f"{models[0]}.{option}"
                raise _refusal(option, "MODEL.KEY=VALUE", "no model", f"write it like --set {example}")
            raise _unknown(option, "a model", option.partition(".")[0], models, models)
        found.setdefault(model, {}).update(parse_own_settings([option], model))
    return found


def parse_own_settings(options: Sequence[str], model: str = "") -> dict[str, str]:
    """Return values by key of options such as `kindaware.precision=bf16-true`.

    Args:
        options: `KEY=VALUE` each.
        model: whose name and a dot stand before each key.

    Raises:
        ServerOptionError: an option has another form, or names a setting or a value that does not exist.
    """
    found = {}
    for option in options:
        key, equals, value = option.removeprefix(f"{model}." if model else "").partition("=")
        if not equals:
            example = f"{model}.kindaware.precision=bf16-true".removeprefix(".")
            raise _refusal(option, "KEY=VALUE", "no =", f"write it like {example}")
        _check(option, key, value)
        found[key] = value
    return found


def _starts_with_a_setting(option: str) -> bool:
    key = option.partition("=")[0]
    return key in FIELDS or key.startswith((PREFIX, PARAMETERS))


def _check(option: str, key: str, value: str) -> None:
    known = [*FIELDS, *(PREFIX + name for name in SETTING_NAMES)]
    if key.startswith(PARAMETERS) and key != PARAMETERS:
        return
    if key not in known:
        raise _unknown(option, "a setting", key, [*FIELDS, f"{PREFIX}NAME", f"{PARAMETERS}NAME"], known)
    if key in FIELDS and not FIELDS[key].fullmatch(value):
        allowed = "a whole number" if FIELDS[key] is _NUMBER else f"a value like {FIELDS[key].pattern}"
        raise _refusal(option, allowed, repr(value), "correct the value")


def _unknown(
    option: str, what: str, got: str, shown: Sequence[str], known: Sequence[str]
) -> ServerOptionError:
    last = {name.rpartition(".")[2]: name for name in known}
    near = difflib.get_close_matches(got, known, n=1, cutoff=0.6)
    near = near or [last[one] for one in difflib.get_close_matches(got.rpartition(".")[2], last, n=1)]
    remedy = f"did you mean {near[0]}?" if near else "correct the name"
    return _refusal(option, f"{what}, one of {', '.join(shown)}", repr(got), remedy)


def _refusal(option: str, expected: str, got: str, remedy: str) -> ServerOptionError:
    return ServerOptionError.of(f"--set {option}", expected=expected, got=got, remedy=remedy)
