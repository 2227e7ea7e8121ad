"""Every reason code has a test; here are those that belong to no other topic."""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path
from typing import Any, Iterator

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._core.errors import RefusedError
from ansible_collections.platter.qemu.plugins.module_utils._tools.image_lock import hold_image_lock
from ansible_collections.platter.qemu.tests.lab.beats import refused
from ansible_collections.platter.qemu.tests.lab.guest import scribble
from ansible_collections.platter.qemu.tests.lab.http_server import Resource, Site, certificate, serving
from ansible_collections.platter.qemu.tests.lab.modules import call, prepared
from ansible_collections.platter.qemu.tests.lab.oracle import create, qemu_img

ROOT = Path(__file__).resolve().parents[2]
CODE = re.compile(r"[a-z]+(_[a-z]+)+|hardlinked")
#: helpers whose arguments are names of other things as well
RAISING = re.compile(r"refuse|ChainProblem|^_end$|_bad_key|_nbd_error|RefusedError|SpecError")


def codes() -> Iterator[str]:
    """The literal reason codes of the plugins: the keyword C(reason), and arguments of what makes refusals."""
    for file in (ROOT / "plugins").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.keyword) and node.arg == "reason" and isinstance(node.value, ast.Constant):
                yield str(node.value.value)
            if isinstance(node, ast.Call) and RAISING.search(_name(node.func)):
                literals = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
                yield from (value for value in literals if CODE.fullmatch(value))


def _name(function: ast.expr) -> str:
    return getattr(function, "id", getattr(function, "attr", ""))


def test_every_reason_code_has_a_test() -> None:
    written = "".join(file.read_text() for file in (ROOT / "tests").rglob("test_*.py"))
    found = set(codes())
    assert len(found) > 40
    assert sorted(code for code in found if f'"{code}"' not in written) == []


def test_every_reason_code_is_documented() -> None:
    documented = "".join(file.read_text() for file in (ROOT / "docs").rglob("*.*") if file.suffix in (".md", ".rst"))
    assert sorted(code for code in set(codes()) if code not in documented) == []


@pytest.mark.parametrize("wrong", [{"size": "banana"}, {"size": "0"}, {"format": "qed", "options": {"compat": "1.1"}}])
def test_every_result_has_the_same_keys(tmp_path: Path, wrong: dict[str, Any]) -> None:
    result = call("disk_image", **{"path": str(tmp_path / "image"), "format": "raw", **wrong})
    assert (result["changed"], result["actions"], result["commands"]) == (False, [], [])
    assert "diff" in result


# --- rewriting what a rewrite would lose


@pytest.mark.parametrize("kind", ["snapshot", "bitmap"])
def test_snapshots_and_bitmaps_are_not_lost(tmp_path: Path, kind: str) -> None:
    path = create(tmp_path / "image", "qcow2", "4M")
    qemu_img(*(["snapshot", "-c", "one", path] if kind == "snapshot" else ["bitmap", "--add", path, "one"]))
    options = {"cluster_size": "32K"}
    result = refused("would_lose_snapshots", path=str(path), format="qcow2", options=options, allow_rewrite=True)
    assert result["evidence"] == {"snapshots_and_bitmaps": ["one"]}


def test_a_base_whose_header_cannot_be_read_is_refused(tmp_path: Path) -> None:
    base = create(tmp_path / "base", "qcow2", "4M")
    middle = create(tmp_path / "middle", "qcow2", "", "", "-b", base, "-F", "qcow2")
    base.write_bytes(b"QFI\xfb\0\0\0\3" + b"\xff" * 200)
    backing = {"path": str(middle), "format": "qcow2"}
    refused("header_unreadable", path=str(tmp_path / "top"), format="qcow2", backing=backing)


def test_a_file_without_locks_is_not_trusted(tmp_path: Path) -> None:
    """As on a network file system without a lock daemon: here the kernel refuses a lock on a mere path."""
    path = create(tmp_path / "image", "raw", "4M")
    descriptor = os.open(path, os.O_PATH)
    with pytest.raises(RefusedError) as caught:
        hold_image_lock(descriptor, str(path))
    os.close(descriptor)
    assert caught.value.reason == "lock_untrusted"


# --- downloads


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with serving() as site:
        (tmp_path / "away").mkdir()
        disk = create(tmp_path / "away" / "disk", "qcow2", "4M")
        scribble(disk, "qcow2")
        site.resources["/disk"] = Resource(disk.read_bytes())
        yield site


def imported(tmp_path: Path, url: str, *, foreseen: bool = True, **more: Any) -> dict[str, Any]:
    """The result of an import that leaves nothing. C(foreseen): check mode says the same, before anything is fetched."""
    source = {"url": url, "format": "qcow2", **more}
    results = [
        call("disk_image", check=check, path=str(tmp_path / "image"), format="qcow2", source=source)
        for check in ((True, False) if foreseen else (False,))
    ]
    for result in results:
        assert (result["failed"], result["changed"], result["actions"]) == (True, False, [])
        assert result["msg"].startswith("refused: ") and ("failed_action" in result) is not foreseen
        assert [result[key] for key in _TOLD] == [results[0][key] for key in _TOLD]
    assert not (tmp_path / "image").exists()
    return results[-1]


_TOLD = ("msg", "reason", "evidence")


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/x", "file:///etc/passwd", "/etc/passwd", "disk.qcow2"])
def test_other_urls_are_refused_in_check_mode_too(tmp_path: Path, url: str) -> None:
    refused("url_refused", path=str(tmp_path / "image"), format="qcow2", source={"url": url, "format": "qcow2"})


def test_a_url_without_a_host_is_not_fetched(tmp_path: Path) -> None:
    assert imported(tmp_path, "http://")["reason"] == "url_refused"


@pytest.mark.parametrize(
    ("status", "way_out"),
    [(404, "Correct the URL."), (403, "username, password or headers"), (410, "Correct the URL.")],
)
def test_what_the_server_will_not_give_is_told(tmp_path: Path, site: Site, status: int, way_out: str) -> None:
    site.resources["/gone"] = Resource(statuses=[status] * 4)  # a HEAD and a GET, twice
    url = site.url("/gone").replace("http://", "http://me:hidden@") + "?signature=hidden"
    result = imported(tmp_path, url)
    assert (result["reason"], result["evidence"]) == ("http_error", {"url": site.url("/gone"), "status": status})
    assert f"refused: downloading {site.url('/gone')}: the server answered {status}" in result["msg"]
    assert way_out in result["msg"] and "hidden" not in str(result["msg"]) + str(result["evidence"])


def test_a_server_that_is_not_there_is_told(tmp_path: Path) -> None:
    result = imported(tmp_path, "http://me:hidden@127.0.0.1:1/disk")
    assert (result["reason"], result["evidence"]) == ("connection_failed", {"url": "http://127.0.0.1:1/disk"})
    assert "Connection refused" in result["msg"] and "hidden" not in result["msg"]


def test_a_certificate_that_nobody_knows_is_told(tmp_path: Path, site: Site) -> None:
    context, _authority = certificate(tmp_path / "away")
    with serving(context) as safe:
        result = imported(tmp_path, safe.url("/disk"))
        assert (result["reason"], result["evidence"]) == ("tls_failed", {"url": safe.url("/disk")})
        assert "certificate is not valid" in result["msg"] and "ca_path" in result["msg"]
    assert imported(tmp_path, site.url("/disk").replace("http:", "https:"))["reason"] == "tls_failed"


def test_a_list_of_checksums_that_is_not_there_is_told_in_check_mode_too(tmp_path: Path, site: Site) -> None:
    source = {"url": site.url("/disk"), "format": "qcow2", "checksum": "sha256:" + site.url("/SUMS")}
    result = refused("http_error", path=str(tmp_path / "image"), format="qcow2", source=source)
    assert result["evidence"] == {"url": site.url("/SUMS"), "status": 404}


def test_a_header_with_a_line_break_is_not_sent(tmp_path: Path, site: Site) -> None:
    assert imported(tmp_path, site.url("/disk"), headers={"X": "a\r\nEvil: 1"})["reason"] == "header_refused"


def test_a_redirect_to_a_file_is_refused(tmp_path: Path, site: Site) -> None:
    site.resources["/disk"] = Resource(location="file:///etc/passwd")
    assert imported(tmp_path, site.url("/disk"))["reason"] == "redirect_refused"


def test_redirects_have_an_end(tmp_path: Path, site: Site) -> None:
    site.resources["/disk"] = Resource(location=site.url("/disk"))
    assert imported(tmp_path, site.url("/disk"))["reason"] == "too_many_redirects"


def test_a_redirect_does_not_leave_tls(tmp_path: Path, site: Site) -> None:
    context, authority = certificate(tmp_path / "away")
    with serving(context) as safe:
        safe.resources["/disk"] = Resource(location=site.url("/disk"))
        assert imported(tmp_path, safe.url("/disk"), ca_path=authority)["reason"] == "redirect_downgrade"


def test_a_checksum_file_must_name_the_file(tmp_path: Path, site: Site) -> None:
    site.resources["/SUMS"] = Resource(f"{'0' * 64}  other\n".encode())
    checksum = "sha256:" + site.url("/SUMS")
    assert imported(tmp_path, site.url("/disk"), checksum=checksum)["reason"] == "checksum_not_found"


def test_a_checksum_must_be_one(tmp_path: Path, site: Site) -> None:
    assert imported(tmp_path, site.url("/disk"), checksum="crc32:0")["reason"] == "bad_checksum"


def test_a_damaged_archive_is_refused(tmp_path: Path, site: Site) -> None:
    site.resources["/disk.xz"] = Resource(b"\xfd7zXZ\0" + b"nothing of the kind")
    assert imported(tmp_path, site.url("/disk.xz"), foreseen=False)["reason"] == "decompression_failed"


def test_what_is_not_packed_is_not_unpacked(tmp_path: Path, site: Site) -> None:
    assert imported(tmp_path, site.url("/disk"), compression="xz", foreseen=False)["reason"] in (
        "not_compressed",
        "decompression_failed",
    )


# --- what to do about it


def test_a_missing_source_is_named(tmp_path: Path) -> None:
    source = {"path": str(tmp_path / "none"), "format": "raw"}
    told = refused("source_missing", path=str(tmp_path / "image"), format="raw", source=source)["msg"]
    assert f"the source file {tmp_path}/none does not exist" in told
    assert "In check mode an earlier task has not made it." in told


def test_a_missing_secret_file_is_to_be_made(tmp_path: Path) -> None:
    encryption = {"secret_file": str(tmp_path / "none")}
    told = refused("secret_missing", path=str(tmp_path / "i"), format="luks", size="1M", encryption=encryption)["msg"]
    assert f"{tmp_path}/none" in told and "Make that file first" in told and "mode 0600" not in told


def test_a_wrong_format_is_to_be_corrected_first(tmp_path: Path) -> None:
    given = {"path": str(tmp_path / "disk"), "size": "1M"}
    prepared("disk_image", **given, format="qcow2")
    told = refused("exists_different", **given, format="raw")["msg"]
    assert "Correct format to what it is; or set allow_rewrite" in told
    told = refused("exists_different", **given, format="qcow2", options={"cluster_size": "4K"})["msg"]
    assert "Describe the image as it is; or set allow_rewrite" in told


@pytest.mark.parametrize("size", ["+1G", "-1G", "+ 512"])
def test_a_relative_size_is_told_from_none(tmp_path: Path, size: str) -> None:
    assert "sizes are absolute" in refused("bad_size", path=str(tmp_path / "i"), format="raw", size=size)["msg"]


def test_a_relative_path_ends_a_look_at_images(tmp_path: Path) -> None:
    result = call("disk_image_info", paths=["here/disk", str(tmp_path)])
    assert (result["failed"], result["reason"]) == (True, "bad_option")
    assert "here/disk" in result["msg"] and "No image was looked at." in result["msg"]
    assert "Nothing was changed" not in result["msg"]
