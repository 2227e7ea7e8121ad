"""Downloads from real servers that break off, redirect, lie and keep secrets."""

from __future__ import annotations

import hashlib
import os
import random
from pathlib import Path
from typing import Any, Iterator

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._core.errors import EngineError, RefusedError
from ansible_collections.platter.qemu.plugins.module_utils._tools import download as module
from ansible_collections.platter.qemu.plugins.module_utils._tools.download import (
    Validator,
    download,
    head,
    resolve_checksum,
)
from ansible_collections.platter.qemu.tests.lab.http_server import Resource, Site, serving

MIB = 1 << 20
CONTENT = random.Random(1).randbytes(3 * MIB) + bytes(2 * MIB) + b"end"
SHA256 = "sha256:" + hashlib.sha256(CONTENT).hexdigest()
DATE = "Wed, 21 Oct 2020 07:28:00 GMT"


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAUSES", (0.0, 0.0, 0.0))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as site:
        site.resources["/disk"] = Resource(CONTENT)
        yield site


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    return tmp_path / "disk.img"


def left_over(dest: Path) -> list[str]:
    return sorted(os.listdir(dest.parent))


def test_a_file_is_fetched_verified_and_described(site: Site, dest: Path) -> None:
    report = download(site.url("/disk?token=hidden"), str(dest), expected_digest=SHA256)
    assert dest.read_bytes() == CONTENT
    assert (report.status, report.bytes, report.etag, report.digest) == ("fetched", len(CONTENT), '"v1"', SHA256)
    assert report.url == site.url("/disk")
    assert left_over(dest) == ["disk.img"]
    assert dest.stat().st_mode & 0o777 == 0o600


def test_zeros_are_not_stored(site: Site, dest: Path) -> None:
    download(site.url("/disk"), str(dest))
    assert dest.stat().st_blocks * 512 < 4 * MIB


def test_a_wrong_checksum_leaves_nothing(site: Site, dest: Path) -> None:
    dest.write_bytes(b"old")
    with pytest.raises(RefusedError, match="refused: downloading http") as caught:
        download(site.url("/disk"), str(dest), expected_digest="sha256:" + "0" * 64)
    assert caught.value.reason == "checksum_mismatch"
    assert caught.value.facts["evidence"]["found"] == SHA256.partition(":")[2]
    assert (dest.read_bytes(), left_over(dest)) == (b"old", ["disk.img"])


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha512"])
def test_other_hashes(site: Site, dest: Path, algorithm: str) -> None:
    expected = f"{algorithm}:{hashlib.new(algorithm, CONTENT).hexdigest()}"
    assert download(site.url("/disk"), str(dest), expected_digest=expected).digest == expected


def test_a_broken_connection_is_continued(site: Site, dest: Path) -> None:
    site.resources["/disk"].cut_after = [MIB + 5, 100, 100]
    report = download(site.url("/disk"), str(dest), expected_digest=SHA256)
    assert dest.read_bytes() == CONTENT
    assert report.resumed_at >= MIB
    asked = [each.headers.get("range") for each in site.asked]
    assert asked[0] is None and asked[1] is not None and len(asked) == 4
    assert site.asked[1].headers["if-range"] == '"v1"'


def test_the_part_is_kept_for_the_next_run_when_the_version_is_known(site: Site, dest: Path) -> None:
    site.resources["/disk"].cut_after = [2 * MIB, 0, 0, 0, 0]
    with pytest.raises(RefusedError, match="the connection ended after") as caught:
        download(site.url("/disk"), str(dest))
    assert caught.value.reason == "connection_failed"
    assert left_over(dest) == ["disk.img.part", "disk.img.part.json"]
    site.asked.clear()
    site.resources["/disk"].cut_after = []
    report = download(site.url("/disk"), str(dest), expected_digest=SHA256)
    assert [each.headers["range"] for each in site.asked] == [f"bytes={report.resumed_at}-"]
    assert report.resumed_at >= MIB and left_over(dest) == ["disk.img"]


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_without_a_strong_validator_no_part_is_kept_or_joined(site: Site, dest: Path, etag: str | None) -> None:
    site.resources["/disk"] = Resource(CONTENT, etag=etag, cut_after=[2 * MIB, 2 * MIB])
    download(site.url("/disk"), str(dest), expected_digest=SHA256)
    assert [each.headers.get("range") for each in site.asked] == [None, None, None]
    site.resources["/disk"].cut_after = [1] * 9
    with pytest.raises(EngineError):
        download(site.url("/disk"), str(dest))
    assert left_over(dest) == ["disk.img"]


def test_a_date_is_a_validator_too(site: Site, dest: Path) -> None:
    site.resources["/disk"] = Resource(CONTENT, etag=None, last_modified=DATE, cut_after=[2 * MIB])
    download(site.url("/disk"), str(dest), expected_digest=SHA256)
    assert site.asked[1].headers["if-range"] == DATE


def test_a_file_that_changed_meanwhile_is_fetched_anew(site: Site, dest: Path) -> None:
    site.resources["/disk"].cut_after = [2 * MIB, 0, 0, 0, 0]
    with pytest.raises(EngineError):
        download(site.url("/disk"), str(dest))
    site.resources["/disk"] = Resource(b"new" * 100, etag='"v2"')
    report = download(site.url("/disk"), str(dest))
    assert (dest.read_bytes(), report.etag, report.resumed_at) == (b"new" * 100, '"v2"', 0)


def test_a_part_from_before_a_reboot_or_of_another_url_is_not_believed(site: Site, dest: Path) -> None:
    site.resources["/other"] = Resource(CONTENT)
    for damage in ("boot", "url"):
        site.resources["/disk"].cut_after = [2 * MIB, 0, 0, 0, 0]
        with pytest.raises(EngineError):
            download(site.url("/disk"), str(dest))
        site.resources["/disk"].cut_after = []
        note = dest.with_name("disk.img.part.json")
        if damage == "boot":
            note.write_text(note.read_text().replace('"boot": "', '"boot": "x'))
        site.asked.clear()
        assert download(site.url("/disk" if damage == "boot" else "/other"), str(dest)).resumed_at == 0
        assert "range" not in site.asked[0].headers


def test_a_part_that_was_damaged_is_fetched_again_as_a_whole(site: Site, dest: Path) -> None:
    site.resources["/disk"].cut_after = [2 * MIB, 0, 0, 0, 0]
    with pytest.raises(EngineError):
        download(site.url("/disk"), str(dest))
    site.resources["/disk"].cut_after = []
    with dest.with_name("disk.img.part").open("r+b") as part:
        part.write(b"damage")
    assert download(site.url("/disk"), str(dest), expected_digest=SHA256).resumed_at == 0
    assert dest.read_bytes() == CONTENT


@pytest.mark.parametrize("trouble", [{"ranges": False}, {"wrong_range": True}])
def test_a_server_that_cannot_or_will_not_continue(site: Site, dest: Path, trouble: dict[str, Any]) -> None:
    site.resources["/disk"] = Resource(CONTENT, cut_after=[2 * MIB], **trouble)
    download(site.url("/disk"), str(dest))
    assert dest.read_bytes() == CONTENT


def test_a_part_longer_than_the_file_is_given_up(site: Site, dest: Path) -> None:
    site.resources["/disk"].cut_after = [2 * MIB, 0, 0, 0, 0]
    with pytest.raises(EngineError):
        download(site.url("/disk"), str(dest))
    site.resources["/disk"] = Resource(b"short")
    download(site.url("/disk"), str(dest))
    assert dest.read_bytes() == b"short"


def test_a_part_is_not_used_when_that_is_not_wanted(site: Site, dest: Path) -> None:
    site.resources["/disk"].cut_after = [2 * MIB]
    download(site.url("/disk"), str(dest), resume=False)
    assert [each.headers.get("range") for each in site.asked] == [None, None]
    assert left_over(dest) == ["disk.img"]


def test_a_busy_server_is_asked_again_and_a_missing_file_is_not(site: Site, dest: Path) -> None:
    site.resources["/disk"].statuses = [503, 429]
    download(site.url("/disk"), str(dest))
    assert len(site.asked) == 3
    with pytest.raises(RefusedError, match="the server answered 404") as caught:
        download(site.url("/gone?token=hidden"), str(dest))
    assert (caught.value.facts["evidence"]["status"], len(site.asked)) == (404, 4)
    assert "hidden" not in str(caught.value) + str(caught.value.facts)


def test_a_server_that_is_not_there_is_an_error(site: Site, dest: Path) -> None:
    with pytest.raises(EngineError, match="Connection refused"):
        download("http://user:hidden@127.0.0.1:1/disk", str(dest))


def test_a_short_answer_is_not_taken_for_the_whole(site: Site, dest: Path) -> None:
    site.resources["/disk"] = Resource(CONTENT, etag=None, cut_after=[1000] * 9)
    with pytest.raises(EngineError, match=r"IncompleteRead|connection ended after"):
        download(site.url("/disk"), str(dest))
    assert not dest.exists()


def test_an_answer_without_length_is_taken_to_its_end(site: Site, dest: Path) -> None:
    site.resources["/disk"].length = False
    download(site.url("/disk"), str(dest), expected_digest=SHA256)


@pytest.mark.parametrize("length", [True, False])
def test_more_than_the_limit_is_refused(site: Site, dest: Path, length: bool) -> None:
    site.resources["/disk"].length = length
    if length:  # then it is refused before a byte of it came
        site.resources["/disk"].cut_after = [0]
    with pytest.raises(RefusedError) as caught:
        download(site.url("/disk"), str(dest), limit_bytes=4 * MIB)
    assert caught.value.reason == "download_too_large"
    assert (len(site.asked), left_over(dest)) == (1, [])
    download(site.url("/disk"), str(dest), limit_bytes=len(CONTENT))


def test_nothing_is_fetched_when_nothing_changed(site: Site, dest: Path) -> None:
    site.resources["/dated"] = Resource(b"x", etag=None, last_modified=DATE)
    for path, known in (("/disk", Validator('"v1"')), ("/dated", Validator(None, DATE))):
        report = download(site.url(path), str(dest), condition=known)
        assert (report.status, report.digest, report.etag) == ("not_modified", None, known.etag)
        assert left_over(dest) == []
    assert download(site.url("/disk"), str(dest), condition=Validator('"v0"')).status == "fetched"


@pytest.mark.parametrize("served", [True, False])
def test_head_says_what_there_is_without_fetching_it(site: Site, served: bool) -> None:
    site.resources["/disk"] = Resource(CONTENT, last_modified=DATE, head=served)
    seen = head(site.url("/disk?x=y"))
    assert (seen.size, seen.etag, seen.last_modified, seen.url) == (len(CONTENT), '"v1"', DATE, site.url("/disk"))
    assert site.methods() == (["HEAD"] if served else ["HEAD", "GET"])
    with pytest.raises(EngineError, match="answered 404"):
        head(site.url("/gone"))


def test_head_without_ranges(site: Site) -> None:
    site.resources["/disk"] = Resource(CONTENT, head=False, ranges=False)
    assert head(site.url("/disk")).size == len(CONTENT)


def test_a_checksum_file_is_fetched(site: Site) -> None:
    value = SHA256.partition(":")[2]
    site.resources["/SHA256SUMS"] = Resource(f"{'0' * 64}  x\n{value} *disk\n".encode())
    assert resolve_checksum("sha256:" + site.url("/SHA256SUMS"), "disk") == SHA256
    assert resolve_checksum(SHA256.upper().replace("SHA256:", "sha256:"), "disk") == SHA256


@pytest.mark.parametrize(
    ("text", "reason"), [("sha256:{}/SHA256SUMS", "checksum_not_found"), ("sha999:00", "bad_checksum")]
)
def test_a_checksum_that_cannot_be_had_is_refused(site: Site, text: str, reason: str) -> None:
    site.resources["/SHA256SUMS"] = Resource(b"0" * 64 + b"  x\n")
    with pytest.raises(RefusedError) as caught:
        resolve_checksum(text.format(site.base), "disk")
    assert caught.value.reason == reason


def test_a_huge_checksum_file_is_not_read(site: Site) -> None:
    site.resources["/SHA256SUMS"] = Resource(b"#" * (2 * MIB))
    with pytest.raises(EngineError, match="larger than 1 MiB"):
        resolve_checksum("sha256:" + site.url("/SHA256SUMS"), "disk")
