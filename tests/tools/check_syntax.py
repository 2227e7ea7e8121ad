"""Compiles every Python file below the given directories with the Python that runs this."""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> None:
    """Exit with a message for the first file that this Python cannot compile."""
    files = sorted(file for name in sys.argv[1:] for file in Path(name).rglob("*.py"))
    if not files:
        raise SystemExit("no Python files in " + " ".join(sys.argv[1:]))
    for file in files:
        compile(file.read_bytes(), str(file), "exec")
    print(f"{len(files)} files compile on Python {sys.version}")


if __name__ == "__main__":
    main()
