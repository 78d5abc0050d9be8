"""Which server the tests run on: that of the wheel, 2.51, or the one that KINDAWARE_TRITONSERVER names."""

import tempfile
from functools import cache

OTHER_SERVER = "KINDAWARE_TRITONSERVER"
WHEEL_VERSION = "2.51.0"


@cache
def is_other_server() -> bool:
    """Whether it is of another version or layout than the wheel's; starts it without a model, to ask."""
    from kindaware._server.location import locate_server
    from kindaware._server.server import TritonServer

    if not locate_server().is_wheel:
        return True
    with tempfile.TemporaryDirectory() as empty, TritonServer(empty, models=[]) as server:
        return server.server_version != WHEEL_VERSION
