"""A batch cut into pieces, each of which is copied while the next is joined."""

import pytest
import torch

from kindaware._tensors.rows import concat_into, pieces


def cut(tensors, num_bytes):
    """The shapes of each piece's tensors, when all were put where they belong."""
    whole = torch.cat(tensors) if tensors[0].ndim else tensors[0]
    target = torch.full(whole.shape, -1.0)
    shapes = []
    for chunks, (place,) in pieces(tensors, [target], num_bytes):
        concat_into(chunks, place)
        shapes.append([list(chunk.shape) for chunk in chunks])
    assert torch.equal(target, whole)
    return shapes


def rows(num_rows, width=2, first=0):
    return torch.arange(first, first + num_rows * width, dtype=torch.float32).view(num_rows, width)


@pytest.mark.parametrize("num_bytes", [16, 17])
def test_pieces_batch_of_no_more_bytes_is_one_piece(num_bytes):
    assert cut([rows(1), rows(1, first=2)], num_bytes) == [[[1, 2], [1, 2]]]


@pytest.mark.parametrize("shape", [(), (3, 0)])
def test_pieces_batch_that_has_no_rows_to_cut_at_is_one_piece(shape):
    assert cut([torch.ones(shape)], 4) == [[list(shape)]]


@pytest.mark.parametrize("num_bytes", [16, 23])
def test_pieces_are_cut_at_rows_where_rows_fit(num_bytes):
    """A row has 8 bytes, so that two go into a piece, of one request or of several."""
    assert cut([rows(5)], num_bytes) == [[[2, 2]], [[2, 2]], [[1, 2]]]
    assert cut([rows(1), rows(1, first=2), rows(1, first=4)], num_bytes) == [[[1, 2], [1, 2]], [[1, 2]]]


def test_pieces_of_one_row_each_keep_its_shape():
    assert cut([rows(2)], 8) == [[[1, 2]], [[1, 2]]]


def test_pieces_are_cut_within_rows_that_do_not_fit():
    assert cut([rows(1, width=10)], 16) == [[[4]], [[4]], [[2]]]


def test_pieces_of_rows_that_do_not_fit_and_have_strides_are_the_rows():
    assert cut([rows(10).T], 16) == [[[1, 10]], [[1, 10]]]
