# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What has to be in the arguments of a VM for us, and what is in them already. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._drive import keyval

#: what says where the guest is seen. A QEMU that is told nothing, and has no window, listens for VNC
_DISPLAYS = frozenset(["-display", "-nographic", "-curses", "-sdl", "-gtk", "-vnc", "-spice"])


def added(words: t.Sequence[str], path: str) -> t.Tuple[str, ...]:
    """The arguments that a VM with the arguments C(words) is started with besides: its monitor at C(path), and no display where
    it has none.
    """
    monitor = () if path in sockets(words) else ("-qmp", "unix:%s,server=on,wait=off" % keyval.escaped(path))
    return (*monitor, *(() if _DISPLAYS & set(_options(words)) else ("-display", "none")))


def leaves(words: t.Sequence[str]) -> bool:
    """Whether QEMU would leave what has started it."""
    return "-daemonize" in set(_options(words))


def sockets(words: t.Sequence[str]) -> t.List[str]:
    """The Unix sockets at which a QEMU with these arguments takes commands of QMP."""
    names = list(_options(words))
    pairs = [(name, value) for name, value in zip(names, list(words)[1:]) if name]
    found = [_path_of(value) for name, value in pairs if name in ("-qmp", "-qmp-pretty")]
    devices = {_option(value, "id"): _option(value, "path") for name, value in pairs if name == "-chardev"}
    monitors = [value for name, value in pairs if name == "-mon" and _option(value, "mode") == "control"]
    found += [devices.get(_option(value, "chardev"), "") for value in monitors]
    return [path for path in found if path]


def _options(words: t.Sequence[str]) -> t.Iterator[str]:
    """Each word that begins an option, as with one minus sign; an empty one for others."""
    for word in words:
        yield word[1:] if word.startswith("--") else word if word.startswith("-") else ""


def _path_of(value: str) -> str:
    kind, _colon, rest = value.partition(":")
    return _option("path=" + rest, "path") if kind == "unix" else ""


def _option(value: str, key: str) -> str:
    try:
        return dict(keyval.split(value, "chardev")).get(key, "")
    except ValueError:
        return ""
