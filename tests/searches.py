"""How many examples hypothesis tries: by profile, in proportion to what a test asks for."""

from hypothesis import settings

SHARES = {"fast": 0.1, "ci": 1, "thorough": 20}
"""Examples for one that a test asks for. `ci` is the default; `--hypothesis-profile` names another."""

FEWEST = 5


def register_profiles() -> None:
    """Make the profiles known, and `ci` the one of this process."""
    for name, share in SHARES.items():
        settings.register_profile(name, settings.get_profile("default"), max_examples=_scaled(100, share))
    settings.load_profile("ci")


def examples(number: int) -> int:
    """Return how many examples the profile tries where `number` are asked for."""
    return _scaled(number, SHARES.get(settings.get_current_profile_name(), 1))


def _scaled(number: int, share: float) -> int:
    return max(FEWEST, round(number * share))
