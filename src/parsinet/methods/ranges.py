"""Numbers a method takes as options: refused outside their range, by name."""

from parsinet.errors import UsageError


def check_whole(who: str, name: str, value: int | None) -> None:
    """Raises UsageError unless the value is a whole number ≥ 1, or None."""
    if value is not None and (not isinstance(value, int) or value < 1):
        raise UsageError(f"{who}: {name} must be a whole number ≥ 1, got {value!r}.")


def check_within(who: str, name: str, value: float | None, low: float, high: float, *, include_low: bool = False) -> None:
    """Raises UsageError unless low < value ≤ high, or low ≤ value ≤ high with `include_low` or where low > 0, or None."""
    if value is not None and not ((low <= value if include_low or low > 0 else low < value) and value <= high):
        opening = "≥" if include_low or low > 0 else ">"
        limit = f" and ≤ {high}" if high != float("inf") else ""
        raise UsageError(f"{who}: {name} must be {opening} {low}{limit}, got {value}.")
