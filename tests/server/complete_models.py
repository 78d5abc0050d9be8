"""A server of models whose configurations say all, without a process per model that would complete them."""

from kindaware.testing import TritonServer


def serve_complete(*repositories, args=(), **options):
    """Return a server for models that auto_complete_config would not change.

    The process that completes a configuration imports torch and model.py, as each instance does.
    """
    return TritonServer(repositories, args=["--disable-auto-complete-config", *args], **options)
