"""What torchvision says about the pictures of its models, without their weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kindaware._authoring.from_callable.source import Source
from kindaware._errors import ConfigError


@dataclass(frozen=True)
class PictureModel:
    """The input of a model of torchvision.

    Attributes:
        shape: of one row, channels first; None where pictures may have any size.
        mean: of each channel, to be subtracted.
        std: of each channel, to divide by.
        categories: names of the classes; empty if the weights name none.
        why: where the size comes from.
    """

    shape: tuple[int, ...] | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    categories: Sequence[str]
    why: str


def find_picture_model(source: Source) -> PictureModel | None:
    """Return what torchvision knows about a model; None for a callable that is none of its models.

    Raises:
        ConfigError: it is a model that takes no batches of pictures.
    """
    if not source.module_name.startswith("torchvision.models") or not source.is_module:
        return None
    from torchvision.models import get_model_weights

    try:
        weights: Any = get_model_weights(source.name).DEFAULT
    except (ValueError, AttributeError):
        return None
    preset = weights.transforms()
    kind, crop = type(preset).__name__, getattr(preset, "crop_size", None)
    if kind in ("ImageClassification", "VideoClassification") and crop:
        frames = () if kind == "ImageClassification" else (max(16, weights.meta.get("min_temporal_size", 1)),)
        height, width = (crop * 2)[:2] if len(crop) == 1 else crop
        shape: tuple[int, ...] | None = (3, *frames, height, width)
    elif kind == "SemanticSegmentation":
        shape = None
    else:
        raise ConfigError.of(
            f"--from {source.text}",
            expected="a model that takes a batch of pictures",
            got=f"one for {kind}, which takes something else",
            remedy="write its forward by hand, from `kindaware new NAME`",
        )
    return PictureModel(
        shape=shape,
        mean=tuple(preset.mean),
        std=tuple(preset.std),
        categories=weights.meta.get("categories", ()) if kind == "ImageClassification" else (),
        why=f"the size that the weights {type(weights).__name__}.{weights.name} were trained with",
    )
