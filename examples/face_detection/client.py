"""Find the faces in pictures, and draw a box around each."""

import argparse
import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from kindaware.client import ModelClient, ModelClientError

LONGEST = 1280  # pixels of a side; larger pictures are scaled down before they are sent


def read(path):
    """A picture, upright, in RGB, of at most LONGEST pixels a side."""
    picture = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    picture.thumbnail((LONGEST, LONGEST))
    return picture


def find(model, picture):
    """What the server finds: boxes [faces, 4], scores [faces] and landmarks [faces, 5, 2]."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=95)
    found = model.infer(JPEG=np.array([file.getvalue()], dtype=object))
    return found["BOXES"], found["SCORES"], found["LANDMARKS"]


def draw(picture, boxes, landmarks):
    pen = ImageDraw.Draw(picture)
    for box, points in zip(boxes, landmarks, strict=True):
        pen.rectangle(box.tolist(), outline="lime", width=3)
        for x, y in points.tolist():
            pen.ellipse((x - 3, y - 3, x + 3, y + 3), fill="yellow")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a picture in any usual format")
    parser.add_argument("--url", default="localhost:8001", help="gRPC address, default: %(default)s")
    args = parser.parse_args()
    status = 0
    with ModelClient(args.url, "mtcnn") as model:
        for path in args.files:
            try:
                picture = read(path)
                boxes, scores, landmarks = find(model, picture)
                draw(picture, boxes, landmarks)
                picture.save(drawn := f"{path.stem}-faces.png")
            except (OSError, ModelClientError) as error:
                print(f"{path}: {error}", file=sys.stderr)
                status = 1
                continue
            print(f"{path}: {len(boxes)} face{'s' * (len(boxes) != 1)}, drawn in {drawn}")
            for box, score in zip(boxes, scores, strict=True):
                print(f"  {score:7.2%}  " + "  ".join(f"{side:4.0f}" for side in box))
    return status


if __name__ == "__main__":
    sys.exit(main())
