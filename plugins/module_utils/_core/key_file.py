# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""Refusals of files that hold secrets. Pure: whoever reads the file looks at its mode."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors


def refuse_foreign(mode: int, owner: int, me: int, file: str, subject: str) -> None:
    """A file with a secret, to be read by the user C(me): nobody else reads it, or can put another secret there."""
    if mode & 0o077:
        raise bad_key(file, subject, "its mode is %04o" % (mode & 0o7777), "key_permissions")
    if owner not in (0, me):
        way_out = "Give it to root, or to the user who runs the task."
        raise bad_key(file, subject, "it belongs to another user (%d)" % owner, "key_permissions", way_out)


def refuse_shared(mode: int, file: str, subject: str) -> None:
    """A key of TLS, which servers read as members of its group. C(mode): the permissions of the file."""
    if mode & 0o037:
        raise bad_key(file, subject, "its mode is %04o" % (mode & 0o7777), "key_permissions")


def bad_key(file: str, subject: str, fact: str, reason: str, way_out: t.Optional[str] = None) -> errors.SpecError:
    """The refusal of a file. C(subject): what it is the key of."""
    return errors.SpecError(
        "use of the secret file %s" % file,
        subject,
        fact,
        reason=reason,
        way_out=way_out or "Make it readable for its owner only (mode 0600).",
    )
