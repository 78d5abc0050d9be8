"""Let the storyteller go on with a text, and print its pieces as they come."""

import argparse
import asyncio
import sys

import grpc
import numpy as np
import tritonclient.grpc.aio as triton


async def tell(url, prompt, max_tokens, stop):
    async def requests():
        text = triton.InferInput("PROMPT", [1], "BYTES")
        limit = triton.InferInput("MAX_TOKENS", [1], "INT32")
        text.set_data_from_numpy(np.array([prompt.encode()], dtype=object))
        limit.set_data_from_numpy(np.array([max_tokens], dtype=np.int32))
        yield {"model_name": "storyteller", "inputs": [text, limit]}

    async with triton.InferenceServerClient(url) as client:
        answers, num_pieces = client.stream_infer(requests()), 0
        async for answer, error in answers:
            if error is not None:
                raise error
            print(answer.as_numpy("PIECE")[0].decode(), end="", flush=True)
            num_pieces += 1
            if num_pieces == stop:
                answers.cancel()  # the model hears of it, and stops
                break


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("prompt", nargs="?", default="Once", help="how the text begins, default: %(default)s")
    parser.add_argument("--max_tokens", type=int, default=100, help="pieces to ask for, default: %(default)s")
    parser.add_argument("--stop", type=int, metavar="N", help="cancel after so many pieces")
    parser.add_argument("--url", default="localhost:8001", help="gRPC address, default: %(default)s")
    args = parser.parse_args()
    print(args.prompt, end="")
    try:
        asyncio.run(tell(args.url, args.prompt, args.max_tokens, args.stop))
    except (triton.InferenceServerException, grpc.RpcError) as error:
        print(f"\n{error.details() if isinstance(error, grpc.RpcError) else error}", file=sys.stderr)
        return 1
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
