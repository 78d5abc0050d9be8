"""Ask EfficientNet-Lite0 on a Triton server what a picture shows; `--help` lists the options."""

import sys
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the folder of imagenet_client.py
from imagenet_client import Example, Preparation, main

HERE = Path(__file__).resolve().parent

EXAMPLE = Example(
    title="EfficientNet-Lite0",
    model_name="efficientnet_lite0",
    default_labels=[HERE.parent / "resnet50" / "resnet50_labels.txt"],  # both know the same 1000 classes
    # The Lite models were trained on (pixel - 127) / 128, not on ImageNet's mean and deviation.
    preparation=Preparation(
        resize=256,
        crop=224,
        resample=Image.Resampling.BICUBIC,
        mean=(127 / 255,) * 3,
        std=(128 / 255,) * 3,
    ),
)

if __name__ == "__main__":
    sys.exit(main(EXAMPLE))
