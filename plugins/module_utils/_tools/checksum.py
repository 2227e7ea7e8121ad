# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""Checksums as a user writes them, and the files in which projects publish them."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

#: Hexadecimal digits of each.
ALGORITHMS = {"md5": 32, "sha1": 40, "sha224": 56, "sha256": 64, "sha384": 96, "sha512": 128}
_GNU = re.compile(r"^\\?([0-9a-fA-F]{32,128})(?:[ \t]+[*?]?(\S.*))?$")
_BSD = re.compile(r"^(\w[\w-]*) ?\((.+)\) ?= ?([0-9a-fA-F]{32,128})$")


@dataclass(frozen=True)
class Checksum:
    """What content must hash to: C(value) in hex, or C(url) of a file that says so."""

    algorithm: str
    value: str | None = None
    url: str | None = None

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.value or self.url}"


def parse_checksum(text: str) -> Checksum:
    """C(sha256:HEX) or C(sha256:https://host/SHA256SUMS). Raises ValueError with a sentence."""
    algorithm, colon, rest = text.strip().partition(":")
    algorithm, rest = algorithm.lower(), rest.strip()
    if not colon or algorithm not in ALGORITHMS:
        known = ", ".join(ALGORITHMS)
        raise ValueError(f"a checksum is written as sha256:HEX or sha256:URL, and the algorithm is one of {known}")
    if rest.startswith(("https://", "http://")):
        return Checksum(algorithm, url=rest)
    if not re.fullmatch("[0-9a-fA-F]{%d}" % ALGORITHMS[algorithm], rest):
        raise ValueError(f"{algorithm} has {ALGORITHMS[algorithm]} hexadecimal digits, {rest!r} is not that")
    return Checksum(algorithm, value=rest.lower())


def checksum_from_file(text: str, filename: str, algorithm: str) -> str | None:
    """The hash of C(filename) in a SHA256SUMS-like file, in hex; None when it is not listed.

    GNU (C(HEX *dir/name)) and BSD (C(SHA256 (name) = HEX)) lines, or one bare hash. The name with its directory
    counts before the bare name. Raises ValueError when the file has two answers.
    """
    entries = [entry for entry in map(_entry, text.splitlines()) if entry and _is(entry, algorithm)]
    named = [(name, value) for _algorithm, name, value in entries if name]
    if not named:
        return _only({value for _algorithm, _name, value in entries}, filename)
    exact = {value for name, value in named if _clean(name) == _clean(filename)}
    by_name = {value for name, value in named if os.path.basename(name) == os.path.basename(filename)}
    return _only(exact or by_name, filename)


def _entry(line: str) -> tuple[str, str, str] | None:
    """(algorithm or nothing, file name or nothing, hash) of one line."""
    line = line.strip()
    bsd = _BSD.match(line)
    if bsd:
        return bsd.group(1).lower().replace("sha2-", "sha").replace("-", ""), bsd.group(2), bsd.group(3).lower()
    gnu = _GNU.match(line)
    return ("", _unescape(gnu.group(2) or "", line), gnu.group(1).lower()) if gnu else None


def _unescape(name: str, line: str) -> str:
    """GNU writes a backslash before the hash when the name has escapes."""
    return name.replace("\\n", "\n").replace("\\\\", "\\") if line.startswith("\\") else name


def _is(entry: tuple[str, str, str], algorithm: str) -> bool:
    return entry[0] in ("", algorithm) and len(entry[2]) == ALGORITHMS[algorithm]


def _clean(name: str) -> str:
    return os.path.normpath(name).lstrip("/")


def _only(values: set[str], filename: str) -> str | None:
    if len(values) > 1:
        raise ValueError(f"the checksum file has {len(values)} different hashes for {os.path.basename(filename)}")
    return values.pop() if values else None
