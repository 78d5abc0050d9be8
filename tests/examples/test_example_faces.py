"""The example of face detection, without a server."""

import io

import numpy as np
import pytest
from PIL import Image

from kindaware.testing import ModelHarness


def to_jpeg(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95)
    return file.getvalue()


@pytest.fixture(scope="module")
def astronaut():
    data = pytest.importorskip("skimage.data")
    return data.astronaut()[::2, ::2]


@pytest.fixture(scope="module")
def pictures(astronaut, cat):
    """JPEG files with two faces, one, none, one and none, of three sizes."""
    pair = np.concatenate([astronaut, astronaut[:, ::-1]], axis=1)
    return [
        to_jpeg(one)
        for one in (pair, astronaut, np.asarray(cat)[::2, ::2], astronaut[:, ::-1], 0 * astronaut)
    ]


@pytest.fixture(scope="module")
def model(examples):
    with ModelHarness(examples / "face_detection/models/mtcnn", raise_errors=False) as harness:
        yield harness


def test_each_picture_of_a_batch_gets_its_own_number_of_faces(model, pictures):
    answers = [one.outputs for one in model.infer_batch([{"JPEG": [[one]]} for one in pictures])]
    assert [one["BOXES"].shape for one in answers] == [(1, n, 4) for n in (2, 1, 0, 1, 0)]
    assert [one["SCORES"].shape for one in answers] == [(1, n) for n in (2, 1, 0, 1, 0)]
    assert [one["LANDMARKS"].shape for one in answers] == [(1, n, 5, 2) for n in (2, 1, 0, 1, 0)]
    for picture, answer in zip(pictures, answers, strict=True):
        alone = model.infer(JPEG=[[picture]]).outputs
        for name in alone:
            np.testing.assert_allclose(answer[name], alone[name], atol=1e-3)


def test_face_is_where_the_astronauts_is(model, pictures):
    found = model.infer(JPEG=[[pictures[1]]]).outputs
    (left, top, right, bottom), (score,) = found["BOXES"][0, 0], found["SCORES"][0]
    assert (score > 0.99, 80 < left < 100, 20 < top < 40, 125 < right < 145, 75 < bottom < 95) == (True,) * 5
    points = found["LANDMARKS"][0, 0]
    assert ((points > (left, top)) & (points < (right, bottom))).all()


def test_pictures_of_one_size_share_a_forward(model, pictures, monkeypatch):
    batches, detect = [], model.instance.model.detect

    def counted(batch, **options):
        batches.append(len(batch))
        return detect(batch, **options)

    monkeypatch.setattr(model.instance.model, "detect", counted)
    model.infer_batch([{"JPEG": [[one]]} for one in pictures])
    assert sorted(batches) == [1, 1, 3]


@pytest.mark.parametrize("size", [(19, 40), (4000, 20)])
def test_picture_of_no_use_is_refused_and_the_others_are_answered(model, pictures, size):
    bad = [to_jpeg(np.zeros((*size, 3), np.uint8)), b"no picture", pictures[1][:5000]]
    *refused, good = model.infer_batch([{"JPEG": [[one]]} for one in (*bad, pictures[1])])
    assert good.outputs["BOXES"].shape == (1, 1, 4)
    assert {one.error.code().name for one in refused} == {"INVALID_ARG"}
    texts = [one.error.message().split("got ")[1] for one in refused]
    assert texts == [f"{size[1]} x {size[0]} pixels", "something else", texts[2]]
    assert "truncated" in texts[2]


def test_smallest_picture_is_searched(model):
    assert model.infer(JPEG=[[to_jpeg(np.zeros((20, 20, 3), np.uint8))]]).outputs["SCORES"].shape == (1, 0)
