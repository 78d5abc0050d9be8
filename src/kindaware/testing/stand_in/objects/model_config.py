"""`pb_utils.ModelConfig`, the argument of `auto_complete_config`."""

from __future__ import annotations

import json
from typing import Any

_INPUT_KEYS = ("name", "data_type", "dims", "optional")
_OUTPUT_KEYS = ("name", "data_type", "dims")


class ModelConfig:
    """A model's configuration, to be completed.

    Args:
        model_config: the configuration as JSON.
    """

    def __init__(self, model_config: str) -> None:
        self._model_config: dict[str, Any] = json.loads(model_config)

    def as_dict(self) -> dict[str, Any]:
        """Return the configuration itself, not a copy."""
        return self._model_config

    def set_max_batch_size(self, max_batch_size: int) -> None:
        """Raise the maximum batch size.

        Raises:
            ValueError: it is larger already.
        """
        current = self._model_config["max_batch_size"]
        if current > max_batch_size:
            raise ValueError(
                f"configuration specified max_batch_size {current}, but in auto-complete-config function for "
                f"model '{self._name}' specified max_batch_size {max_batch_size}"
            )
        self._model_config["max_batch_size"] = max_batch_size

    def set_dynamic_batching(self) -> None:
        """Turn dynamic batching on.

        Raises:
            ValueError: another scheduler is configured.
        """
        for choice in ("sequence_batching", "ensemble_scheduling"):
            if choice in self._model_config:
                raise ValueError(
                    f"Configuration specified scheduling_choice as '{choice}', but auto-complete-config "
                    f"function for model '{self._name}' tries to set scheduling_choice as 'dynamic_batching'"
                )
        self._model_config.setdefault("dynamic_batching", {})

    def add_input(self, input: dict[str, Any]) -> None:
        """Declare an input, or complete the declared one.

        Raises:
            ValueError: bad keys, or a contradiction to what is declared.
        """
        self._add("input", input, _INPUT_KEYS)

    def add_output(self, output: dict[str, Any]) -> None:
        """Declare an output, or complete the declared one.

        Raises:
            ValueError: bad keys, or a contradiction to what is declared.
        """
        self._add("output", output, _OUTPUT_KEYS)

    def set_model_transaction_policy(self, transaction_policy_dict: dict[str, Any]) -> None:
        """Make the model decoupled, or not.

        Raises:
            ValueError: a key other than `decoupled`, or a contradiction to what is configured.
        """
        if any(key != "decoupled" for key in transaction_policy_dict.keys()):  # noqa: SIM118 - dicts only
            raise ValueError(
                "model transaction property in auto-complete-config function for model "
                f"'{self._name}' contains property other than 'decoupled'."
            )
        policy = self._model_config.setdefault("model_transaction_policy", {})
        for key, value in transaction_policy_dict.items():
            if policy.setdefault(key, value) != value:
                raise ValueError(
                    f"trying to change decoupled property in auto-complete-config for model '{self._name}', "
                    f"which is already set to '{policy[key]}'."
                )

    @property
    def _name(self) -> Any:
        return self._model_config["name"]

    def _add(self, kind: str, given: dict[str, Any], keys: tuple[str, ...]) -> None:
        """Add a tensor's declaration: the caller's own dict if it is new."""
        self._check_keys(kind, given, keys)
        declared = next((one for one in self._model_config[kind] if one["name"] == given["name"]), None)
        if declared is None:
            self._model_config[kind].append(given)
            return
        self._check_agrees(kind, declared, given)
        declared.update(given)

    def _check_keys(self, kind: str, given: dict[str, Any], keys: tuple[str, ...]) -> None:
        where = f"in auto-complete-config function for model '{self._name}'"
        if any(key not in keys for key in given):
            *most, last = (f"'{key}'" for key in keys)
            allowed = f"{', '.join(most)} and {last}"
            raise ValueError(f"{kind} '{given['name']}' {where} contains property other than {allowed}.")
        if "name" not in given:
            raise ValueError(f"{kind} {where} is missing 'name' property.")
        for key in ("data_type", "dims"):
            if key not in given:
                raise ValueError(f"{kind} '{given['name']}' {where} is missing '{key}' property.")

    def _check_agrees(self, kind: str, declared: dict[str, Any], given: dict[str, Any]) -> None:
        name, datatype = given["name"], declared["data_type"]
        if datatype not in ("TYPE_INVALID", given["data_type"]):
            raise ValueError(
                f"unable to load model '{self._name}', configuration expects datatype {datatype} for {kind} "
                f"'{name}', model provides {given['data_type']}"
            )
        if declared["dims"] and declared["dims"] != given["dims"]:
            self._contradict(name, "dims", declared, given)
        if "optional" in declared and "optional" in given and declared["optional"] != given["optional"]:
            self._contradict(name, "optional", declared, given)

    def _contradict(self, name: str, key: str, declared: dict[str, Any], given: dict[str, Any]) -> None:
        raise ValueError(
            f"model '{self._name}', tensor '{name}': the model expects {key} {given[key]} but the model "
            f"configuration specifies {key} {declared[key]}"
        )
