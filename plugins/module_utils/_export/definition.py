# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The definition of an export: its server's command line, and how both are written down. Pure."""

from __future__ import annotations

import json
import typing as t
from urllib.parse import quote

from ansible_collections.platter.qemu.plugins.module_utils._export import servers
from ansible_collections.platter.qemu.plugins.module_utils._export.ground import Ground
from ansible_collections.platter.qemu.plugins.module_utils._export.spec import ExportSpec
from ansible_collections.platter.qemu.plugins.module_utils._export.state import Definition

#: options that are shown when they are not what they would be without being given
_MORE = ("snapshot", "offset", "size", "bitmaps", "allocation_depth", "discard", "cache", "shared", "description")
_UNSET = ExportSpec("", "")


def define(spec: ExportSpec, ground: Ground) -> Definition:
    """The definition of an export, written down for a supervisor of ours."""
    argv, options = servers.of(ground.server).command(spec, ground), shown_options(spec, ground)
    return Definition(tuple(argv), options, to_line(argv, options) + "\n")


def to_line(argv: t.Sequence[str], options: t.Mapping[str, t.Any]) -> str:
    """One line of ASCII that says all of it."""
    return json.dumps({"argv": list(argv), "options": options})


def parse(text: str) -> t.Optional[Definition]:
    """What a file says; None where it was not written by us."""
    try:
        written = json.loads(text)
        return Definition(tuple(str(word) for word in written["argv"]), dict(written["options"]), text)
    except (ValueError, LookupError, TypeError):
        return None


def shown_options(spec: ExportSpec, ground: Ground) -> t.Dict[str, t.Any]:
    """The options of an export as results show them."""
    shown: t.Dict[str, t.Any] = {
        "image": spec.image,
        "format": spec.format,
        "read_only": spec.read_only,
        "server": ground.server,
        "supervisor": ground.supervisor,
    }
    if spec.bind is None:
        shown.update(
            socket=spec.socket,
            uri="nbd+unix:///%s?socket=%s" % (spec.name, quote(str(spec.socket), errors="surrogateescape")),
        )
    else:
        scheme = "nbds" if spec.tls else "nbd"
        shown.update(bind=spec.bind, port=spec.port, uri="%s://%s/%s" % (scheme, spec.where, spec.name))
    if spec.tls:
        given = {"x509_dir": spec.tls.x509_dir, "authorized": list(spec.tls.authorized), "psk_file": spec.tls.psk_file}
        shown["tls"] = {key: value for key, value in given.items() if value}
    for name in _MORE:
        value = getattr(spec, name)
        if value != getattr(_UNSET, name):
            shown[name] = list(value) if isinstance(value, tuple) else value
    if ground.supervisor == "systemd" and spec.stop_timeout != _UNSET.stop_timeout:
        shown["stop_timeout"] = spec.stop_timeout
    return shown
