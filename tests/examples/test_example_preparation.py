"""The clients prepare pictures with pillow and numpy as torchvision's transforms do."""

import io

import numpy as np
import pytest
from PIL import Image
from torchvision.models import ResNet50_Weights
from torchvision.transforms import InterpolationMode, v2

SIZES = [
    (451, 300),
    (300, 451),
    (224, 224),
    (232, 232),
    (640, 480),
    (333, 500),
    (50, 37),
    (1, 1),
    (225, 1001),
]


def random_picture(size, seed=0):
    width, height = size
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def encode(picture, suffix, **options):
    file = io.BytesIO()
    picture.save(file, suffix, **options)
    return file.getvalue()


@pytest.fixture
def client():
    import imagenet_client

    return imagenet_client


@pytest.mark.parametrize("size", SIZES)
def test_prepare_for_resnet50_equals_the_transforms_of_its_weights(client, resnet50, size):
    picture = random_picture(size)
    expected = ResNet50_Weights.IMAGENET1K_V2.transforms()(picture).numpy()[None]
    prepared = client.prepare(picture, resnet50.preparation)
    assert prepared.shape == (1, 3, 224, 224)
    assert prepared.dtype == np.float32
    assert prepared.tobytes() == expected.tobytes()


def test_prepare_for_resnet50_of_the_cat_equals_the_transforms_of_its_weights(client, resnet50, cat):
    expected = ResNet50_Weights.IMAGENET1K_V2.transforms()(cat).numpy()[None]
    assert client.prepare(cat, resnet50.preparation).tobytes() == expected.tobytes()


def test_prepare_for_efficientnet_equals_torchvisions_steps(client, efficientnet, cat):
    steps = [v2.Resize(256, interpolation=InterpolationMode.BICUBIC), v2.CenterCrop(224), v2.PILToTensor()]
    pixels = v2.Compose(steps)(cat).numpy()[None].astype(np.float32)
    expected = (pixels - 127) / 128  # the form in which the Lite models' training code has it
    assert np.abs(client.prepare(cat, efficientnet.preparation) - expected).max() < 1e-6


def test_prepare_thin_strip_is_refused_before_it_grows(client, resnet50):
    # Resized, this strip would have 232 x 4,640,000 pixels: 3 GB.
    with pytest.raises(
        client.ClientError, match=r"picture of 20000 x 1 pixels: expected .* at most 100 .*; cut"
    ):
        client.prepare(Image.new("RGB", (20000, 1)), resnet50.preparation)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "L", "P", "1", "CMYK", "I;16"])
def test_decode_picture_of_another_mode_becomes_rgb(client, mode):
    if mode == "I;16":
        grey = Image.fromarray(np.full((8, 8), 0x80FF, dtype=np.uint16))
    else:
        grey = Image.new("L", (8, 8), 128).convert("RGB" if mode == "CMYK" else "L").convert(mode)
    decoded = client.decode_picture(encode(grey, "TIFF" if mode == "CMYK" else "PNG"), "grey")
    assert decoded.mode == "RGB"
    if mode != "1":
        assert decoded.getpixel((4, 4)) == (128, 128, 128)


def test_decode_picture_with_transparent_parts_shows_them_white(client):
    picture = Image.new("RGBA", (2, 1), (10, 20, 30, 0))
    picture.putpixel((1, 0), (10, 20, 30, 255))
    decoded = client.decode_picture(encode(picture, "PNG"), "transparent")
    assert decoded.getpixel((0, 0)) == (255, 255, 255)
    assert decoded.getpixel((1, 0)) == (10, 20, 30)


def test_decode_picture_turned_by_exif_is_upright(client):
    picture = Image.new("RGB", (64, 32), "black")
    picture.paste("white", (0, 0, 32, 32))  # white on the left; turned a quarter clockwise: on top
    exif = Image.Exif()
    exif[0x0112] = 6
    decoded = client.decode_picture(encode(picture, "JPEG", exif=exif, quality=95), "turned")
    assert decoded.size == (32, 64)
    assert decoded.getpixel((16, 8))[0] > 200
    assert decoded.getpixel((16, 56))[0] < 50


def test_best_orders_by_probability(client):
    scores = np.zeros(1000, np.float32)
    scores[[7, 3]] = [1000, 999]  # would overflow exp() if taken as they are
    (first, first_probability), (second, second_probability) = client.best(scores, 2)
    assert (first, second) == (7, 3)
    assert first_probability == pytest.approx(1 / (1 + np.exp(-1)), rel=1e-6)
    assert first_probability + second_probability == pytest.approx(1, rel=1e-6)
