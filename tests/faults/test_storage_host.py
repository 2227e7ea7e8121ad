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
