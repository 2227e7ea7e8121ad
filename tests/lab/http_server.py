"""An HTTP server on 127.0.0.1 for tests: ranges, validators, redirects, and the misbehaviour of real ones."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Iterator


@dataclass
class Resource:
    """What is served at one path. Lists are used up, one entry for each request."""

    content: bytes = b""
    etag: str | None = '"v1"'
    last_modified: str | None = None
    ranges: bool = True
    location: str | None = None
    redirect_status: int = 302
    head: bool = True
    length: bool = True
    need_authorization: str | None = None
    cut_after: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    wrong_range: bool = False


@dataclass
class Asked:
    """One request that came in."""

    method: str
    path: str
    headers: dict[str, str]


@dataclass
class Site:
    """The server: its address, what it serves, and what it was asked."""

    base: str
    resources: dict[str, Resource] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    def url(self, path: str) -> str:
        return self.base + path

    def methods(self) -> list[str]:
        return [each.method for each in self.asked]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Site

    def log_message(self, *_unused: object) -> None:
        """Quiet."""

    def do_HEAD(self) -> None:
        self._answer(send_body=False)

    def do_GET(self) -> None:
        self._answer(send_body=True)

    def _answer(self, send_body: bool) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.site.asked.append(Asked(self.command, self.path, headers))
        resource = self.site.resources.get(self.path.split("?")[0])
        status = self._status(resource, headers)
        if resource is None or status not in (200, 206):
            self._send(status, {"Location": resource.location if resource else None}, b"")
            return
        start = int(headers["range"][6:].split("-")[0]) if status == 206 else 0
        end = self._end(headers, len(resource.content)) if status == 206 else len(resource.content)
        extra = {"ETag": resource.etag, "Last-Modified": resource.last_modified}
        if status == 206:
            start += resource.wrong_range
            extra["Content-Range"] = f"bytes {start}-{end - 1}/{len(resource.content)}"
        self._send(status, extra, resource.content[start:end], resource, send_body)

    @staticmethod
    def _end(headers: dict[str, str], length: int) -> int:
        last = headers["range"].split("-")[1]
        return int(last) + 1 if last else length

    def _status(self, resource: Resource | None, headers: dict[str, str]) -> int:
        if resource is None:
            return 404
        if resource.statuses:
            return resource.statuses.pop(0)
        if resource.location:
            return resource.redirect_status
        if resource.need_authorization and headers.get("authorization") != resource.need_authorization:
            return 401
        if self.command == "HEAD" and not resource.head:
            return 405
        return self._conditional(resource, headers)

    def _conditional(self, resource: Resource, headers: dict[str, str]) -> int:
        if resource.etag and headers.get("if-none-match") == resource.etag:
            return 304
        if resource.last_modified and headers.get("if-modified-since") == resource.last_modified:
            return 304
        same = headers.get("if-range") in (None, resource.etag, resource.last_modified)
        if "range" not in headers or not resource.ranges or not same:
            return 200
        return 206 if int(headers["range"][6:].split("-")[0]) < len(resource.content) else 416

    def _send(
        self,
        status: int,
        headers: dict[str, str | None],
        body: bytes,
        resource: Resource | None = None,
        send_body: bool = True,
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if value is not None:
                self.send_header(name, value)
        if resource is None or resource.length:
            self.send_header("Content-Length", str(len(body)))
        else:
            self.close_connection = True
        self.end_headers()
        if send_body and status != 304:
            self._send_body(body, resource)

    def _send_body(self, body: bytes, resource: Resource | None) -> None:
        cut = resource.cut_after.pop(0) if resource and resource.cut_after else None
        with contextlib.suppress(OSError):
            self.wfile.write(body if cut is None else body[:cut])
        if cut is not None:
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_unused: object) -> None:
        """A client that goes away is part of the tests."""


@contextlib.contextmanager
def serving(tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> Iterator[Site]:
    """A server while the block runs."""
    handler = type("Handler", (_Handler,), {})
    server = _Server((host, 0), handler)
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    site = Site(f"{'https' if tls else 'http'}://{host}:{server.server_address[1]}")
    handler.site = site  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def certificate(directory: Path, name: str = "127.0.0.1") -> tuple[ssl.SSLContext, str]:
    """A server context with a new self-signed certificate for an address, and the certificate's file."""
    cert, key = directory / "cert.pem", directory / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(key), "-out", str(cert), "-days", "2", "-subj", f"/CN={name}"]
    subprocess.run([*command, "-addext", f"subjectAltName=IP:{name}"], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context, str(cert)
