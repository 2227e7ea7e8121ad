# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What a task asks of one image. Contradictions are refused here; sizes become bytes on the grid that QEMU rounds
to.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.platter.qemu.plugins.module_utils._core.place import Place
from ansible_collections.platter.qemu.plugins.module_utils._formats import features

Options = t.Tuple[t.Tuple[str, t.Any], ...]


@dataclass(frozen=True)
class BackingSpec:
    """The base an overlay is asked to have."""

    path: str
    format: str
    relative: bool = False
    rebase: str = "safe"
    accept_changed: bool = False


@dataclass(frozen=True)
class HttpSpec:
    """How to fetch a URL. The password is kept out of C(repr)."""

    headers: t.Tuple[t.Tuple[str, str], ...] = ()
    username: t.Optional[str] = None
    password: t.Optional[str] = None
    validate_certs: bool = True
    ca_path: t.Optional[str] = None
    timeout: float = 30.0

    def __repr__(self) -> str:
        return "HttpSpec(...)"


@dataclass(frozen=True)
class SourceSpec:
    """Where the content comes from: a place, or a URL that is fetched."""

    format: str
    place: t.Optional[Place] = None
    url: t.Optional[str] = None
    checksum: t.Optional[str] = None
    compression: str = "auto"
    trusted: bool = False
    policy: str = "if_absent"
    http: HttpSpec = HttpSpec()
    #: a file (0600) with the secret that opens it
    secret_file: t.Optional[str] = None

    @property
    def text(self) -> str:
        """How sentences name it: without the user, password and signature that a URL may have."""
        if not self.url:
            return str(self.place)
        scheme, slashes, rest = self.url.split("?")[0].partition("://")
        host, slash, path = rest.partition("/")
        return scheme + slashes + host.rpartition("@")[2] + slash + path


@dataclass(frozen=True)
class Keyslot:
    """One LUKS key slot as it should be. The new secret is the path of a 0600 file."""

    slot: int
    active: bool
    new_secret_file: t.Optional[str] = None


@dataclass(frozen=True)
class EncryptionSpec:
    """The secret that opens the image (path of a file), and its key slots."""

    secret_file: t.Optional[str]
    keyslots: t.Tuple[Keyslot, ...] = ()


@dataclass(frozen=True)
class ImageSpec:
    """One image as asked. C(size) is what the task says, in bytes; C(effective_size) what QEMU makes of it."""

    path: str
    #: where it is, when that is no file or device of this host; C(path) is then what messages call it
    place: t.Optional[Place] = None
    state: str = "present"
    format: t.Optional[str] = None
    size: t.Optional[int] = None
    options: Options = ()
    backing: t.Optional[BackingSpec] = None
    flatten: bool = False
    source: t.Optional[SourceSpec] = None
    encryption: t.Optional[EncryptionSpec] = None
    compressed: bool = False
    allow_shrink: bool = False
    discard_data: bool = False
    allow_rewrite: bool = False
    current_format: t.Optional[str] = None
    allow_nested_header: bool = False
    repair: t.Optional[str] = None
    on_in_use: str = "fail"
    wait_timeout: float = 60.0
    backup: bool = False
    max_virtual_size: t.Optional[int] = None
    overlay_directories: t.Tuple[str, ...] = ()
    #: of the QEMU that may have it open
    qmp_socket: t.Optional[str] = None
    #: what the task calls it, when C(path) leads through a descriptor
    asked_path: t.Optional[str] = None

    @property
    def name(self) -> str:
        """What its records, and the options of its file, call it."""
        return self.asked_path or self.path

    @property
    def identity(self) -> str:
        """The same text however the place of the image is spelled."""
        return "%s %s" % (self.place.driver, self.place.options) if self.place else self.path

    @property
    def effective_size(self) -> t.Optional[int]:
        """The virtual size of a new image of this format made with C(size), in bytes."""
        if self.size is None or self.format is None:
            return None
        return features.rounded_size(self.format, self.size, dict(self.options))

    @property
    def secrets(self) -> t.List[t.Tuple[str, str]]:
        """The secret objects that open the image: (id, file)."""
        if not self.encryption or not self.encryption.secret_file:
            return []
        return [("sec0", self.encryption.secret_file)]

    @property
    def import_secrets(self) -> t.List[t.Tuple[str, str]]:
        """Those of an import: the source's secret is C(sec1)."""
        of_source = self.source.secret_file if self.source else None
        return self.secrets + ([("sec1", of_source)] if of_source else [])

    def option(self, name: str) -> t.Any:
        """A create option's asked value, or None."""
        return dict(self.options).get(name)
