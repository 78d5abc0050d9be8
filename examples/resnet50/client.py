"""Ask ResNet50 on a Triton server what a picture shows; `--help` lists the options."""

import sys
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the folder of imagenet_client.py
from imagenet_client import Example, Preparation, main

HERE = Path(__file__).resolve().parent

EXAMPLE = Example(
    title="ResNet50",
    model_name="resnet50",
    default_labels=[Path("./resnet50_labels.txt"), HERE / "resnet50_labels.txt"],
    # What the weights IMAGENET1K_V2 were made for. A test compares it with torchvision's own transforms.
    preparation=Preparation(
        resize=232,
        crop=224,
        resample=Image.Resampling.BILINEAR,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    ),
)

if __name__ == "__main__":
    sys.exit(main(EXAMPLE))
