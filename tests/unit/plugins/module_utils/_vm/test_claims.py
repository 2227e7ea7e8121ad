"""What the drives of a VM open has one name, however it is written."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._drive import read_spec
from ansible_collections.platter.qemu.plugins.module_utils._vm import claims

Tree = t.Dict[str, t.Any]
ISCSI = {"driver": "iscsi", "transport": "tcp", "portal": "store1:3260", "target": "iqn.x:y", "lun": 0}
NBD: Tree = {"driver": "nbd", "server": {"type": "inet", "host": "localhost", "port": "10809"}, "export": ""}
RBD = {"driver": "rbd", "pool": "vms", "image": "web1"}


def place(file: Tree) -> str:
    spec = read_spec.read([{"id": "d", "image": {"blockdev": {"driver": "raw", "file": file}}, "device": "scsi-hd"}])
    (claim,) = claims.of_spec(spec)
    return claim.name


@pytest.mark.parametrize(
    ("one", "another"),
    [
        (ISCSI, {"driver": "iscsi", "transport": "iser", "portal": "Store1", "target": "iqn.x:y"}),
        (NBD, {"driver": "nbd", "server": dict(NBD["server"], host="127.0.0.1"), "reconnect-delay": 9}),
        (NBD, {"driver": "nbd", "server": dict(NBD["server"], host="::1")}),
        (RBD, dict(RBD, namespace="", user="admin")),
    ],
)
def test_two_names_of_one_place_on_a_server_are_one(one: Tree, another: Tree) -> None:
    assert place(one) == place(another)


@pytest.mark.parametrize(
    ("one", "another"),
    [
        (ISCSI, dict(ISCSI, lun=1)),
        (ISCSI, dict(ISCSI, portal="store1:3261")),
        (NBD, dict(NBD, export="b")),
        (NBD, {"driver": "nbd", "server": dict(NBD["server"], host="127.0.0.2")}),
        (RBD, dict(RBD, namespace="a")),
    ],
)
def test_other_places_are_others(one: Tree, another: Tree) -> None:
    assert place(one) != place(another)
