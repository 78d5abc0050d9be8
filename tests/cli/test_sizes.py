import pytest

from kindaware.cli._sizes import fill_dims


@pytest.mark.parametrize(
    ("dims", "datatype", "sizes"),
    [
        ([4], "FP32", (4,)),
        ([-1], "INT64", (8,)),
        ([-1, 16], "FP32", (8, 16)),
        ([3, -1, -1], "FP32", (3, 224, 224)),
        ([-1, 300, 3], "UINT8", (224, 300, 3)),
        ([-1, 5, -1], "FP32", (8, 5, 8)),
        ([-1], "BYTES", (1,)),
        ([], "FP32", ()),
    ],
)
def test_open_dimensions_get_sizes_that_models_of_the_kind_take(dims, datatype, sizes):
    assert fill_dims(dims, datatype) == sizes
