"""The two that `--compare` measures."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from kindaware._errors import ConfigError, OptionError
from kindaware._server.config_changes import parse_own_settings
from kindaware._server.model_folder import is_model
from kindaware.cli.bench._session import Measurement
from kindaware.cli.bench._subject import Place, find_place, is_address


@dataclass(frozen=True)
class Candidate:
    """One of the two.

    Attributes:
        text: how the user has called it.
        place: where its model is.
        settings: changes to its configuration.
    """

    text: str
    place: Place
    settings: Mapping[str, str]


def find_candidates(measurement: Measurement, what: str) -> tuple[Candidate, Candidate]:
    """Return what `URL|MODEL_DIR` names, and what `--compare` does.

    Args:
        measurement: the options of A, which B has too.
        what: `KEY=VALUE ...` for the same model with other settings, a directory, an address, or the name of
            another model of the same server or repository.

    Raises:
        ConfigError: it is none of these, or it has settings for a server that runs already.
    """
    place = find_place(measurement.where, measurement.model)
    first = Candidate(_describe(place, measurement.settings), place, measurement.settings)
    if "=" in what:
        if place.repository is None:
            raise OptionError.of(
                f"--compare {what}",
                expected="the directory of the model, since settings need a server of their own",
                got=f"a server that runs, {place.url}",
                remedy="pass MODEL_DIR, or compare with another model of the server",
            )
        return first, Candidate(
            what, place, {**measurement.settings, **parse_own_settings(_split_words(what))}
        )
    if Path(what).is_dir() or is_address(what):
        other = find_place(what, measurement.model if is_address(what) else "")
    else:
        if place.repository is not None and not is_model(place.repository / what):
            raise ConfigError.of(
                f"--compare {what}",
                expected="KEY=VALUE, a MODEL_DIR, a URL, or the name of another model",
                got=f"a name that no model in {place.repository} has",
                remedy="write it like --compare kindaware.num_threads=1, or correct the name",
            )
        other = replace(place, model=what)
    return first, Candidate(what, other, measurement.settings if other.repository else {})


def _split_words(what: str) -> list[str]:
    """Return the words of a text as a shell has them."""
    try:
        return shlex.split(what)
    except ValueError as error:
        raise OptionError.of(
            f"--compare {what}", expected="'KEY=VALUE ...'", got=str(error), remedy="close the quotation"
        ) from None


def _describe(place: Place, settings: Mapping[str, str]) -> str:
    name = place.model or (place.url or str(place.repository))
    return " ".join([name, *(f"{key}={value}" for key, value in settings.items())])
