"""`c_python_backend_utils.SharedMemory`, which only the server's own tests use."""

from __future__ import annotations

from kindaware.testing.stand_in.pybind.pybind import method, named_as_server, no_constructor, pybind11_object


@named_as_server
class SharedMemory(pybind11_object):
    """The memory that the server and the model share."""

    __slots__ = ()
    __init__ = no_constructor

    @method(returns="int")
    def free_memory(self) -> int:
        """Return the number of free bytes; here always that of a server without requests, 1 MiB."""
        return 1 << 20
