"""Counts of tokens as a provider reports them. Pure."""

# More than any response can use, and small enough that sums of it are exact in every client.
MAX_TOKENS = 10**12


def tokens_in(details: object, name: str) -> int:
    return tokens(details.get(name)) if isinstance(details, dict) else 0


def tokens(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        return 0
    return min(max(value, 0), MAX_TOKENS)
