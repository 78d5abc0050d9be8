"""`pb_utils.InferenceResponse`."""


class InferenceResponse:
    """The answer to one request."""
