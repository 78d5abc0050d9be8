"""How many examples hypothesis tries: by profile, in proportion to what a test asks for."""

from hypothesis import HealthCheck, settings

SHARES = {"fast": 0.1, "ci": 1, "thorough": 20}
"""Examples for one that a test asks for. `ci` is the default; `--hypothesis-profile` names another."""

FEWEST = 5


def register_profiles() -> None:
    """Make the profiles known, and `ci` the one of this process."""
    for name, share in SHARES.items():
        most = _scaled(settings.get_profile("default").max_examples, share)
        # A neighbour may hold an example up, or its making.
        patient = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
        settings.register_profile(name, max_examples=most, **patient)
    settings.load_profile("ci")


def examples(number: int) -> int:
    """Return how many examples the profile tries where `number` are asked for."""
    return _scaled(number, SHARES.get(settings.get_current_profile_name(), 1))


def _scaled(number: int, share: float) -> int:
    return max(FEWEST, round(number * share))
