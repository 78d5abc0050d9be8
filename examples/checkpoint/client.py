"""Send the same four numbers to the three models, and print what each says."""

import argparse
import sys

from kindaware.client import ModelClient, ModelClientError

MODELS = ("from_state_dict", "from_safetensors", "from_torchscript")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="localhost:8001", help="gRPC address, default: %(default)s")
    args = parser.parse_args()
    try:
        for name in MODELS:
            with ModelClient(args.url, name) as model:
                scores = model.infer(FEATURES=[5.1, 3.5, 1.4, 0.2])["SCORES"]
            print(f"{name:17}", *[f"{score:8.4f}" for score in scores])
    except ModelClientError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
