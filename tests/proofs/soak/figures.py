"""Measurements as text."""

import math
from collections.abc import Mapping, Sequence

_SHARES = {"p50": 0.5, "p99": 0.99, "most": 1}


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest of `values` that this share of them does not exceed; NaN if there are no values."""
    if not values:
        return float("nan")
    return sorted(values)[math.ceil(len(values) * share) - 1]


def spread(
    values: Sequence[float], unit: str, scale: float = 1, *, shares: Mapping[str, float] = _SHARES
) -> str:
    """Return `p50 1.2 s, p99 3.4 s, most 5.6 s (of 789)`."""
    shown = [f"{name} {percentile(values, share) * scale:.1f} {unit}" for name, share in shares.items()]
    return f"{', '.join(shown)} (of {len(values)})"
