# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The QEMUs that run on this host, by what they are called (C(-name))."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._tools import processes

#: words in which the name of the program is
_MOST_BEFORE = 6


def processes_of(vm: str) -> t.Set[int]:
    """Those of that VM, of this user or, for root, of anybody."""
    return {pid for pid, words in _command_lines() if name_of(words) == vm}


def _command_lines() -> t.Iterator[t.Tuple[int, t.Tuple[str, ...]]]:
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                yield int(name), processes.command_line(int(name))
            except OSError:  # ended meanwhile, or another user's
                continue


def is_qemu(words: t.Sequence[str]) -> bool:
    """Whether that is the command line of a QEMU, which may come after a loader with options of its own."""
    return any("qemu" in os.path.basename(word) for word in words[:_MOST_BEFORE])


def own_words(words: t.Sequence[str]) -> t.Sequence[str]:
    """Without those of a loader that has started it (ld.so(8), C(--argv0)); its own name is the first."""
    before = words[: _MOST_BEFORE - 1]
    return words[before.index("--argv0") + 2 :] if "--argv0" in before else words


def name_of(words: t.Sequence[str]) -> str:
    """What a VM is called on its command line; empty for what is none, or has no name."""
    if not is_qemu(words):
        return ""
    for word, value in zip(words, words[1:]):
        if word in ("-name", "--name"):
            first = value.replace(",,", "\0").split(",")[0].replace("\0", ",")
            return first[len("guest=") :] if first.startswith("guest=") else first
    return ""
