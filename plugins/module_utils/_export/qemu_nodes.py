# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What QEMU's own servers are told: the tree of block nodes of an export, and who may connect. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import image_nodes
from ansible_collections.platter.qemu.plugins.module_utils._export.ground import Ground
from ansible_collections.platter.qemu.plugins.module_utils._export.spec import ExportSpec, TlsSpec

Node = t.Dict[str, t.Any]
#: what QEMU calls the file of pre-shared keys in a directory of its own
PSK_NAME = "keys.psk"


def tls_objects(tls: TlsSpec, ground: Ground) -> t.List[Node]:
    """First that by which clients have to prove who they are, and with certificates C(authz0), who of them may come in. The
    name of the first tells the certificates: a server with others is another one.
    """
    name = "tls-" + ground.certificates if ground.certificates else "tls0"
    made: Node = {"qom-type": "tls-creds-psk", "id": name, "endpoint": "server", "dir": ground.directory}
    if tls.psk_file:
        return [made]
    made.update({"qom-type": "tls-creds-x509", "dir": tls.x509_dir, "verify-peer": True})
    if tls.any_client:
        return [made]
    rules = [{"match": name, "policy": "allow", "format": "exact"} for name in tls.authorized]
    return [made, {"qom-type": "authz-list", "id": "authz0", "policy": "deny", "rules": rules}]


def cannot(spec: ExportSpec) -> str:
    """The first of the things asked that none of QEMU's servers can do."""
    return next((text for is_so, text in _lacks(spec) if is_so), "")


def _lacks(spec: ExportSpec) -> t.Iterator[t.Tuple[t.Any, str]]:
    yield spec.partition is not None, "finds no partitions"
    yield spec.cow, "has no place for what is not to be kept"
    yield spec.delay, "does not delay"
    yield spec.allow_from, "does not look at the addresses of clients"


class Ids(t.NamedTuple):
    """What the objects are called that the nodes of an export name."""

    throttle: str = "throttle0"
    secret: str = "secret0"


def objects(spec: ExportSpec, ids: t.Optional[Ids] = None) -> t.List[Node]:
    """The secret and the limits that C(image_node) names."""
    ids = ids or Ids()
    made: t.List[Node] = []
    if spec.encryption:
        made.append({"qom-type": "secret", "id": ids.secret, "file": spec.encryption.secret_file})
    if spec.throttle:
        given = {"bps-total": spec.throttle.bps, "iops-total": spec.throttle.iops}
        limits = {key: value for key, value in given.items() if value}
        made.append({"qom-type": "throttle-group", "id": ids.throttle, "limits": limits})
    return made


def image_node(spec: ExportSpec, ground: Ground, ids: t.Optional[Ids] = None) -> Node:
    """The blockdev tree of what is served: the image in its format, the window of it if only a part is asked, and limits."""
    ids = ids or Ids()
    node = _window(spec, ground, ids)
    return {"driver": "throttle", "throttle-group": ids.throttle, "file": node} if spec.throttle else node


def _window(spec: ExportSpec, ground: Ground, ids: Ids) -> Node:
    protocol = {"driver": "host_device" if ground.device else "file", "filename": ground.target}
    node = image_nodes.image_node(str(spec.format), protocol, ids.secret if spec.encryption else None)
    if spec.windowed:
        window = {"driver": "raw", "offset": spec.offset}
        window.update({"size": spec.size} if spec.size is not None else {})
        # a raw image needs no second node for its window
        return dict(window, file=protocol if spec.format == "raw" else node)
    return node
