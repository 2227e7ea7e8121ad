"""An archive in the form Linux unpacks as its first root file system (cpio, "newc")."""

from __future__ import annotations

import stat


class Archive:
    """Directories appear as they are needed; names are absolute paths of the guest."""

    def __init__(self) -> None:
        self._entries: dict[str, tuple[int, bytes]] = {}

    def directory(self, name: str) -> None:
        """With all above it."""
        parts = name.strip("/").split("/")
        for end in range(1, len(parts) + 1):
            self._entries.setdefault("/".join(parts[:end]), (stat.S_IFDIR | 0o755, b""))

    def file(self, name: str, content: bytes, mode: int = 0o755) -> None:
        """What is there already under that name stays."""
        self._add(name, stat.S_IFREG | mode, content)

    def link(self, name: str, target: str) -> None:
        """A symbolic link."""
        self._add(name, stat.S_IFLNK | 0o777, target.encode())

    def _add(self, name: str, mode: int, content: bytes) -> None:
        directory = name.rpartition("/")[0]
        if directory.strip("/"):
            self.directory(directory)
        self._entries.setdefault(name.strip("/"), (mode, content))

    def content(self) -> bytes:
        """The whole archive; C(Documentation/driver-api/early-userspace/buffer-format.rst) of Linux."""
        entries = [*self._entries.items(), ("TRAILER!!!", (0, b""))]
        return b"".join(_entry(number, name, *what) for number, (name, what) in enumerate(entries, 1))


def _entry(number: int, name: str, mode: int, content: bytes) -> bytes:
    fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields)
    return _padded(head + name.encode() + b"\0") + _padded(content)


def _padded(part: bytes) -> bytes:
    return part + b"\0" * (-len(part) % 4)
