import io

import numpy as np
import torch
from facenet_pytorch import MTCNN
from PIL import Image, UnidentifiedImageError

from kindaware import KindAwareModel, RequestError

SHORTEST, LONGEST = 20, 2048  # pixels of a side; the smallest face that is looked for has 20


class TritonPythonModel(KindAwareModel):
    def load(self):
        return MTCNN(device=self.device)

    def preprocess(self, inputs):
        return {"pictures": [decode(data) for data in inputs["JPEG"][:, 0]]}

    def forward(self, pictures):
        boxes, scores, landmarks = self.model.detect(pictures, landmarks=True)
        return {
            "BOXES": [to_tensor(found, -1, 4) for found in boxes],
            "SCORES": [to_tensor(found, -1) for found in scores],
            "LANDMARKS": [to_tensor(found, -1, 5, 2) for found in landmarks],
        }


def to_tensor(found, *shape):
    """What MTCNN found in a picture; where there is no face it says None, or [None] for the scores."""
    is_nothing = found is None or found[0] is None
    return torch.tensor([] if is_nothing else np.array(found, dtype=np.float32)).reshape(shape)


def decode(data):
    """A JPEG file to a tensor. Shape [height, width, 3], UINT8."""
    try:
        picture = Image.open(io.BytesIO(data), formats=["JPEG"])
        if not SHORTEST <= min(picture.size) <= max(picture.size) <= LONGEST:
            raise ValueError(f"{picture.width} x {picture.height} pixels")
        return torch.from_numpy(np.array(picture.convert("RGB")))
    except Exception as error:  # on damaged data, Pillow raises nearly anything
        got = "something else" if isinstance(error, UnidentifiedImageError) else error
        text = f"input 'JPEG': expected a JPEG file with sides of {SHORTEST} to {LONGEST} pixels, got {got}"
        raise RequestError(text) from None
