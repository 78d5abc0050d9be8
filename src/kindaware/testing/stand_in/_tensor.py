"""`pb_utils.Tensor`."""


class Tensor:
    """A named array."""
