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

from ansible_collections.platter.qemu.plugins.module_utils._export.spec import ExportSpec, TlsSpec
from ansible_collections.platter.qemu.plugins.module_utils._export.state import Definition

#: options that are shown when they are not what they would be without being given
_MORE = ("snapshot", "offset", "size", "bitmaps", "allocation_depth", "discard", "cache", "shared", "description")
_UNSET = ExportSpec("", "")
#: what QEMU calls the file of pre-shared keys in a directory of its own
PSK_NAME = "keys.psk"


class Ground(t.NamedTuple):
    """What a definition is made from beside the task. C(target): the file behind the image's name; C(device): it is a
    block device; C(program): the server's absolute path; C(directory): that of the export, for the keys of clients;
    C(supervisor): what starts the server again, C(process) or C(systemd).
    """

    target: str
    device: bool
    program: str
    directory: str = ""
    supervisor: str = "process"


def define(spec: ExportSpec, ground: Ground) -> Definition:
    """The definition of an export, written down for a supervisor of ours."""
    argv, options = qemu_nbd_command(spec, ground), shown_options(spec, ground.supervisor)
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


def shown_options(spec: ExportSpec, supervisor: str) -> t.Dict[str, t.Any]:
    """The options of an export as results show them."""
    shown: t.Dict[str, t.Any] = {
        "image": spec.image,
        "format": spec.format,
        "read_only": spec.read_only,
        "server": "qemu_nbd",
        "supervisor": supervisor,
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
    if supervisor == "systemd" and spec.stop_timeout != _UNSET.stop_timeout:
        shown["stop_timeout"] = spec.stop_timeout
    return shown


def qemu_nbd_command(spec: ExportSpec, ground: Ground) -> t.List[str]:
    """C(qemu-nbd) in the foreground: it must not leave with its first client, and is told the format of the image."""
    words = [
        ground.program,
        "--persistent",
        "--shared=%d" % spec.shared,
        "--export-name=" + spec.name,
        "--cache=" + spec.cache,
    ]
    words += ["--socket=%s" % spec.socket] if spec.bind is None else ["--bind=" + spec.bind, "--port=%d" % spec.port]
    words += _tls_words(spec.tls, ground.directory) if spec.tls else []
    if spec.read_only:
        words.append("--read-only")
    if spec.snapshot is not None:
        words.append("--load-snapshot=snapshot.name=" + spec.snapshot.replace(",", ",,"))
    words += ["--bitmap=" + name for name in spec.bitmaps]
    if spec.allocation_depth:
        words.append("--allocation-depth")
    if spec.discard:
        words.append("--discard=unmap")
    if spec.description is not None:
        words.append("--description=" + spec.description)
    return [*words, "json:" + json.dumps(image_node(spec, ground), sort_keys=True)]


def _tls_words(tls: TlsSpec, directory: str) -> t.List[str]:
    """Clients have to prove who they are, in each case. As JSON (QEMU 6.0), commas in names are no separators."""
    made: t.Dict[str, t.Any] = {"qom-type": "tls-creds-psk", "id": "tls0", "endpoint": "server", "dir": directory}
    if tls.psk_file:
        return ["--object=" + json.dumps(made, sort_keys=True), "--tls-creds=tls0"]
    made.update({"qom-type": "tls-creds-x509", "dir": tls.x509_dir, "verify-peer": True})
    rules = [{"match": name, "policy": "allow", "format": "exact"} for name in tls.authorized]
    names = {"qom-type": "authz-list", "id": "authz0", "policy": "deny", "rules": rules}
    objects = ["--object=" + json.dumps(each, sort_keys=True) for each in (made, names)]
    return [*objects, "--tls-creds=tls0", "--tls-authz=authz0"]


def image_node(spec: ExportSpec, ground: Ground) -> t.Dict[str, t.Any]:
    """The blockdev tree of what is served: the image in its format, and the window of it if only a part is asked."""
    protocol = {"driver": "host_device" if ground.device else "file", "filename": ground.target}
    node: t.Dict[str, t.Any] = {"driver": spec.format, "file": protocol}
    if spec.windowed:
        window = {"driver": "raw", "offset": spec.offset}
        window.update({"size": spec.size} if spec.size is not None else {})
        # a raw image needs no second node for its window
        return dict(window, file=protocol if spec.format == "raw" else node)
    return node
