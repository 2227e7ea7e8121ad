# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What runs under a supervisor of ours (C(supervise.py)): how that is started, what it has said, what is left of it."""

from __future__ import annotations

import os
import shutil
import sys
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._tools import files, process, supervise

#: seconds until the supervisor has left us
PATIENCE = 30.0
#: of the log, in a message
_TAIL = 2000


def start(run: process.RunCommand, program: str, directory: str, *more: str, timeout: float = PATIENCE) -> None:
    """Returns when the supervisor has left us; it does so by itself: without our descriptors, our environment, our session.

    C(program): the file of the supervisor; C(directory): of what it runs; C(more): the process that it takes over.
    C(timeout): seconds until it has.
    """
    environment = ["%s=%s" % pair for pair in supervise.ENVIRONMENT.items()]
    words = [sys.executable, "-I", "-S", program, directory]
    process.run(run, ["env", "-i", *environment, *words, *more], timeout=timeout)


def log_file(directory: str) -> str:
    """What the server and its supervisor have said."""
    return os.path.join(directory, "log")


def said(directory: str) -> t.List[str]:
    """The last lines of its log."""
    try:
        with open(log_file(directory), "rb") as stream:
            stream.seek(max(os.fstat(stream.fileno()).st_size - _TAIL, 0))
            return stream.read().decode("utf-8", "replace").strip().splitlines()[-4:]
    except OSError:
        return []


def remove(directory: str) -> None:
    """With the log."""
    if os.path.isdir(directory):
        shutil.rmtree(directory)
        files.fsync_path(os.path.dirname(directory))
