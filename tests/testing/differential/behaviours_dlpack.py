"""DLPack, without torch."""

from behaviour import Behaviour, says

DLPACK = {
    "dlpack_copies_and_capsules": says(
        """
        type(t.to_dlpack()).__name__
        "dltensor" in repr(t.to_dlpack())
        t.__dlpack_device__()
        t.__dlpack__(stream=None) is None
        t.__dlpack__(max_version=(1, 0))
        back.as_numpy() is a
        back.as_numpy()
        (a.__setitem__(0, 9.0), back.as_numpy()[0])
        Tensor("s", np.array([b"x"])).to_dlpack()
        """,
        setup="""
        a = np.arange(4.0)
        t = pb_utils.Tensor("x", a)
        back = pb_utils.Tensor.from_dlpack("y", t)
        """,
        names="a=a, t=t, back=back",
    ),
    "dlpack_tensor_edited_at_its_source_is_sent_edited": Behaviour("""
        a = np.zeros(3, np.float32)
        t = pb_utils.Tensor.from_dlpack("Y", pb_utils.Tensor("x", a))
        t.as_numpy()[:] = 3
        a[2] = 4
        return [pb_utils.InferenceResponse([t])]
    """),
    "dlpack_refusals": says(
        """
        Tensor.from_dlpack("", t)
        Tensor.from_dlpack("x", None)
        Tensor.from_dlpack("x", [1])
        Tensor.from_dlpack("x", Device((9, 0)))
        Tensor.from_dlpack("x", Device("cpu"))
        Tensor.from_dlpack("x", Device((1, 0)))
        Tensor.from_dlpack(name="x", tensor=t)
        t.from_dlpack("x", t)
        Tensor.from_dlpack(1, t)
        """,
        setup="""
        t = pb_utils.Tensor("x", np.arange(4.0))
        class Device:
            def __init__(self, device):
                self.device = device
            def __dlpack_device__(self):
                return self.device
            def __dlpack__(self, stream=None):
                raise BufferError("not today")
        """,
        names="t=t, Device=Device",
    ),
    "dlpack_error_while_a_view_is_freed": Behaviour("""
        found = []
        for take in (lambda t: np.from_dlpack(t).reshape(7, 7), lambda t: int([t.to_dlpack()])):
            try:
                take(pb_utils.Tensor("x", np.arange(3.0)))
            except (ValueError, TypeError) as error:
                found.append(type(error).__name__)
        return [report(found)]
    """),
}
