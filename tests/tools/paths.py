"""Where things are: everything that make builds goes under .build (and .venv for the demo)."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / ".build"
LOGS = BUILD / "logs"
REQUIREMENTS = ROOT / "tests" / "requirements"
COLLECTION = Path("ansible_collections") / "platter" / "qemu"
