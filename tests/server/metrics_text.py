"""The library's metrics on a server's /metrics."""

import re
import urllib.request


def read(server, model="counted"):
    """The library's metrics of a model, by name and further label."""
    with urllib.request.urlopen(f"http://{server.metrics_url}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found = {}
    for name, inner, value in re.findall(r"^(kindaware_\w+)\{(.*)\} (\S+)$", text, re.MULTILINE):
        labels = dict(part.split("=") for part in inner.replace('"', "").split(","))
        if labels.pop("model") == model:
            assert labels.pop("instance").startswith(f"{model}_")
            assert (labels.pop("version"), labels.pop("device")) == ("1", "cpu")
            found[(name, *labels.values())] = float(value)
    return found
