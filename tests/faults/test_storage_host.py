"""The role storage_host in a place of its own: root is led nowhere by those whom it serves."""

from __future__ import annotations

import json
import sys
import typing as t
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.tests.lab.diskless import OwnHost, own_host

pytestmark = pytest.mark.soak
PLAY = """
- hosts: localhost
  gather_facts: false
  roles: [platter.qemu.storage_host]
"""


def play(host: OwnHost, place: Path, directories: list[dict[str, t.Any]], *more: str) -> str:
    """What Ansible says."""
    (place / "play.yml").write_text(PLAY)
    variables = {"storage_host_packages_install": False, "storage_host_directories": directories}
    told = json.dumps({"ansible_python_interpreter": sys.executable, **variables})
    command = [Path(sys.executable).parent / "ansible-playbook", "-i", "localhost,", "-c", "local", "-e", told]
    return host.run(*command, place / "play.yml", *more, check=False)


def test_a_check_says_of_what_it_predicts_nothing_and_why(tmp_path: Path) -> None:
    image, export = {"path": "/srv/new/a.raw", "format": "raw", "size": "1M"}, {"name": "a", "image": "/srv/new/a.raw"}
    host_options = {
        "storage_host_packages_install": False,
        "storage_host_directories": [{"path": "/srv/new"}],
        "storage_host_tls": {"directory": "/srv/new/keys", "server": ["store1"], "clients": ["vmhost1"]},
        "storage_host_images": [image],
        "storage_host_exports": [{**export, "format": "raw", "bind": "127.0.0.1"}],
    }
    vm_options = {
        "diskless_vm_packages_install": False,
        "diskless_vm_name": "web1",
        "diskless_vm_root": {"by": "virtiofs", "socket": "/srv/fs.sock"},
        "diskless_vm_directory": "/srv/new",
    }
    with own_host(tmp_path) as host:
        told = checked(host, tmp_path, "storage_host", **host_options)
        unplanned = (
            "the keys in /srv/new/keys, as programs or the directory above are not there yet",
            "image /srv/new/a.raw, as its directory, its owner or programs are not there yet",
            "export a, as its image, its keys or programs are not there yet",
        )
        assert '"msg": "Not predicted: %s"' % "; ".join(unplanned) in told
        assert all('"- Not predicted: %s"' % each in told for each in unplanned)
        told = checked(host, tmp_path, "diskless_vm", **vm_options)
        place = "/srv/new/web1.initramfs, as its directory, the kernel or programs are not there yet"
        start = "web1, as its root tree, its first file system or its definition is not there yet"
        assert f'"msg": "Not predicted: its first file system {place}; the start of VM {start}"' in told


def checked(host: OwnHost, place: Path, role: str, **variables: t.Any) -> str:
    """What a run of the role says in check mode, on one line."""
    (place / "play.yml").write_text(PLAY.replace("storage_host", role))
    told = json.dumps({"ansible_python_interpreter": sys.executable, **variables})
    playbook = Path(sys.executable).parent / "ansible-playbook"
    command = [playbook, "-i", "localhost,", "-c", "local", "--check", "-e", told]
    said = " ".join(host.run(*command, place / "play.yml", check=False).split())
    assert " failed=0 " in said, said[-3000:]
    return said


def test_a_link_of_another_user_does_not_give_away_what_it_leads_to(tmp_path: Path) -> None:
    below = {"path": "/srv/images/theirs/", "owner": "1234", "mode": "0777"}
    deeper = {**below, "path": "/srv/images/theirs/new"}
    with own_host(tmp_path) as host:
        host.run(
            "sh", "-c", "mkdir /srv/images /srv/ours && chown 1234 /srv/images && ln -s /srv/ours /srv/images/theirs"
        )
        host.run("chown", "-h", "1234", "/srv/images/theirs")
        for directory in (below, deeper):
            for more in ((), ("--check",)):
                assert "(owner and name 1234 /srv/images/theirs)" in play(host, tmp_path, [directory], *more)
        assert host.run("stat", "-c", "%u %a", "/srv/ours") == "0 755\n"
        assert host.run("ls", "/srv/ours") == ""
        # one of root's is the administrator's own way of doing it
        host.run("sh", "-c", "rm /srv/images/theirs && chown 0 /srv/images && ln -s /srv/ours /srv/images/theirs")
        assert " failed=0 " in play(host, tmp_path, [deeper])
        assert host.run("stat", "-c", "%u %a", "/srv/ours/new") == "1234 777\n"
        assert " changed=0 " in play(host, tmp_path, [deeper])
