"""The dashboard and the rules of examples/observability, read for tests."""

import json
import re
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "examples/observability"
_VARIABLES = {"$__rate_interval": "1m", "$server": ".*", "$model": ".*"}


def read_dashboard():
    return json.loads((FOLDER / "dashboard.json").read_text())


def list_panels():
    """The panels that show something, and not the headings of rows."""
    return [one for one in read_dashboard()["panels"] if one["type"] != "row"]


def list_queries(interval="1m"):
    """(title, expression) of every query, as Grafana sends it."""
    found = []
    for panel in list_panels():
        for target in panel["targets"]:
            expression = target["expr"]
            for name, value in {**_VARIABLES, "$__rate_interval": interval}.items():
                expression = expression.replace(name, value)
            found.append((panel["title"], expression))
    return found


def metrics_of(expression):
    """The names of Triton's and of the library's metrics in an expression."""
    return set(re.findall(r"\b(?:nv|kindaware)_\w+", re.sub(r"\b\w+:\w+:\w+", "", expression)))
