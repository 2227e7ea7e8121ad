# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Whether the secret that a task gives opens the image that is there: asked before anything is done. Read-only."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core.header import Header
from ansible_collections.platter.qemu.plugins.module_utils._image import refuse
from ansible_collections.platter.qemu.plugins.module_utils._image.spec import ImageSpec
from ansible_collections.platter.qemu.plugins.module_utils._inspect import luks_secret
from ansible_collections.platter.qemu.plugins.module_utils._tools import process


def opened_node(
    spec: ImageSpec, header: Header, file: luks_secret.Node
) -> t.Tuple[t.Dict[str, t.Any], luks_secret.Secrets]:
    """(the node of the image in C(file), the secrets that it takes): none for one that is not encrypted."""
    return luks_secret.opened_node(header, file, spec.secrets)


def source_node(
    spec: ImageSpec, header: Header, file: luks_secret.Node
) -> t.Tuple[t.Dict[str, t.Any], luks_secret.Secrets]:
    """As C(opened_node), of the source of an import."""
    return luks_secret.opened_node(header, file, spec.import_secrets, "sec1")


def refuse_closed(run_command: process.RunCommand, spec: ImageSpec, header: Header, file: luks_secret.Node) -> None:
    """An image that is to be read or changed must open: no secret, and a wrong one, are refused."""
    problem = luks_secret.secret_problem(run_command, header, file, spec.secrets)
    if problem is not None:
        raise refuse.refused(spec, problem.reason, problem.fact, problem.way_out)
