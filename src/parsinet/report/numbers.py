"""How numbers are printed: thousands separators, errors in per cent, units a reader can compare."""

from collections.abc import Mapping


def count(number: float) -> str:
    """`266,200`, and from ten million on `40.8 M`."""
    return f"{number:,.0f}" if number < 1e7 else f"{number / 1e6:,.1f} M"


def stored(size: float) -> str:
    """Bytes as `1,067 kB`, from ten megabytes on `42.1 MB` (1 kB = 1,000 bytes)."""
    if size < 1e4:
        return f"{size:,.0f} B"
    return f"{size / 1e3:,.0f} kB" if size < 1e7 else f"{size / 1e6:,.1f} MB"


def error(fraction: float) -> str:
    """An error rate: `2.13 %`."""
    return f"{100 * fraction:.2f} %"


def points(change: float) -> str:
    """A difference of two error rates in percentage points: `+0.12 pp`."""
    return f"{100 * change:+.2f} pp"


def share(fraction: float) -> str:
    """A part of a whole: `20.3 %`, below ten per cent with one digit more."""
    return f"{100 * fraction:.1f} %" if fraction >= 0.0995 else f"{100 * fraction:.2f} %"


def small(fraction: float) -> str:
    """A small part with two digits that say something: `0.85 %`, `0.031 %`."""
    return f"{100 * fraction:.2g} %"


def times(factor: float) -> str:
    """A speed-up: `3.9×`."""
    return f"{factor:,.1f}×" if factor >= 0.995 else f"{factor:.2f}×"


def milliseconds(seconds: float) -> str:
    """A latency in milliseconds with three significant digits: `0.123 ms`."""
    value = 1e3 * seconds
    digits = 3 if value < 1 else 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:,.{digits}f} ms"


def duration(seconds: float) -> str:
    """Training time in seconds: `12.3 s`, `1,234 s`."""
    return f"{seconds:,.1f} s" if seconds < 100 else f"{seconds:,.0f} s"


def listed(entries: Mapping[str, object]) -> str:
    """`python 3.11.2, torch 2.13.0`."""
    return ", ".join(f"{key} {value}" for key, value in entries.items() if value is not None)
