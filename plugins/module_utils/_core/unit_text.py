# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What is so of every unit of systemd that is ours: where it lies, and how words are written in it. Pure.

Facts: systemd.syntax(7), systemd.unit(5), systemd.service(5) "COMMAND LINES".
"""

from __future__ import annotations

import posixpath
import re
import typing as t

#: where the administrator's units lie: there they are again after a reboot
DIRECTORY = "/etc/systemd/system"
WANTED_BY = "multi-user.target"
#: runs what gets a server ready, and what ends it
SHELL = "/bin/sh"
#: systemd makes it at boot; sockets lie in it that no task names
RUNTIME_DIRECTORY = "/run/platter"
#: qemu-nbd takes over a socket that another program listens on, and nbdkit starts at none that is left over. The
#: kernel's table shows who listens (00010000)
FREE_SOCKET = (
    "while read -r a b c flags d e f path; do"
    ' if [ "$flags $path" = "00010000 $1" ]; then echo "another program listens on $1" >&2; exit 1; fi;'
    " done </proc/net/unix;"
    ' if [ -S "$1" ]; then rm -f -- "$1"; fi'
)

_HEAD = """\
# Made by platter.qemu.%s, which writes it anew when it is changed.
# What is to be otherwise belongs in a file of your own: systemctl edit %s
"""
_SECTION, _KEY = "[X-Platter]", "Definition="
_BARE = re.compile(r"[A-Za-z0-9_@+=:,./-]+\Z")
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9_@+=:,./~-]*\Z")


def unit_file(unit: str) -> str:
    """Where the unit of that name lies."""
    return posixpath.join(DIRECTORY, unit)


def wants_link(unit: str) -> str:
    """The link that has it started at boot, as C(systemctl enable) makes it."""
    return posixpath.join(DIRECTORY, wanted_by(unit) + ".wants", unit)


def wanted_by(unit: str) -> str:
    """What starts it at boot (systemd.special(7))."""
    return "timers.target" if unit.endswith(".timer") else WANTED_BY


def head(module: str, unit: str) -> str:
    """The first lines of the unit that C(module) writes."""
    return _HEAD % (module, unit)


def last_lines(definition: str) -> t.Tuple[str, ...]:
    """How it is started at boot, and one line of ours, in a section that systemd ignores."""
    return ("", "[Install]", "WantedBy=" + WANTED_BY, "", _SECTION, _KEY + definition)


def definition_in(text: str) -> str:
    """The line of ours in the text of a unit; empty where it was not written by us."""
    inside = text.partition("\n%s\n" % _SECTION)[2]
    line = next((line for line in inside.splitlines() if line.startswith(_KEY)), "")
    return line[len(_KEY) :]


def command(words: t.Iterable[str]) -> str:
    """A command line in which systemd finds exactly these words."""
    return " ".join(map(quoted, words))


def quoted(word: str) -> str:
    """C(word) with nothing left in it that systemd would read as more: C(%) is its own, C($) a variable."""
    if _BARE.match(word):
        return word
    text = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return '"%s"' % "".join(_visible(letter) for letter in text)


def _visible(letter: str) -> str:
    """Control characters by number. Of a name that is no UTF-8 each byte too, as units are UTF-8."""
    if "\udc80" <= letter <= "\udcff":
        return "\\x%02x" % (ord(letter) - 0xDC00)
    return letter if letter.isprintable() else "".join("\\x%02x" % byte for byte in letter.encode())


def plain(path: str) -> str:
    """C(path) or the nearest above it that can be written in a list of paths, which knows no escapes."""
    while not _PLAIN_PATH.match(path):
        path = posixpath.dirname(path)
    return path
