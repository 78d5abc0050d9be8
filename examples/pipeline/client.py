"""Send pictures to the pipeline as their files are, and print what they show."""

import argparse
import sys
from pathlib import Path

import numpy as np
import tritonclient.http as triton


def ask(client, path):
    """(probability, name) of the five best classes."""
    jpeg = triton.InferInput("JPEG", [1, 1], "BYTES")
    jpeg.set_data_from_numpy(np.array([[path.read_bytes()]], dtype=object))
    answer = client.infer("name_picture", [jpeg])
    return zip(answer.as_numpy("PROBABILITY")[0], answer.as_numpy("NAME")[0], strict=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a picture in JPEG format")
    parser.add_argument("--url", default="localhost:8000", help="HTTP address, default: %(default)s")
    args = parser.parse_args()
    status = 0
    with triton.InferenceServerClient(args.url) as client:
        for path in args.files:
            try:
                for probability, name in ask(client, path):
                    print(f"{probability:7.2%}  {name.decode()}")
            except (OSError, triton.InferenceServerException) as error:
                print(f"{path}: {error}", file=sys.stderr)
                status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
