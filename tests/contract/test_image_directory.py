"""Directories are made and given to their owners, and through no link that another user has made."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._module import file_attributes
from ansible_collections.platter.qemu.tests.lab.modules import call

#: a user that every host has, and nothing here runs as
DAEMON = 1
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def owned(path: Path) -> tuple[int, str]:
    seen = path.stat()
    return seen.st_uid, "%04o" % stat.S_IMODE(seen.st_mode)


def beats(**options: Any) -> dict[str, Any]:
    """The four beats; the result of the real run."""
    checked, real, again, last = (
        call("image_directory", check=check, **options) for check in (True, False, False, True)
    )
    assert (checked["changed"], real["changed"], again["changed"], last["changed"]) == (True, True, False, False), real
    assert checked["actions"] == real["actions"]
    return real


def refused(reason: str, **options: Any) -> dict[str, Any]:
    for check in (True, False):
        result = call("image_directory", check=check, **options)
        assert result.get("failed") and result.get("reason") == reason, result
        assert "Nothing was changed" in result["msg"]
    return result


def test_it_is_made_with_all_above_it(tmp_path: Path) -> None:
    place = tmp_path / "srv" / "vms" / "web1"
    checked = call("image_directory", check=True, path=str(place), owner="daemon", mode="0750")
    assert checked["changed"] and not (tmp_path / "srv").exists()
    result = beats(path=str(place), owner="daemon", mode="0750")
    assert result["actions"] == ["Make directory %s." % place]
    assert result["directory"] == {"path": str(place), "state": "present", "owner": "daemon", "mode": "0750"}
    assert [owned(each) for each in (place, place.parent)] == [(DAEMON, "0750")] * 2


def test_one_that_is_there_keeps_what_nobody_asks_for(tmp_path: Path) -> None:
    place = tmp_path / "images"
    place.mkdir(mode=0o711)
    (place / "image").write_text("")
    assert call("image_directory", path=str(place))["changed"] is False
    assert beats(path=str(place), group="daemon")["actions"] == ["Set group daemon of directory %s." % place]
    assert owned(place) == (0, "0711") and place.stat().st_gid == DAEMON
    assert owned(place / "image")[0] == 0


def test_a_mode_in_symbols(tmp_path: Path) -> None:
    place = tmp_path / "new"
    beats(path=str(place), mode="g+w")
    assert owned(place) == (0, "0775")


def test_many_are_refused_together(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    entries = [{"path": str(tmp_path / "first")}, {"path": str(tmp_path / "file" / "below")}]
    refused("directory_missing", directories=entries)
    assert not (tmp_path / "first").exists()
    entries[1]["path"] = str(tmp_path / "first" / "second")
    assert len(beats(directories=entries)["directories"]) == 2


def test_links_of_roots_are_followed(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    beats(path=str(tmp_path / "link" / "vms"), owner="daemon")
    assert owned(tmp_path / "there" / "vms")[0] == DAEMON


@pytest.mark.parametrize("below", ["", "vms", "vms/more"])
def test_a_link_of_another_user_is_refused(tmp_path: Path, below: str) -> None:
    victim = tmp_path / "victim"
    (victim / "vms").mkdir(parents=True)
    link = tmp_path / "link"
    link.symlink_to(victim)
    os.lchown(link, DAEMON, DAEMON)
    told = refused("unsafe_directory", path=str(link / below), owner="daemon", mode="0777")
    assert told["evidence"] == {"directory": str(tmp_path), "owner": DAEMON}
    assert owned(victim)[0] == owned(victim / "vms")[0] == 0 and not (victim / "vms" / "more").exists()


def test_a_link_to_nothing_is_not_made_a_directory(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    result = call("image_directory", path=str(tmp_path / "link" / "vms"))
    assert result["failed"] and not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("there", [True, False])
def test_what_takes_its_name_meanwhile_is_not_given_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    place, victim = tmp_path / "vms", tmp_path / "victim"
    victim.mkdir(mode=0o700)
    if there:
        place.mkdir()
    real = file_attributes.FileAttributes.apply

    def apply(self: Any, spec: Any, path: str) -> None:
        """As the owner of the directory above, between the look and the change."""
        place.rename(tmp_path / "moved")
        place.symlink_to(victim)
        real(self, spec, path)

    monkeypatch.setattr(file_attributes.FileAttributes, "apply", apply)
    call("image_directory", path=str(place), owner="daemon", mode="0777")
    assert owned(victim) == (0, "0700")
    assert owned(tmp_path / "moved") == (DAEMON, "0777")
