# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""QEMU's node of an image. Pure."""

from __future__ import annotations

import typing as t


def image_node(format_name: str, protocol: t.Mapping[str, t.Any], secret: t.Optional[str] = None) -> t.Dict[str, t.Any]:
    """The node of an image: its format over its protocol node. C(secret) is the id of a secret object."""
    node: t.Dict[str, t.Any] = {"driver": format_name, "file": dict(protocol)}
    if secret and format_name == "luks":
        node["key-secret"] = secret
    elif secret:
        node["encrypt"] = {"format": "luks", "key-secret": secret}
    return node
