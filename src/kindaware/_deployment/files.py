"""Objects as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kindaware._errors import ConfigError


def write_texts(files: Mapping[str, Any], command: str) -> dict[str, str]:
    """Return the text of each file: a text as it is, anything else as YAML.

    Args:
        files: contents, by path.
        command: that makes them, for the first line.

    Raises:
        ConfigError: the package that writes YAML is missing.
    """
    return {
        name: content if isinstance(content, str) else write_yaml(content, command)
        for name, content in files.items()
    }


def write_yaml(content: Any, command: str) -> str:
    """Return an object as YAML, in the order of its fields.

    Raises:
        ConfigError: the package that writes YAML is missing.
    """
    try:
        import yaml
    except ImportError:
        raise ConfigError.of(
            "kindaware deploy",
            expected="the package PyYAML",
            got="no such package",
            remedy="install the extra cli, or pyyaml",
        ) from None

    class Dumper(yaml.SafeDumper):  # type: ignore[misc]  # it has no types
        """Writes equal parts out instead of referring to the first of them, and indents lists."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

        def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
            super().increase_indent(flow, False)

    text = yaml.dump(content, Dumper=Dumper, sort_keys=False, width=1000, allow_unicode=True)
    return f"# Written by `{command}`; run it again instead of editing this.\n{text}"
