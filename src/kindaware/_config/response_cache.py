"""`response_cache`, which keeps a refused request's error as a success without outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kindaware._errors import ConfigError


def has_response_cache(config: Mapping[str, Any]) -> bool:
    """Whether the configuration asks for Triton's response cache."""
    cache = config.get("response_cache")
    return isinstance(cache, Mapping) and cache.get("enable") is True


def check_response_cache(config: Mapping[str, Any], model_name: str, *, is_allowed: bool) -> None:
    """Refuse a model whose responses Triton would cache, unless its author has said that this is right.

    The first client of a request that fails gets the error, the next one of the same request status 200 and
    no outputs. Source: measured on tritonserver 2.51.0; server issue 4379.

    Raises:
        ConfigError: the configuration enables the cache, and it is not allowed.
    """
    if has_response_cache(config) and not is_allowed:
        raise ConfigError.of(
            f"model {model_name!r} response_cache",
            expected="none: Triton caches the error of a refused request as an answer without outputs, and "
            "the next client of that request gets a success",
            got="enable: true",
            remedy="remove response_cache, or set kindaware.allow_response_cache to 'true' for a model that "
            "refuses no request and answers only by the values of its inputs",
        )
