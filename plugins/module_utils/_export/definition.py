# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The definition of an export: its server's command line, and how both are written down. Pure."""

from __future__ import annotations

import json
import typing as t
from dataclasses import replace
from urllib.parse import quote

from ansible_collections.platter.qemu.plugins.module_utils._export import servers
from ansible_collections.platter.qemu.plugins.module_utils._export.ground import Ground
from ansible_collections.platter.qemu.plugins.module_utils._export.spec import ExportSpec
from ansible_collections.platter.qemu.plugins.module_utils._export.state import Definition

#: options that are shown when they are not what they would be without being given
_MORE = (
    *("snapshot", "offset", "size", "partition", "bitmaps", "allocation_depth", "discard", "cache", "cow", "shared"),
    *("description", "throttle", "delay", "allow_from"),
)
_UNSET = ExportSpec("", "")


def define(spec: ExportSpec, ground: Ground) -> Definition:
    """The definition of an export, written down for a supervisor of ours."""
    server, options = servers.of(ground.server), shown_options(spec, ground)
    made = Definition(tuple(server.command(spec, ground)), options, launcher=tuple(server.launcher(spec, ground)))
    return replace(made, text=to_line(made) + "\n")


def to_line(made: Definition) -> str:
    """One line of ASCII that says all of it."""
    launcher = {"launcher": list(made.launcher)} if made.launcher else {}
    return json.dumps({"argv": list(made.argv), "options": made.options, **launcher})


def parse(text: str) -> t.Optional[Definition]:
    """What a file says; None where it was not written by us."""
    try:
        written = json.loads(text)
        argv, launcher = (tuple(map(str, words)) for words in (written["argv"], written.get("launcher", [])))
        return Definition(argv, dict(written["options"]), text, launcher)
    except (ValueError, LookupError, TypeError):
        return None


def _plain(value: t.Any) -> t.Any:
    """As JSON has it."""
    if hasattr(value, "_asdict"):
        return {key: inner for key, inner in value._asdict().items() if inner}
    return list(value) if isinstance(value, tuple) else value


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
        given: t.Dict[str, t.Any] = {"x509_dir": spec.tls.x509_dir, "authorized": list(spec.tls.authorized)}
        given.update(psk_file=spec.tls.psk_file, any_client=spec.tls.any_client)
        shown["tls"] = {key: value for key, value in given.items() if value}
    for name in _MORE:
        value = getattr(spec, name)
        if value != getattr(_UNSET, name):
            shown[name] = _plain(value)
    if ground.supervisor == "systemd" and spec.stop_timeout != _UNSET.stop_timeout:
        shown["stop_timeout"] = spec.stop_timeout
    return shown
