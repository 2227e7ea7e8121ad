# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""HTTP and HTTPS by the standard library: redirects that lose no security, and no secret in any message."""

from __future__ import annotations

import base64
import http.client
import os
import re
import ssl
import typing as t
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field

from ansible_collections.platter.qemu.plugins.module_utils._core import errors

_MOST_REDIRECTS = 10
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_DEFAULT_PORT = {"http": 80, "https": 443}
#: What goes to any host; everything else a user sends may be a secret meant for the first.
_HARMLESS = frozenset(("accept", "accept-language", "user-agent"))
_ODD = re.compile(r"[\x00-\x20\x7f-\U0010ffff\"<>\\^`{|}]+")
#: Everything that can go wrong between here and the server.
TRANSPORT_ERRORS = (OSError, http.client.HTTPException)


@dataclass(frozen=True)
class Access:
    """How to get at a URL. What may be secret is not printed."""

    headers: t.Mapping[str, str] = field(default_factory=dict, repr=False)
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    validate_certs: bool = True
    ca_path: str | None = None
    timeout: float = 30


@dataclass(frozen=True)
class Validator:
    """What a server says to recognise a version of a file by."""

    etag: str | None = None
    last_modified: str | None = None

    def strong(self) -> str | None:
        """The value for If-Range: bytes may be joined on it."""
        if self.etag:
            return None if self.etag.startswith("W/") else self.etag
        return self.last_modified


def public_url(url: str) -> str:
    """C(url) as it may be shown: without user, password, query (signed links) and fragment."""
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def refused(url: str, fact: str, reason: str, way_out: str, **evidence: t.Any) -> errors.RefusedError:
    """A refusal about a URL."""
    shown = public_url(url)
    evidence = {"url": shown, **evidence}
    return errors.RefusedError("downloading", shown, fact, reason=reason, way_out=way_out, evidence=evidence, joined="")


def unreachable(url: str, exc: BaseException) -> errors.RefusedError:
    """No answer, or not the whole of it, or none over TLS that can be trusted."""
    cause = _cause(exc)
    if isinstance(cause, ssl.SSLCertVerificationError):
        way_out = "Name the CA that signed it in ca_path, or correct the server's certificate."
        return refused(url, describe(exc), "tls_failed", way_out)
    if isinstance(cause, ssl.SSLError):
        return refused(url, f"TLS failed ({describe(exc)})", "tls_failed", "Check the scheme and port of the URL.")
    if isinstance(cause, http.client.InvalidURL):
        return refused(url, describe(exc), "url_refused", "Correct the URL.")
    way_out = "Check the host and port in the URL, and the network (and proxy) of this host; then run the task again."
    return refused(url, describe(exc), "connection_failed", way_out)


def validator_of(response: http.client.HTTPResponse) -> Validator:
    """The validators in an answer."""
    return Validator(response.headers.get("ETag"), response.headers.get("Last-Modified"))


def length_of(response: http.client.HTTPResponse) -> int | None:
    """The length of an answer's body, where it says so."""
    text = response.headers.get("Content-Length", "")
    chunked = "chunked" in response.headers.get("Transfer-Encoding", "").lower()
    return int(text) if text.isdigit() and not chunked else None


def open_url(
    url: str, access: Access, headers: t.Mapping[str, str] | None = None, method: str = "GET"
) -> tuple[http.client.HTTPResponse, str]:
    """The answer, whatever its status, and the URL it came from in the end; redirects are followed."""
    url, access = _credentials(url, access)
    start, opener, context = url, _opener(access), dict(headers or {})
    _check_headers(url, access)
    for _step in range(_MOST_REDIRECTS + 1):
        request = urllib.request.Request(url, method=method, headers={"Accept-Encoding": "identity", **context})
        for name, value in _own_headers(start, url, access).items():
            request.add_unredirected_header(name, value)
        response = opener.open(request, timeout=access.timeout)
        target = response.headers.get("Location") if response.status in _REDIRECTS else None
        if target is None:
            return response, url
        response.close()
        url = _redirected(url, target)
    raise refused(start, "it redirects more than 10 times", "too_many_redirects", "Use the URL of the file itself.")


def _credentials(url: str, access: Access) -> tuple[str, Access]:
    """The URL made fit to send, and access with the user and password that stood in it."""
    url = _ODD.sub(lambda odd: urllib.parse.quote(odd.group()), url.strip())
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in _DEFAULT_PORT or not parts.hostname:
        raise refused(url, "only http and https URLs are downloaded", "url_refused", "Use an http or https URL.")
    if parts.username is not None and access.username is None:
        unquote = urllib.parse.unquote
        user, password = unquote(parts.username), unquote(parts.password or "")
        access = Access(access.headers, user, password, access.validate_certs, access.ca_path, access.timeout)
    return _without_user(parts), access


def _without_user(parts: urllib.parse.SplitResult) -> str:
    return urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment=""))


def _check_headers(url: str, access: Access) -> None:
    for name, value in access.headers.items():  # http.client's own complaint would show the value
        if re.search(r"[\r\n\0]", name + value) or not name.strip():
            fact = "a header has a line break or no name"
            raise refused(url, fact, "header_refused", "Correct the headers.")
        try:
            name.encode("ascii"), value.encode("latin-1")
        except UnicodeEncodeError:
            fact = "a header has characters that HTTP cannot send (name in ASCII, value in Latin-1)"
            raise refused(url, fact, "header_refused", "Correct the headers.") from None


def _opener(access: Access) -> urllib.request.OpenerDirector:
    """Only http and https, proxies from the environment, no redirects and no errors of urllib's own."""
    opener = urllib.request.OpenerDirector()
    handlers = (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=_tls(access)),
    )
    for handler in handlers:
        opener.add_handler(handler)
    return opener


def _tls(access: Access) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context()
        if access.ca_path:
            context.load_verify_locations(**_certificates(access.ca_path))
    except OSError as exc:
        raise errors.EngineError(f"the certificates in {access.ca_path} cannot be read: {exc.strerror or exc}") from exc
    if not access.validate_certs:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _certificates(path: str) -> dict[str, str]:
    return {"capath" if os.path.isdir(path) else "cafile": path}


def _own_headers(start: str, url: str, access: Access) -> dict[str, str]:
    """The user's headers and password, if C(url) is still on the host they were meant for."""
    at_home = same_host(start, url)
    sent = {name: value for name, value in access.headers.items() if at_home or name.lower() in _HARMLESS}
    sent.setdefault("User-Agent", "platter.qemu")
    if at_home and access.username is not None:
        pair = f"{access.username}:{access.password or ''}".encode()
        sent["Authorization"] = "Basic " + base64.b64encode(pair).decode("ascii")
    return sent


def same_host(start: str, url: str) -> bool:
    """Whether what is for the server of C(start) may be sent to that of C(url): the same, or the same with TLS."""
    one, two = urllib.parse.urlsplit(start), urllib.parse.urlsplit(url)
    try:
        ports = [part.port or _DEFAULT_PORT.get(part.scheme) for part in (one, two)]
    except ValueError:  # no number: whoever opens it says so
        return False
    upgraded = ports == [80, 443] and (one.scheme, two.scheme) == ("http", "https")
    return one.hostname == two.hostname and (upgraded or (ports[0] == ports[1] and one.scheme == two.scheme))


def _redirected(url: str, target: str) -> str:
    target = urllib.parse.urljoin(url, _ODD.sub(lambda odd: urllib.parse.quote(odd.group()), target))
    parts = urllib.parse.urlsplit(target)
    way_out = "Use the URL of the file itself."
    if parts.scheme not in _DEFAULT_PORT or not parts.hostname:
        raise refused(url, f"it redirects to a {parts.scheme} URL", "redirect_refused", way_out)
    if url.startswith("https:") and parts.scheme == "http":
        fact = f"it redirects to {public_url(target)}, without TLS"
        raise refused(url, fact, "redirect_downgrade", way_out, location=public_url(target))
    return _without_user(parts)


def check_status(url: str, response: http.client.HTTPResponse, wanted: t.Sequence[int]) -> None:
    """Raises unless the answer has one of the statuses."""
    if response.status not in wanted:
        fact = f"the server answered {response.status} {response.reason}".rstrip()
        raise refused(url, fact, "http_error", _way_out(response.status), status=response.status)


def _way_out(status: int) -> str:
    if status in (401, 403):
        return "Check the URL, and username, password or headers for it."
    if status == 407:
        return "Give the proxy's user and password in its environment variable."
    if status == 429 or status >= 500:
        return "Run the task again later."
    return "Correct the URL."


def _cause(exc: BaseException) -> t.Any:
    return exc.reason if isinstance(exc, urllib.error.URLError) else exc


def describe(exc: BaseException) -> str:
    """What went wrong, without the URL (where urllib's own texts can have a secret)."""
    cause = _cause(exc)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"the server's certificate is not valid ({cause.verify_message})"
    if isinstance(cause, http.client.InvalidURL):
        return "the URL is not valid"
    return str(cause) or type(cause).__name__
