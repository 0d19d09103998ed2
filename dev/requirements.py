"""`python -m dev.requirements`: write the checksums of what `make lock` compiles, and of the lists it compiles.

A test compares them. Edited lists, hand edits of a compiled file and merges of two compilations are thus found offline.
"""

import json
import tomllib
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).parents[1]
CHECKSUMS = ROOT / "requirements.sha256"


def checksums() -> str:
    """Return the text of the file, one checksum a line."""
    lists = tomllib.loads((ROOT / "pyproject.toml").read_text())
    texts = {"pyproject.toml": json.dumps([lists["project"]["dependencies"], lists["dependency-groups"]])}
    texts |= {path.name: path.read_text() for path in compiled()}
    return "".join(f"{sha256(text.encode()).hexdigest()}  {name}\n" for name, text in texts.items())


def compiled() -> list[Path]:
    """Return the compiled files."""
    return sorted(ROOT.glob("requirements*.txt"))


if __name__ == "__main__":
    CHECKSUMS.write_text(checksums())
