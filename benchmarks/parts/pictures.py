"""Real pictures: those that scikit-image brings along, and crops of them."""

from __future__ import annotations

from itertools import product

import numpy as np
import torch

PICTURES = (
    *("astronaut", "chelsea", "coffee", "rocket"),
    *("camera", "coins", "immunohistochemistry", "hubble_deep_field"),
)
SIDE = 224
SCALES = (1.0, 0.8, 0.65, 0.5)
PLACES = (0.0, 0.5, 1.0)
MEAN, STD = 127 / 255, 128 / 255
"""Of the training of EfficientNet-Lite."""


def make_crops() -> list[torch.Tensor]:
    """Cut squares out of every picture, at several sizes and places, as EfficientNet-Lite0 wants them.

    Returns:
        FP32 tensors [1, 3, 224, 224], each different from the others.
    """
    from PIL import Image
    from skimage import data

    crops = []
    for name in PICTURES:
        picture = Image.fromarray(getattr(data, name)()).convert("RGB")
        for box in _boxes(*picture.size):
            square = picture.crop(box).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            pixels = (np.asarray(square, np.float32) / 255 - np.float32(MEAN)) / np.float32(STD)
            crops.append(torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])))
    return crops


def _boxes(width: int, height: int) -> list[tuple[int, int, int, int]]:
    """Squares in a picture: each scale of its short side at each of three by three places."""
    boxes = set()
    for scale, across, down in product(SCALES, PLACES, PLACES):
        side = int(min(width, height) * scale)
        left, top = int((width - side) * across), int((height - side) * down)
        boxes.add((left, top, left + side, top + side))
    return sorted(boxes)
