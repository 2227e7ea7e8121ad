"""Downloads keep secrets and refuse to be led astray; TLS, redirects and proxies are real ones."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any, Iterator

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._core.errors import EngineError, RefusedError
from ansible_collections.platter.qemu.plugins.module_utils._tools import download as module
from ansible_collections.platter.qemu.plugins.module_utils._tools.download import download
from ansible_collections.platter.qemu.plugins.module_utils._tools.http_access import public_url, same_host
from ansible_collections.platter.qemu.tests.lab.http_server import Resource, Site, certificate, serving

CONTENT = b"the content"
SHA256 = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
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


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(site: Site, dest: Path, status: int) -> None:
    site.resources["/old"] = Resource(location="/disk?signature=hidden", redirect_status=status)
    report = download(site.url("/old"), str(dest), username="me", password="pw")
    assert report.url == site.url("/disk")
    assert all("authorization" in each.headers for each in site.asked)


def test_redirects_end(site: Site, dest: Path) -> None:
    site.resources["/ring"] = Resource(location="/ring")
    with pytest.raises(RefusedError) as caught:
        download(site.url("/ring"), str(dest))
    assert (caught.value.reason, len(site.asked)) == ("too_many_redirects", 11)


def test_secrets_do_not_go_to_another_host(site: Site, dest: Path) -> None:
    with serving(host="127.0.0.2") as other:
        other.resources["/disk"] = Resource(CONTENT)
        site.resources["/old"] = Resource(location=other.url("/disk"))
        headers = {"X-Token": "hidden", "Cookie": "hidden", "Accept": "*/*"}
        download(site.url("/old"), str(dest), username="me", password="hidden", headers=headers)
        assert site.asked[0].headers["x-token"] == "hidden"
        assert other.asked[0].headers["accept"] == "*/*"
        assert "hidden" not in str(other.asked) and "authorization" not in other.asked[0].headers


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://x/"])
def test_redirects_to_elsewhere_are_refused(site: Site, dest: Path, location: str) -> None:
    site.resources["/old"] = Resource(location=location)
    with pytest.raises(RefusedError) as caught:
        download(site.url("/old"), str(dest))
    assert caught.value.reason == "redirect_refused"


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/x", "/etc/passwd", "http:///x", "data:,x", ""])
def test_only_http_is_spoken(url: str, dest: Path) -> None:
    with pytest.raises(RefusedError) as caught:
        download(url, str(dest))
    assert caught.value.reason == "url_refused"


@pytest.mark.parametrize("where", ["option", "url"])
def test_a_password_is_sent_and_never_shown(site: Site, dest: Path, where: str) -> None:
    site.resources["/disk"].need_authorization = "Basic bWU6cEBzcw=="  # me:p@ss
    url = site.url("/disk") if where == "option" else site.url("/disk").replace("://", "://me:p%40ss@")
    access: dict[str, Any] = {"username": "me", "password": "p@ss"} if where == "option" else {}
    report = download(url, str(dest), **access)
    assert "p%40ss" not in repr(report)
    with pytest.raises(EngineError, match="answered 401") as caught:
        download(url, str(dest), username="me", password="wrong-secret")
    assert "wrong-secret" not in repr((caught.value, caught.value.facts)) and "p%40ss" not in str(caught.value)


def test_a_header_with_a_line_break_is_refused_without_showing_it(site: Site, dest: Path) -> None:
    with pytest.raises(RefusedError) as caught:
        download(site.url("/disk"), str(dest), headers={"X-Token": "hidden\r\nHost: evil"})
    assert caught.value.reason == "header_refused" and "hidden" not in str(caught.value)
    assert site.asked == []


def test_spaces_and_unicode_in_a_url_are_sent_escaped(site: Site, dest: Path) -> None:
    site.resources["/a%20b/%C3%BC"] = Resource(b"x")
    download(site.url("/a b/ü"), str(dest))
    assert dest.read_bytes() == b"x"


def test_a_proxy_from_the_environment_is_used(site: Site, dest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.resources["http://images.example/disk"] = Resource(CONTENT)
    monkeypatch.setenv("http_proxy", site.base)
    download("http://images.example/disk", str(dest), expected_digest=SHA256)
    assert site.asked[0].path == "http://images.example/disk"


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[tuple[Site, str]]:
    (tmp_path / "tls").mkdir()
    context, cert = certificate(tmp_path / "tls")
    with serving(context) as site:
        site.resources["/disk"] = Resource(CONTENT)
        yield site, cert


def test_certificates_are_verified(secure: tuple[Site, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site, cert = secure
    dest = tmp_path / "new"
    monkeypatch.setattr(module, "_PAUSES", (300.0,))
    start = time.monotonic()
    with pytest.raises(EngineError, match="certificate is not valid"):
        download(site.url("/disk"), str(dest))
    assert time.monotonic() - start < 150, "it is not tried again"
    download(site.url("/disk"), str(dest), ca_path=cert, expected_digest=SHA256)
    download(site.url("/disk"), str(dest), validate_certs=False, expected_digest=SHA256)
    with pytest.raises(EngineError, match=r"certificates in .* cannot be read"):
        download(site.url("/disk"), str(dest), ca_path=str(tmp_path / "none"))


def test_a_redirect_may_add_tls_and_not_take_it_away(site: Site, secure: tuple[Site, str], dest: Path) -> None:
    safe, cert = secure
    site.resources["/up"] = Resource(location=safe.url("/disk"))
    download(site.url("/up"), str(dest), ca_path=cert, expected_digest=SHA256)
    safe.resources["/down"] = Resource(location=site.url("/disk?token=hidden"))
    with pytest.raises(RefusedError) as caught:
        download(safe.url("/down"), str(dest), ca_path=cert)
    assert caught.value.reason == "redirect_downgrade" and "hidden" not in str(caught.value)


def test_a_url_is_shown_without_its_secrets() -> None:
    assert public_url("https://u:p@host:1/a/b?sig=x#f") == "https://host:1/a/b"


@pytest.mark.parametrize(
    ("start", "now", "same"),
    [
        ("http://host/a", "https://host/b", True),
        ("https://host/a", "https://host:443/b", True),
        ("https://host/a", "http://host/b", False),
        ("https://host/a", "https://host:8443/b", False),
        ("https://host/a", "https://other/b", False),
        ("http://host:8080/a", "https://host/b", False),
        ("https://HOST/a", "https://host/b", True),
        ("https://host/a", "https://host.evil/b", False),
    ],
)
def test_passwords_go_to_the_same_host_and_over_no_worse_a_way(start: str, now: str, same: bool) -> None:
    assert same_host(start, now) is same
