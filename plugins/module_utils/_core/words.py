# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""English for sentences that more than one resource says. Pure."""

from __future__ import annotations

import re
import typing as t

#: in an argument of QEMU's, in options, in JSON and in a URL
_SECRETS = (
    re.compile(r"((?:^|,)(?:data|password|cookie)=)(?:,,|[^,])+"),
    re.compile(r'("(?:data|password|cookie)": *")(?:\\.|[^"\\])*'),
    re.compile(r"(://[^/@:\s]*:)[^/@\s]*(?=@)"),
)


def counted(number: int, noun: str) -> str:
    """C(1 image), C(2 images)."""
    return "%d %s%s" % (number, noun, "" if number == 1 else "s")


def listed(names: t.Sequence[t.Any], most: int) -> str:
    """C(a, b, c and 2 more): the first C(most) of them."""
    more = " and %d more" % (len(names) - most) if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + more


def shown(value: t.Any) -> str:
    """An option's value as QEMU writes it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return "unset" if value is None else str(value)


def printable(text: str) -> str:
    """Foreign text that cannot steer a terminal: what is not printable, or not UTF-8, is escaped as in Python."""
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8, as surrogateescape keeps it
        code -= 0xDC00
    return "\\x%02x" % code if code < 0x100 else "\\u%04x" % code if code < 0x10000 else "\\U%08x" % code


def without_secrets(word: str) -> str:
    """An argument of QEMU's with C(***) for what nobody should read in a log."""
    for pattern in _SECRETS:
        word = pattern.sub(r"\1***", word)
    return word
