"""Imports from URLs, with a real server: checksums, redirects, authorization, and fetching again only what changed."""

from __future__ import annotations

import base64
import gzip
import hashlib
import os
from pathlib import Path
from typing import Any, Iterator

import pytest

from ansible_collections.platter.qemu.tests.lab.beats import four_beats, refused, settled
from ansible_collections.platter.qemu.tests.lab.guest import MIB, facts, scribble, shows
from ansible_collections.platter.qemu.tests.lab.http_server import Resource, Site, certificate, serving
from ansible_collections.platter.qemu.tests.lab.loops import mounted
from ansible_collections.platter.qemu.tests.lab.modules import call, prepared
from ansible_collections.platter.qemu.tests.lab.oracle import create

#: check mode does not download
UNKNOWN = ("virtual_size", "source")


@pytest.fixture
def content(tmp_path: Path) -> bytes:
    (tmp_path / "away").mkdir()
    path = create(tmp_path / "away" / "disk.qcow2", "qcow2", "4M")
    scribble(path, "qcow2")
    return path.read_bytes()


@pytest.fixture
def site(content: bytes) -> Iterator[Site]:
    with serving() as site:
        site.resources["/disk.qcow2"] = Resource(content)
        yield site


def task(tmp_path: Path, site: Site, name: str = "/disk.qcow2", **more: Any) -> dict[str, Any]:
    source = {"url": site.url(name), "format": "qcow2", **more}
    return {"path": str(tmp_path / "image.qcow2"), "format": "qcow2", "source": source}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_an_image_is_fetched_once(tmp_path: Path, site: Site) -> None:
    given = task(tmp_path, site)
    four_beats(**given, unpredictable=UNKNOWN)
    shows(given["path"], "qcow2")
    assert site.methods().count("GET") == 1


def test_the_checksum_is_verified(tmp_path: Path, site: Site, content: bytes) -> None:
    four_beats(**task(tmp_path, site, checksum=f"sha256:{sha256(content)}"), unpredictable=UNKNOWN)


def test_a_wrong_checksum_leaves_nothing(tmp_path: Path, site: Site) -> None:
    result = call("disk_image", **task(tmp_path, site, checksum="sha256:" + "0" * 64))
    assert (result["failed"], result["reason"], result["changed"]) == (True, "checksum_mismatch", False)
    assert [entry.name for entry in tmp_path.iterdir()] == ["away"]


@pytest.mark.parametrize(
    "line", ["{digest}  disk.qcow2", "{digest} *disk.qcow2", "SHA256 (disk.qcow2) = {digest}", "{digest}"]
)
def test_the_checksum_is_looked_up_in_a_file(tmp_path: Path, site: Site, content: bytes, line: str) -> None:
    others = "" if line == "{digest}" else f"{'0' * 64}  other.qcow2\n"
    site.resources["/SHA256SUMS"] = Resource((others + line.format(digest=sha256(content)) + "\n").encode())
    four_beats(**task(tmp_path, site, checksum="sha256:" + site.url("/SHA256SUMS")), unpredictable=UNKNOWN)
    shows(tmp_path / "image.qcow2", "qcow2")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(tmp_path: Path, site: Site, status: int) -> None:
    site.resources["/latest"] = Resource(location=site.url("/disk.qcow2"), redirect_status=status)
    four_beats(**task(tmp_path, site, "/latest"), unpredictable=UNKNOWN)
    shows(tmp_path / "image.qcow2", "qcow2")


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1/"])
def test_a_redirect_to_another_protocol_is_not_followed(tmp_path: Path, site: Site, location: str) -> None:
    site.resources["/latest"] = Resource(location=location)
    result = call("disk_image", **task(tmp_path, site, "/latest"))
    assert (result["failed"], result["changed"]) == (True, False)
    assert [entry.name for entry in tmp_path.iterdir()] == ["away"]


def test_an_interrupted_transfer_is_resumed(tmp_path: Path, site: Site, content: bytes) -> None:
    site.resources["/disk.qcow2"].cut_after = [len(content) // 2]
    result = call("disk_image", **task(tmp_path, site, checksum=f"sha256:{sha256(content)}"))
    if result.get("failed"):  # or the next run goes on
        result = call("disk_image", **task(tmp_path, site, checksum=f"sha256:{sha256(content)}"))
    assert result["changed"]
    assert any("range" in asked.headers for asked in site.asked)
    shows(tmp_path / "image.qcow2", "qcow2")


def test_what_is_missing_on_the_server_fails_without_a_change(tmp_path: Path, site: Site) -> None:
    result = call("disk_image", **task(tmp_path, site, "/none.qcow2"))
    assert (result["failed"], result["changed"]) == (True, False)
    assert "404" in result["msg"]


def test_a_server_without_head_is_asked_otherwise(tmp_path: Path, site: Site) -> None:
    site.resources["/disk.qcow2"].head = False
    four_beats(**task(tmp_path, site), unpredictable=UNKNOWN)
    shows(tmp_path / "image.qcow2", "qcow2")


def test_a_busy_server_is_asked_again(tmp_path: Path, site: Site) -> None:
    site.resources["/disk.qcow2"].statuses = [503] * 4  # a HEAD and a GET, twice
    assert call("disk_image", check=True, **task(tmp_path, site))["changed"]
    assert site.methods() == ["HEAD", "GET"] * 2 + ["HEAD"]


def test_check_mode_does_not_say_that_it_has_verified(tmp_path: Path, site: Site, content: bytes) -> None:
    given = task(tmp_path, site, checksum="sha256:" + "0" * 64)
    checked = call("disk_image", check=True, **given)
    assert checked["changed"] and checked["actions"][0].endswith(" as qcow2, only if its sha256 is as given.")
    assert "verified" not in str(checked)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 32 MiB, of which 16 MiB are kept free."""
    directory = tmp_path / "small"
    directory.mkdir()
    with mounted("tmpfs", directory, "-t", "tmpfs", "-o", "size=32m"):
        yield directory


LARGE = os.urandom(20 * MIB)


@pytest.mark.parametrize(
    ("name", "source"), [("/l.qcow2", {}), ("/l.raw.xz", {"format": "raw"}), ("/l", {"compression": "gzip"})]
)
def test_what_has_no_room_is_not_fetched(small: Path, site: Site, name: str, source: dict[str, Any]) -> None:
    site.resources[name] = Resource(LARGE)
    result = refused("would_exceed_space", **task(small, site, name, **source))
    assert result["evidence"]["needed_bytes"] == len(LARGE)
    assert site.methods() == ["HEAD", "HEAD"]


@pytest.mark.parametrize(
    ("more", "reason"), [({"size": "3M"}, "shrink_refused"), ({"max_virtual_size": "3M"}, "bad_size")]
)
def test_an_overlay_on_a_base_that_is_fetched_is_refused_when_that_has_come(
    tmp_path: Path, site: Site, more: dict[str, Any], reason: str
) -> None:
    base = task(tmp_path, site)
    backing = {"path": base["path"], "format": "qcow2"}
    over = {"path": str(tmp_path / "overlay"), "format": "qcow2", "backing": backing, **more}
    result = call("disk_image", images=[over, base])
    assert [each.get("reason") for each in result["images"]] == [reason, None], result
    assert result["failed"] and result["images"][0]["msg"].startswith("refused: ")
    assert not (tmp_path / "overlay").exists()
    shows(Path(base["path"]), "qcow2")
    (tmp_path / "image.qcow2").unlink()
    freed = {**over, "allow_shrink": True, "max_virtual_size": "1G"}
    settled_list = [freed, base]
    assert call("disk_image", images=settled_list)["changed"] and not call("disk_image", images=settled_list)["changed"]
    assert facts(tmp_path / "overlay", "qcow2")["virtual-size"] == (3 if "size" in more else 4) * MIB


def test_downloads_of_one_task_share_the_room(small: Path, site: Site) -> None:
    site.resources["/disk.qcow2"] = Resource(LARGE[: 9 * MIB])
    entries = [dict(task(small, site), path=str(small / name)) for name in ("one", "two")]
    result = call("disk_image", check=True, images=entries)
    assert [entry.get("reason") for entry in result["images"]] == [None, "would_exceed_space"]


def test_zeros_of_a_raw_download_take_no_room(small: Path, site: Site) -> None:
    site.resources["/disk.raw"] = Resource(bytes(40 * MIB) + b"end" * 1000)
    four_beats(**task(small, site, "/disk.raw", format="raw"), unpredictable=UNKNOWN)


@pytest.mark.parametrize("packed", [False, True])
def test_a_disk_that_fills_up_meanwhile_is_told(small: Path, site: Site, packed: bool) -> None:
    """What a server does not say beforehand, and what comes out of a packed file."""
    content = gzip.compress(b"0123456789abcdef" * (2 * MIB), 1) if packed else LARGE * 2
    site.resources["/disk"] = Resource(content, length=False)
    result = call("disk_image", **task(small, site, "/disk", format="raw"))
    assert (result["failed"], result["changed"], result["reason"]) == (True, False, "would_exceed_space")
    assert site.url("/disk") in result["msg"] and "Make room" in result["msg"]
    assert "16 MiB" in result["msg"], "the others in this file system need room too"
    assert ".platter-tmp" not in result["msg"] and list(small.iterdir()) == []


def test_a_packed_download_is_unpacked(tmp_path: Path, site: Site, content: bytes) -> None:
    site.resources["/disk.qcow2.gz"] = Resource(gzip.compress(content))
    four_beats(**task(tmp_path, site, "/disk.qcow2.gz"), unpredictable=UNKNOWN)
    shows(tmp_path / "image.qcow2", "qcow2")


def test_a_changed_etag_is_another_source(tmp_path: Path, site: Site, content: bytes) -> None:
    given = task(tmp_path, site)
    four_beats(**given, source_policy="if_changed", unpredictable=UNKNOWN)
    assert site.methods().count("GET") == 1
    other = create(tmp_path / "away" / "other.qcow2", "qcow2", "4M")
    scribble(other, "qcow2", ((0x99, 0, MIB),))
    site.resources["/disk.qcow2"] = Resource(other.read_bytes(), etag='"v2"')
    settled(**given)
    four_beats(**given, source_policy="if_changed", unpredictable=UNKNOWN)
    shows(given["path"], "qcow2", ((0x99, 0, MIB),))


def test_a_changed_checksum_file_is_another_source(tmp_path: Path, site: Site, content: bytes) -> None:
    site.resources["/SUMS"] = Resource(f"{sha256(content)}  disk.qcow2\n".encode())
    given = task(tmp_path, site, checksum="sha256:" + site.url("/SUMS"))
    four_beats(**given, source_policy="if_changed", unpredictable=UNKNOWN)
    other = create(tmp_path / "away" / "other.qcow2", "qcow2", "4M")
    scribble(other, "qcow2", ((0x99, 0, MIB),))
    site.resources["/disk.qcow2"] = Resource(other.read_bytes())
    site.resources["/SUMS"] = Resource(f"{sha256(other.read_bytes())}  disk.qcow2\n".encode(), etag='"v2"')
    four_beats(**given, source_policy="if_changed", unpredictable=UNKNOWN)
    shows(given["path"], "qcow2", ((0x99, 0, MIB),))


def test_a_checksum_of_another_kind_is_no_other_source(tmp_path: Path, site: Site, content: bytes) -> None:
    """What the server says of the file counts then."""
    given = task(tmp_path, site, checksum=f"sha256:{sha256(content)}")
    four_beats(**given, source_policy="if_changed", unpredictable=UNKNOWN)
    given["source"]["checksum"] = f"sha512:{hashlib.sha512(content).hexdigest()}"
    settled(**given, source_policy="if_changed")
    site.resources["/disk.qcow2"] = Resource(content, etag='"v2"')
    four_beats(**given, source_policy="if_changed", unpredictable=UNKNOWN)
    assert site.methods().count("GET") == 2


def test_user_and_password_are_sent_and_never_shown(tmp_path: Path, site: Site) -> None:
    basic = "Basic " + base64.b64encode(b"me:ge:heim").decode()
    site.resources["/disk.qcow2"].need_authorization = basic
    result = call("disk_image", **task(tmp_path, site))
    assert result["failed"]
    result = four_beats(**task(tmp_path, site, username="me", password="ge:heim"), unpredictable=UNKNOWN)
    assert "ge:heim" not in str(result) and basic not in str(result)
    given = task(tmp_path, site)
    given["source"]["url"] = given["source"]["url"].replace("//", "//me:ge%3Aheim@")
    result = four_beats(**{**given, "path": str(tmp_path / "other")}, unpredictable=UNKNOWN)
    assert "heim" not in str(result)


def test_headers_are_sent_and_never_shown(tmp_path: Path, site: Site) -> None:
    result = four_beats(**task(tmp_path, site, headers={"X-Token": "abc-def"}), unpredictable=UNKNOWN)
    assert {asked.headers.get("x-token") for asked in site.asked} == {"abc-def"}
    wrong = call("disk_image", **task(tmp_path, site, "/none", headers={"X-Token": "abc-def"}), size="abc-def")
    assert wrong["failed"] and "abc-def" not in str([result, wrong])


def test_what_is_for_a_server_with_tls_is_not_sent_to_one_without(tmp_path: Path, site: Site, content: bytes) -> None:
    """A file of checksums at the same address, but another scheme: whoever answers there is not who was meant."""
    site.resources["/SUMS"] = Resource(f"{sha256(content)}  disk.qcow2\n".encode())
    given = task(tmp_path, site, username="me", password="ge:heim", headers={"X-Token": "abc-def"})
    given["source"]["checksum"] = "sha256:" + site.url("/SUMS")
    given["source"]["url"] = given["source"]["url"].replace("http:", "https:")
    assert call("disk_image", **given)["reason"] == "tls_failed"
    assert [asked.path for asked in site.asked] == ["/SUMS"]
    assert not {"authorization", "x-token"} & set(site.asked[0].headers)
    given["source"]["url"] = site.url("/disk.qcow2")
    assert call("disk_image", **given)["changed"]
    assert {"authorization", "x-token"} <= set(site.asked[1].headers)


def test_a_foreign_certificate_is_refused_unless_it_is_named(tmp_path: Path, content: bytes) -> None:
    context, authority = certificate(tmp_path / "away")
    with serving(context) as site:
        site.resources["/disk.qcow2"] = Resource(content)
        assert call("disk_image", **task(tmp_path, site))["failed"]
        four_beats(**task(tmp_path, site, ca_path=authority), unpredictable=UNKNOWN)
        (tmp_path / "image.qcow2").unlink()
        four_beats(**task(tmp_path, site, validate_certs=False), unpredictable=UNKNOWN)


def test_a_hostile_download_is_refused(tmp_path: Path, site: Site) -> None:
    hostile = create(tmp_path / "away" / "h", "qcow2", "4M", "", "-u", "-b", "/etc/passwd", "-F", "raw")
    site.resources["/h"] = Resource(hostile.read_bytes())
    result = call("disk_image", **task(tmp_path, site, "/h"))
    assert (result["failed"], result["reason"], result["changed"]) == (True, "image_references_file", False)
    assert [entry.name for entry in tmp_path.iterdir()] == ["away"]


def test_an_image_that_is_there_needs_no_server(tmp_path: Path, content: bytes) -> None:
    with serving() as site:
        site.resources["/disk.qcow2"] = Resource(content)
        prepared("disk_image", **task(tmp_path, site))
    settled(**task(tmp_path, site))


def test_a_url_given_as_path_is_a_url(tmp_path: Path, site: Site) -> None:
    source = {"path": site.url("/disk.qcow2"), "format": "qcow2"}
    four_beats(path=str(tmp_path / "image"), format="qcow2", source=source, unpredictable=UNKNOWN)


def test_a_url_with_a_password_is_refused(tmp_path: Path) -> None:
    source = {"path": "http://me:geheim@127.0.0.1/x", "format": "qcow2"}
    result = refused("bad_path", path=str(tmp_path / "image"), format="qcow2", source=source)
    assert "geheim" not in result["msg"]


def test_another_source_than_the_image_was_made_from_is_told(tmp_path: Path, site: Site, content: bytes) -> None:
    old, new = f"sha256:{sha256(content)}", "sha256:" + "0" * 64
    given = task(tmp_path, site, checksum=old)
    prepared("disk_image", **given)
    assert "warnings" not in call("disk_image", **given)
    given["source"]["checksum"] = new
    settled(**given)
    asked = len(site.asked)
    told = str(call("disk_image", check=True, **given)["warnings"])
    assert old in told and new in told and "source_policy to if_changed" in told
    assert len(site.asked) == asked
    for same in ("md5:" + "0" * 32, "sha256:" + site.url("/SUMS"), old.upper().replace("SHA256", "sha256")):
        given["source"]["checksum"] = same
        assert "warnings" not in call("disk_image", **given), same


def test_other_sources_of_a_list_are_told_once(tmp_path: Path, site: Site, content: bytes) -> None:
    entries = [dict(task(tmp_path, site), path=str(tmp_path / f"{at}.qcow2")) for at in range(7)]
    for entry in entries:
        entry["source"] = {**entry["source"], "checksum": f"sha256:{sha256(content)}"}
    assert call("disk_image", images=entries)["changed"]
    for entry in entries:
        entry["source"]["checksum"] = "sha256:" + "0" * 64
    warnings = call("disk_image", images=entries)["warnings"]
    assert len(warnings) == 1 and f"7 images ({tmp_path}/0.qcow2, " in str(warnings)
