# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Programs of ours that outlive the play: what the play was made of is gone when the play is over."""

from __future__ import annotations

import os
import re
import sys
import typing as t
from types import ModuleType

from ansible_collections.platter.qemu.plugins.module_utils._tools import own_places

#: this one is there again after the host's Python was updated
_PYTHON = "/usr/bin/python3"
#: what our programs are written for
_OLDEST = 8
_VERSION = re.compile(r"python3\.(\d+)\Z")


def words(path: str) -> t.Tuple[str, ...]:
    """What runs the program at C(path), without the modules of whoever runs it."""
    python = _PYTHON if os.access(_PYTHON, os.X_OK) and not _too_old(_PYTHON) else sys.executable
    return (python, "-I", "-S", path)


def _too_old(python: str) -> bool:
    """RHEL 8 and SLES 15 have Python 3.6 under that name, and newer ones beside it, one of which runs this."""
    version = _VERSION.search(os.path.realpath(python))
    return version is not None and int(version[1]) < _OLDEST


def file_name(module: ModuleType) -> str:
    """What a module is called as a file."""
    return module.__name__.rpartition(".")[2] + ".py"


def text_of(module: ModuleType) -> str:
    """The text of a module, which may be in the archive that Ansible has sent."""
    loader = module.__spec__.loader if module.__spec__ else None
    return str(loader.get_source(module.__name__))  # type: ignore[union-attr]


def write(module: ModuleType, path: str) -> None:
    """The text of a module as a file of its own."""
    source = text_of(module)
    try:
        with open(path, encoding="utf-8") as stream:
            if stream.read() == source:
                return
    except FileNotFoundError:
        pass
    own_places.write(path, source, 0o600)
