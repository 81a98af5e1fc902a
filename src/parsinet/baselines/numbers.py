"""Options that are numbers, refused where they cannot be used."""

from parsinet.errors import UsageError


def above_zero(who: str, **numbers: float) -> None:
    """UsageError for a number that is not above zero."""
    for name, value in numbers.items():
        if not value > 0:
            raise UsageError(f"{who}: {name} must be > 0, got {value}.")


def check_interval(who: str, interval: int | None) -> None:
    """UsageError unless it is a whole number of steps, or None for the default."""
    if interval is not None and (not isinstance(interval, int) or interval < 1):
        raise UsageError(f"{who}: interval must be a whole number of steps ≥ 1, got {interval!r}.")
