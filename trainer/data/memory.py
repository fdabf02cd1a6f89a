"""How much memory a stream of volumes takes when nobody says otherwise."""

from preprocess.machine import available_bytes

STREAM_FRACTION = 0.25
"""Part of the available memory that a stream takes by default; the rest is the model's, and other people's."""


def default_budget_bytes() -> int:
    """What a stream may hold when nobody says otherwise."""
    return int(available_bytes() * STREAM_FRACTION)
