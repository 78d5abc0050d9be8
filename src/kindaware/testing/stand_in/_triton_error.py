"""`pb_utils.TritonError` and `pb_utils.TritonModelException`."""


class TritonError:
    """An error to answer one request with."""


class TritonModelException(Exception):  # noqa: N818 - the server's name
    """What the Python backend raises."""


TritonModelException.__module__ = "c_python_backend_utils"
