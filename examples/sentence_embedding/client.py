"""Find those of 20 sentences that mean nearly the same as yours."""

import argparse
import sys

import numpy as np

from kindaware.client import ModelClient, ModelClientError

SENTENCES = [
    "The train to the coast was forty minutes late.",
    "She planted tomatoes and basil on the balcony.",
    "The court ruled that the contract was void.",
    "Our cat sleeps on the warm radiator all winter.",
    "Interest rates were raised by a quarter of a point.",
    "He learned to play the violin when he was six.",
    "Heavy rain flooded the cellar during the night.",
    "The new phone runs out of battery by noon.",
    "A goal in the last minute decided the match.",
    "The doctor told him to drink more water.",
    "Astronomers found a planet with two suns.",
    "Bake the bread until the crust is dark brown.",
    "The museum is closed on Mondays.",
    "Her thesis is about the migration of whales.",
    "The printer reports a paper jam, but there is none.",
    "They painted the kitchen walls yellow.",
    "The bridge is being repaired until October.",
    "My password expired while I was on holiday.",
    "The orchestra rehearses in an old factory.",
    "Most bees die when the hive runs out of honey.",
]


def embed(model, sentences):
    """One unit vector per sentence. Shape [len(sentences), 384]."""
    return model.infer_batch(TEXT=[[sentence] for sentence in sentences])["EMBEDDING"]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("sentence", nargs="?", default="The kitten likes it cosy.", help="default: %(default)s")
    add("--top", type=int, default=3, metavar="N", help="how many to print, default: %(default)s")
    add("--url", default="localhost:8001", help="gRPC address, default: %(default)s")
    args = parser.parse_args()
    try:
        with ModelClient(args.url, "minilm") as model:
            wanted, *known = embed(model, [args.sentence, *SENTENCES])
    except ModelClientError as error:
        print(error, file=sys.stderr)
        return 1
    similarity = np.stack(known) @ wanted
    for number in np.argsort(-similarity)[: args.top]:
        print(f"{similarity[number]:5.2f}  {SENTENCES[number]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
