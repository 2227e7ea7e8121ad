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
    *("description", "throttle", "delay", "allow_from", "encryption"),
)
_UNSET = ExportSpec("", "")


def define(spec: ExportSpec, ground: Ground) -> Definition:
    """The definition of an export, written down for a supervisor of ours."""
    server, options = servers.of(ground.server), shown_options(spec, ground)
    if spec.daemon is not None:
        return _in_daemon(spec, ground, options)
    made = Definition(tuple(server.command(spec, ground)), options, launcher=tuple(server.launcher(spec, ground)))
    return replace(made, text=to_line(made) + "\n")


def _in_daemon(spec: ExportSpec, ground: Ground, options: t.Dict[str, t.Any]) -> Definition:
    """What runs is the daemon, with a node of this name (C(server_storage_daemon.steps))."""
    from ansible_collections.platter.qemu.plugins.module_utils._export import server_storage_daemon

    host = _host(spec, ground, options)
    node, steps = server_storage_daemon.steps(spec, ground)
    argv, options = (*host.argv, node), dict(options, daemon=spec.daemon)
    text = json.dumps({"argv": argv, "options": options, "steps": steps}) + "\n"
    return Definition(argv, options, text, host=host)


def _host(spec: ExportSpec, ground: Ground, options: t.Mapping[str, t.Any]) -> Definition:
    """The daemon, of which its exports say the same."""
    shared = ("server", "supervisor", "socket", "bind", "port", "tls", "shared")
    shown = {key: options[key] for key in shared if key in options}
    argv = tuple(servers.of(ground.server).command(spec, ground))
    made = Definition(argv, dict(shown, read_only=False), loader=ground.loader)
    return replace(made, text=to_line(made) + "\n")


def to_line(made: Definition) -> str:
    """One line of ASCII that says all of it."""
    more = {key: list(value) for key, value in (("launcher", made.launcher), ("loader", made.loader)) if value}
    return json.dumps({"argv": list(made.argv), "options": made.options, **more})


def parse(text: str) -> t.Optional[Definition]:
    """What a file says; None where it was not written by us."""
    try:
        written = json.loads(text)
        words = (written["argv"], written.get("launcher", []), written.get("loader", []))
        argv, launcher, loader = (tuple(map(str, each)) for each in words)
        return Definition(argv, dict(written["options"]), text, launcher, loader)
    except (ValueError, LookupError, TypeError):
        return None


def _plain(value: t.Any) -> t.Any:
    """As JSON has it."""
    if hasattr(value, "_asdict"):
        return {key: inner for key, inner in value._asdict().items() if inner}
    return list(value) if isinstance(value, tuple) else value


def unset_options() -> t.Dict[str, t.Any]:
    """What options that are not shown stand for."""
    return {name: _plain(getattr(_UNSET, name)) for name in (*_MORE, "stop_timeout")}


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
        given: t.Dict[str, t.Any] = dict(vars(spec.tls), authorized=list(spec.tls.authorized))
        shown["tls"] = {key: value for key, value in given.items() if value}
    for name in _MORE:
        value = getattr(spec, name)
        if value != getattr(_UNSET, name):
            shown[name] = _plain(value)
    if ground.supervisor == "systemd" and spec.stop_timeout != _UNSET.stop_timeout:
        shown["stop_timeout"] = spec.stop_timeout
    return shown
