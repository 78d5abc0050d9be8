import io
import warnings

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torchvision.models import ResNet50_Weights

from kindaware import KindAwareModel, RequestError


class TritonPythonModel(KindAwareModel):
    warmup = "off"  # there is no network here; that of efficientnet_lite0 is warmed up there

    def load(self):
        # Pillow finds out how large a picture is before it decodes it; too large is an error then.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        self.names = ResNet50_Weights.DEFAULT.meta["categories"]  # those of every ImageNet classifier

    def preprocess(self, inputs):
        return {"JPEG": torch.stack([to_tensor(decode(data)) for data in inputs["JPEG"][:, 0]])}

    def forward(self, JPEG):
        scores = self.call("efficientnet_lite0", INPUT=JPEG)["OUTPUT"]
        best = scores.softmax(dim=1).topk(5)
        return {
            "NAME": [[self.names[number] for number in row] for row in best.indices],
            "PROBABILITY": best.values,
        }


def decode(data):
    try:
        return ImageOps.exif_transpose(Image.open(io.BytesIO(data), formats=["JPEG"])).convert("RGB")
    except Exception as error:  # on damaged data, Pillow raises nearly anything
        got = "something else" if isinstance(error, UnidentifiedImageError) else error
        text = f"input 'JPEG': expected a whole picture in JPEG format, got {got}; send the file as it is"
        raise RequestError(text) from None


def to_tensor(picture):
    """Cut the middle out, resize it to 224 x 224, and scale as EfficientNet-Lite0 was trained."""
    side = min(picture.size) * 224 / 256
    left, top = (picture.width - side) / 2, (picture.height - side) / 2
    box = (left, top, left + side, top + side)
    picture = picture.resize((224, 224), Image.Resampling.BICUBIC, box)
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    return (pixels.float() - 127) / 128
