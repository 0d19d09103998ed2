"""Figures as a person reads them."""

from collections.abc import Sequence


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that this share of `values` does not exceed, NaN of none."""
    if not values:
        return float("nan")
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def spread(values: Sequence[float], unit: str, scale: float = 1) -> str:
    """Return `p50 1.2 s, p99 3.4 s, most 5.6 s (of 789)`."""
    shown = [
        f"{name} {percentile(values, share) * scale:.1f} {unit}"
        for name, share in (("p50", 0.5), ("p99", 0.99), ("most", 1))
    ]
    return f"{', '.join(shown)} (of {len(values)})"
