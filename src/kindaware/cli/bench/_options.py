"""Options of `kindaware bench` that have a grammar of their own."""

from __future__ import annotations

from collections.abc import Mapping

from kindaware._errors import OptionError
from kindaware.cli.bench._load import Load

MOST_CLIENTS = 1024


def parse_loads(concurrency: str, rate: str) -> tuple[Load, ...]:
    """Read `--concurrency 1,2,4`, or `--rate 10,20` if that is given.

    Raises:
        OptionError: they are no such lists.
    """
    if rate:
        rates = _numbers("--rate", rate, "10,20.5")
        return tuple(Load(rate=one) for one in rates)
    numbers = _numbers("--concurrency", concurrency, "1,2,4")
    if any(one != int(one) or one > MOST_CLIENTS for one in numbers):
        raise _wrong("--concurrency", concurrency, f"whole numbers from 1 to {MOST_CLIENTS}", "1,2,4")
    return tuple(Load(concurrency=int(one)) for one in numbers)


def check_modes(
    *,
    compare: str,
    tune: bool,
    concurrency: str,
    rate: str,
    plot: bool,
    tune_only: Mapping[str, bool],
    rounds: bool,
) -> None:
    """Refuse options that do not go together, or would have no effect.

    Args:
        compare: of the command line, as the others are.
        tune: whether it is given.
        concurrency: empty where it is not given.
        rate: empty where it is not given.
        plot: whether it is given.
        tune_only: the options of --tune, and whether they are given.
        rounds: whether it is given.

    Raises:
        OptionError: about the first that is wrong.
    """
    unused = [(option, "--tune") for option, is_given in tune_only.items() if is_given and not tune]
    unused += [("--rounds", "--compare")] * (rounds and not compare)
    for option, mode in unused:
        raise OptionError.of(
            option,
            expected=f"{mode} with it",
            got="none",
            remedy=f"add {mode}, or leave {option} out",
        )
    wrong = [
        ("--compare with --tune", tune and bool(compare), "they do different things: leave one out"),
        (
            "--concurrency with --rate",
            bool(concurrency and rate),
            "leave one of them out",
        ),
        ("--rate with --tune", tune and bool(rate), "--tune needs --concurrency"),
        (
            "--plot with --compare or --tune",
            plot and (tune or bool(compare)),
            "a plot is of a sweep: leave it out",
        ),
    ]
    for subject, is_wrong, remedy in wrong:
        if is_wrong:
            raise OptionError.of(subject, expected="one of them", got="both", remedy=remedy)


def _numbers(option: str, text: str, example: str) -> list[float]:
    try:
        numbers = [float(one) for one in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or not all(0 < one < 1e6 for one in numbers):
        raise _wrong(option, text, "numbers above 0", example)
    return numbers


def _wrong(option: str, text: str, expected: str, example: str) -> OptionError:
    return OptionError.of(
        option, expected=expected, got=repr(text), remedy=f"write it like {option} {example}"
    )
