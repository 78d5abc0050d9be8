"""Tensor: construction, data types, aliasing, contiguity, BYTES, BF16."""

import numpy as np
from behaviour import Behaviour, says
from differential_kit import WireTensor, ask, x
from differential_models import DATATYPES

STRINGS = np.array([b"a", b"", b"\xff\x00", "€".encode()], dtype=object)


def of_every_datatype():
    """A request per data type, with four elements whose bytes differ."""
    for name in DATATYPES:
        if name == "STRING":
            yield ask(inputs={"IN_STRING": STRINGS})
        elif name == "BF16":
            yield ask(inputs={"IN_BF16": WireTensor("", "BF16", (4,), bytes(range(8)))})
        elif name == "BOOL":
            yield ask(inputs={"IN_BOOL": np.array([True, False, False, True])})
        else:
            dtype = np.dtype(name.lower().replace("fp", "float"))
            data = bytes((7 * index) % 100 + 1 for index in range(4 * dtype.itemsize))
            yield ask(inputs={"IN_" + name: np.frombuffer(data, dtype)})


TENSORS = {
    "tensor_arguments": says("""
        Tensor("x", np.zeros(2))
        Tensor("", np.zeros(2))
        Tensor("", None)
        Tensor(b"bytes", np.zeros(2)).name()
        Tensor(1, np.zeros(2))
        Tensor(None, np.zeros(2))
        Tensor("x", [1, 2])
        Tensor("x", None)
        Tensor("x", 1.0)
        Tensor("x", np.float32(1))
        Tensor("x", memoryview(b"ab"))
        Tensor(name="x", array=np.zeros(2))
        Tensor("x")
        Tensor()
        Tensor("é", np.zeros(1)).name()
    """),
    "tensor_dtypes_refused": says("""
        Tensor("x", np.zeros(2, np.complex64))
        Tensor("x", np.zeros(2, "<U4"))
        Tensor("x", np.zeros(2, "datetime64[s]"))
        Tensor("x", np.zeros(2, "V4"))
        Tensor("x", np.zeros(2, [("a", "i4")]))
        Tensor("x", np.zeros(2, np.longdouble))
        Tensor("x", np.zeros(2, ">f4"))
        Tensor("x", np.zeros(2, ">i8"))
    """),
    "tensor_dtypes_taken": says(
        """
        [(t, Tensor("x", np.ones(2, t)).as_numpy().dtype.str) for t in "?bBhHiIlLqQefdO"]
        Tensor("x", np.array([b"a", b"bc"])).as_numpy()
        Tensor("x", np.zeros(2, "<f4")).as_numpy()
        """
    ),
    "tensor_shapes": says("""
        Tensor("x", np.zeros(())).shape()
        Tensor("x", np.zeros((2, 0, 3))).shape()
        Tensor("x", np.zeros((1, 2, 3, 4, 5))).shape()
        Tensor("x", np.arange(2.0).view(type("Sub", (np.ndarray,), {}))).shape()
        type(Tensor("x", np.zeros(3)).shape()).__name__
        Tensor("x", np.zeros(3)).shape().append(1)
    """),
    "tensor_aliases_contiguous_array": says(
        """
        t.as_numpy() is a
        t.as_numpy() is t.as_numpy()
        f.as_numpy() is f.as_numpy()
        f.as_numpy() is column
        f.as_numpy()
        r.as_numpy().flags.writeable
        """,
        setup="""
        a = np.arange(4.0)
        t = pb_utils.Tensor("x", a)
        column = np.arange(6.0).reshape(2, 3).T
        f = pb_utils.Tensor("f", column)
        frozen = np.arange(3.0)
        frozen.flags.writeable = False
        r = pb_utils.Tensor("r", frozen)
        """,
        names="a=a, t=t, f=f, column=column, r=r",
    ),
    "tensor_edited_after_construction_is_sent_edited": Behaviour("""
        a = np.zeros(3, np.float32)
        t = pb_utils.Tensor("Y", a)
        a[1] = 5
        return [pb_utils.InferenceResponse([t])]
    """),
    "tensor_of_strided_array_is_a_snapshot": Behaviour("""
        a = np.zeros((3, 2), np.float32)
        t = pb_utils.Tensor("Y", a[:, 0])
        a[1] = 5
        return [pb_utils.InferenceResponse([t])]
    """),
    "bytes_tensor_is_a_snapshot": Behaviour("""
        a = np.array([b"old", b"x"], dtype=object)
        t = pb_utils.Tensor("Y", a)
        a[0] = b"new"
        return [pb_utils.InferenceResponse([t])]
    """),
    "tensor_sent_twice_repeats_its_first_data": Behaviour(
        """
        if not self.kept:
            a = np.zeros(3, np.float32)
            self.kept += [a, pb_utils.Tensor("Y", a)]
        else:
            self.kept[0][:] = 7
        sent = self.kept[1]
        if len(self.kept) > 2:
            self.kept.clear()
        else:
            self.kept.append(1)
        return [pb_utils.InferenceResponse([sent])]
        """,
        (x(), x()),
    ),
    "bytes_elements_of_all_kinds": Behaviour("""
        a = np.array(["a", "€", b"\\xff", 1, None, 1.5, True, ""], dtype=object)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("Y", a)])]
    """),
    "bytes_fixed_width": Behaviour("""
        a = np.array([[b"abc", b"d\\x00"], [b"", b"\\x00e"]])
        return [pb_utils.InferenceResponse([pb_utils.Tensor("Y", a)])]
    """),
    "bytes_without_elements": Behaviour("""
        return [pb_utils.InferenceResponse([pb_utils.Tensor("Y", np.zeros((2, 0), object))])]
    """),
    "bytes_input_elements": Behaviour(
        """
        array = get(request, "IN_STRING")
        return [report([type(one).__name__ for one in array.ravel()], array, array.shape)]
        """,
        (ask(inputs={"IN_STRING": STRINGS}), ask(inputs={"IN_STRING": STRINGS[:0]})),
    ),
    "every_datatype_comes_back": Behaviour(
        """
        t = request.inputs()[0]
        found = [t.name(), t.shape(), t.is_cpu(), attempt(t.as_numpy), attempt(t.__dlpack_device__)]
        if t.name() == "IN_STRING":
            y = pb_utils.Tensor("Y", t.as_numpy())
        else:
            y = pb_utils.Tensor.from_dlpack("Y", t)
        told = report(*found).output_tensors()
        return [pb_utils.InferenceResponse([y, *told])]
        """,
        tuple(of_every_datatype()),
    ),
    "every_datatype_through_numpy": Behaviour(
        """
        t = request.inputs()[0]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("Y", t.as_numpy()[::-1])])]
        """,
        tuple(of_every_datatype()),
    ),
    "outputs_without_elements_or_dimensions": Behaviour("""
        y = pb_utils.Tensor("Y", np.float64(3.5).reshape(()))
        z = pb_utils.Tensor("Z", np.zeros((0, 4), np.int16))
        return [pb_utils.InferenceResponse([y, z])]
    """),
    "input_array_is_one_writeable_copy": says(
        """
        t.as_numpy() is t.as_numpy()
        t.as_numpy().flags.writeable, t.as_numpy().flags.owndata, t.as_numpy().base is None
        request.inputs()[0] is request.inputs()[0]
        request.inputs() is request.inputs()
        get(request) is t.as_numpy()
        """,
        setup="t = request.inputs()[0]",
        names="t=t",
    ),
    "input_edited_through_numpy_is_sent_unedited": Behaviour("""
        t = request.inputs()[0]
        t.as_numpy()[:] = 9
        again = pb_utils.Tensor.from_dlpack("Y", t)
        return [pb_utils.InferenceResponse([again, pb_utils.Tensor("Z", t.as_numpy())])]
    """),
    "input_kept_after_its_request": Behaviour(
        """
        self.kept.append(request.inputs()[0])
        if len(self.kept) < 2:
            return [answer([0])]
        first, second = self.kept
        self.kept.clear()
        return [pb_utils.InferenceResponse([pb_utils.Tensor("Y", first.as_numpy() + second.as_numpy())])]
        """,
        (x(1, 2), x(10, 20)),
    ),
    "tensor_traits": says(
        """
        t.triton_dtype()
        setattr(t, "new_attribute", 1)
        __import__("copy").copy(t)
        __import__("pickle").dumps(t)
        t == t, t == pb_utils.Tensor("x", t.as_numpy()), bool(t)
        hash(t) == hash(t)
        __import__("weakref").ref(t)() is t
        type("Sub", (Tensor,), {})("x", np.zeros(1)).shape()
        type("Sub", (Tensor,), {"__init__": lambda self: None})()
        """,
        setup='t = pb_utils.Tensor("x", np.zeros(1))',
        names="t=t",
    ),
}
