"""Make a key of the app's own, for the setting API_KEYS. The app gets only its hash."""

import argparse
import hashlib
import json
import secrets

from shared.access_settings import A_KEY_NAME, KEY_NAME
from shared.core.caller import Role

# The app does not need it. It tells the key from its hash, and scanners for secrets can find it.
_PREFIX = "baton-"
_BYTES = 32


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m dev key", description="Make a random key of 256 bits, and print it once."
    )
    parser.add_argument("name", type=_name, metavar="NAME", help=f"{A_KEY_NAME}; runs belong to key:NAME")
    parser.add_argument("roles", nargs="+", choices=list(Role), metavar="ROLE", help=", ".join(Role))
    options = parser.parse_args(argv)
    if len(set(options.roles)) < len(options.roles):
        parser.error("each role may be named once")
    key = _PREFIX + secrets.token_hex(_BYTES)
    entry = {
        "name": options.name,
        "roles": options.roles,
        "sha256": hashlib.sha256(key.encode()).hexdigest(),
    }
    print(f"key       {key}")
    print(f"API_KEYS  {json.dumps(entry)}")
    print(
        "\nThe key is stored nowhere. Give it to the client, and put the object into the list API_KEYS=[...]."
    )
    return 0


def _name(text: str) -> str:
    if not KEY_NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"a name has {A_KEY_NAME}")
    return text
