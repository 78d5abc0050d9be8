"""What the clients of the image examples share: read a picture, prepare it, ask the server, print the answer.

Needs numpy, pillow and tritonclient[http]. It needs no torch: a client's machine may not have it.
"""

import argparse
import io
import json
import sys
import time
import urllib.parse
import urllib.request
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tritonclient.http as httpclient
from PIL import Image, ImageOps, UnidentifiedImageError

NUM_CLASSES = 1000
PICTURE_LIMIT_BYTES = 64 * 2**20
TIMEOUT_SECONDS = 30
LONGEST_TO_SHORTEST = 100  # a thin strip would grow to gigabytes when its short side is resized
IMAGE_URL = "http://images.cocodataset.org/test2017/000000557146.jpg"
MODEL_REMEDY = "check --model_name and the server's log"


class ClientError(Exception):
    """Something the user can put right; the message is one line."""

    def __init__(self, subject, *, expected, got, remedy):
        super().__init__(" ".join(f"{subject}: expected {expected}, got {got}; {remedy}".split()))


@dataclass(frozen=True)
class Preparation:
    """How a network wants its pictures. Mean and std are those of red, green and blue, from 0 to 1."""

    resize: int  # pixels of the short side, before the crop
    crop: int  # pixels of both sides of the square cut from the centre
    resample: Image.Resampling
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True)
class Example:
    """What the clients differ in."""

    title: str
    model_name: str
    default_labels: list[Path]  # the first that exists is read when the user names no file
    preparation: Preparation


def describe(error):
    """An exception in one line; some have no text of their own."""
    return f"{type(error).__name__} ({error})" if str(error) else type(error).__name__


def read_labels(path):
    """The names of the classes: line 1 is class 0."""
    try:
        labels = [line.strip() for line in path.read_text(encoding="utf-8").rstrip().splitlines()]
    except (OSError, ValueError) as error:
        raise ClientError(
            f"label file '{path}'",
            expected="a text file",
            got=describe(error),
            remedy="pass one with --label_file",
        ) from error
    if len(labels) != NUM_CLASSES or not all(labels):
        raise ClientError(
            f"label file '{path}'",
            expected=f"{NUM_CLASSES} names, one a line",
            got=f"{len(labels)} lines, {labels.count('')} of them empty",
            remedy="pass a complete one with --label_file",
        )
    return labels


def read_picture(path):
    """The picture in a file, as RGB."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ClientError(
            f"picture '{path}'",
            expected="a file that can be read",
            got=describe(error),
            remedy="check the path given with --image or --image_url",
        ) from error
    return decode_picture(data, path)


def find_picture(place):
    """The picture at an address or in a local file, as RGB."""
    is_path = place and "://" not in place
    return read_picture(Path(place)) if is_path else fetch_picture(place)


def fetch_picture(url):
    """The picture behind an address, as RGB, in bounded time and memory."""
    try:
        if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
            raise ValueError("neither http:// nor https:// nor a path")
        request = urllib.request.Request(url, headers={"User-Agent": "kindaware-example"})
        data, deadline = bytearray(), time.monotonic() + TIMEOUT_SECONDS
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
            while chunk := response.read1(2**16):
                data += chunk
                if len(data) > PICTURE_LIMIT_BYTES or time.monotonic() > deadline:
                    raise ValueError(f"over {PICTURE_LIMIT_BYTES} bytes or {TIMEOUT_SECONDS} s")
    except Exception as error:  # besides OSError, http.client has a dozen of its own
        raise ClientError(
            f"picture '{url}'",
            expected="an address that can be fetched",
            got=describe(error),
            remedy="check --image_url, or pass the path of a local file",
        ) from error
    return decode_picture(data, url)


def decode_picture(data, name):
    """Encoded bytes to an upright RGB picture."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return to_rgb(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    except Exception as error:  # on damaged data, Pillow's decoders raise nearly anything
        raise ClientError(
            f"picture '{name}'",
            expected="a whole picture of reasonable size in a format that Pillow reads",
            got="something else" if isinstance(error, UnidentifiedImageError) else describe(error),
            remedy="pass another one with --image or --image_url",
        ) from error


def to_rgb(picture):
    """Any colour mode to RGB: 16-bit greys are scaled, transparent parts become white."""
    if picture.mode.startswith("I;16"):
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert("RGB")


def prepare(picture, preparation):
    """RGB picture to the network's input: shape [1, 3, crop, crop], FP32, normalised."""
    short, long = sorted(picture.size)
    if long > LONGEST_TO_SHORTEST * short:
        raise ClientError(
            f"picture of {picture.width} x {picture.height} pixels",
            expected=f"a long side of at most {LONGEST_TO_SHORTEST} short ones",
            got=f"{long / short:.0f}",
            remedy="cut out the part that matters",
        )
    picture = picture.resize(
        [int(preparation.resize * side / short) for side in picture.size], preparation.resample
    )
    left, top = (round((side - preparation.crop) / 2) for side in picture.size)
    picture = picture.crop((left, top, left + preparation.crop, top + preparation.crop))
    pixels = np.asarray(picture, dtype=np.float32) / 255
    pixels = (pixels - np.float32(preparation.mean)) / np.float32(preparation.std)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])


@contextmanager
def asking(subject, *, remedy):
    """Turn whatever goes wrong between client and server into one clear error."""
    try:
        yield
    except httpclient.InferenceServerException as error:
        raise ClientError(subject, expected="an answer", got=f"'{error.message()}'", remedy=remedy) from error
    except Exception as error:  # sockets, gevent, HTTP and JSON parsers: each has its own
        raise ClientError(
            subject, expected="an answer in Triton's HTTP protocol", got=describe(error), remedy=remedy
        ) from error


def connect(url):
    """A client of a server that is known to answer."""
    subject, remedy = f"server at '{url}'", "start one with 'kindaware serve', or check --url"
    address = url.removeprefix("http://")
    with asking(subject, remedy=remedy):
        if not urllib.parse.urlsplit(f"http://{address}").port:
            raise ValueError("not of the form HOST:PORT")
        client = httpclient.InferenceServerClient(
            address, connection_timeout=TIMEOUT_SECONDS, network_timeout=TIMEOUT_SECONDS
        )
        live = client.is_server_live()
    if not live:
        raise ClientError(subject, expected="a live Triton server", got="another answer", remedy=remedy)
    return client


def classify(client, model_name, prepared):
    """Send one prepared picture, get its scores: shape [NUM_CLASSES], FP32."""
    picture = httpclient.InferInput("INPUT", prepared.shape, "FP32")
    picture.set_data_from_numpy(prepared)
    with asking(f"model '{model_name}'", remedy=MODEL_REMEDY):
        scores = client.infer(model_name, [picture]).as_numpy("OUTPUT")
    if scores is None:
        got = "no such output"
    elif scores.shape != (1, NUM_CLASSES) or scores.dtype != np.float32:
        got = f"{scores.dtype} of shape {list(scores.shape)}"
    elif not np.isfinite(scores).all():
        got = "values that are infinite or no number"
    else:
        return scores[0]
    raise ClientError(
        f"model '{model_name}' output 'OUTPUT'",
        expected=f"float32 scores of shape [1, {NUM_CLASSES}]",
        got=got,
        remedy="check that --model_name is an ImageNet classifier",
    )


def best(scores, num_best):
    """Classes and probabilities of the highest scores, best first."""
    probabilities = np.exp(scores - scores.max())
    probabilities /= probabilities.sum()
    return [(int(c), float(probabilities[c])) for c in np.argsort(-scores, kind="stable")[:num_best]]


def parse_args(example, argv):
    parser = argparse.ArgumentParser(description=f"Ask {example.title} on a Triton server about a picture.")
    add = parser.add_argument
    add("--model_name", default=example.model_name, help="default: %(default)s")
    add("--image_url", default=IMAGE_URL, help="address or file of the picture, default: %(default)s")
    add("--image", type=Path, help="file with the picture; takes precedence over --image_url")
    add("--url", default="localhost:8000", help="HTTP address of the server, default: %(default)s")
    add("--label_file", type=Path, help=f"names of the classes, default: {example.default_labels[0]}")
    add("--top", type=int, default=0, metavar="N", help="also print the N best classes")
    add("-v", "--verbose", action="store_true", help="also print the model's configuration")
    return parser.parse_args(argv)


def run(example, args):
    """The whole conversation, from the files to the last line printed."""
    found = (path for path in example.default_labels if path.is_file())
    labels = read_labels(args.label_file or next(found, example.default_labels[0]))
    picture = read_picture(args.image) if args.image else find_picture(args.image_url)
    prepared = prepare(picture, example.preparation)

    with connect(args.url) as client:
        with asking(f"model '{args.model_name}'", remedy=MODEL_REMEDY):
            config = client.get_model_config(args.model_name)
        if args.verbose:
            print(json.dumps(config, indent=4))
        scores = classify(client, args.model_name, prepared)

    for class_id, probability in best(scores, max(0, args.top)):
        print(f"{probability:7.2%}  {labels[class_id]}")
    print(f"Results is class: {labels[int(scores.argmax())]}")
    print(f"PASS: {example.title} instance kind")


def main(example, argv=None):
    """Exit status 0 only when a prediction was printed; else one line on stderr and 1."""
    try:
        run(example, parse_args(example, argv))
    except ClientError as error:
        print(error, file=sys.stderr)
        return 1
    return 0
