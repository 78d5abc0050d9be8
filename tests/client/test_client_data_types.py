"""Inputs as arrays of the model's data types, without a server."""

import numpy as np
import pytest
import torch

from kindaware._tensors.dtypes import DTYPES
from kindaware.client._metadata import Metadata, Tensor


def prepared(datatype, value):
    metadata = Metadata("m", (Tensor("X", datatype, (2,)),), (), batches=True, decoupled=False)
    arrays, _ = metadata.prepare({"X": value})
    return arrays["X"]


@pytest.mark.parametrize("dtype", [one for one in DTYPES.values() if one.torch is not None], ids=str)
def test_prepare_takes_tensors_and_lists_of_every_data_type(dtype):
    wanted = np.float32 if dtype.numpy is None else dtype.numpy
    for value in (torch.tensor([[0, 1]]).to(dtype.torch), [[False, True]], np.array([[0, 1]], wanted)):
        array = prepared(dtype.triton, value)
        assert array.dtype == wanted
        assert array.tolist() == [[0, 1]]
