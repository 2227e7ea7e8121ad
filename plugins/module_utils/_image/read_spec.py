# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Turns the options of one image into its spec. Sizes become bytes on the grid that QEMU rounds to. Pure."""

from __future__ import annotations

import json
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.place import Place, parse_place
from ansible_collections.platter.qemu.plugins.module_utils._core.size import SECTOR, parse_size, round_up
from ansible_collections.platter.qemu.plugins.module_utils._formats.options import find_option
from ansible_collections.platter.qemu.plugins.module_utils._image import contradictions
from ansible_collections.platter.qemu.plugins.module_utils._image.spec import (
    BackingSpec,
    EncryptionSpec,
    HttpSpec,
    ImageSpec,
    Keyslot,
    Options,
    SourceSpec,
)

#: only a file has them
_FILE_OPTIONS = ("owner", "group", "mode", "seuser", "serole", "setype", "selevel", "attributes")
_FLAGS = ("flatten", "compressed", "allow_shrink", "discard_data", "allow_rewrite", "allow_nested_header", "backup")


def read_spec(params: t.Mapping[str, t.Any]) -> ImageSpec:
    """The spec of one item's module options. Raises SpecError."""
    reader = _Reader(params)
    path, place = reader.path()
    spec = ImageSpec(
        path=path,
        place=place,
        state=params.get("state") or "present",
        format=params.get("format"),
        size=reader.size("size"),
        options=reader.options(),
        backing=reader.backing(),
        source=reader.source(),
        encryption=reader.encryption(),
        repair=params.get("repair"),
        current_format=params.get("current_format"),
        on_in_use=params.get("on_in_use") or "fail",
        wait_timeout=float(params.get("wait_timeout") or 60),
        max_virtual_size=reader.size("max_virtual_size"),
        qmp_socket=params.get("qmp_socket"),
        overlay_directories=tuple(params.get("overlay_directories") or ()),
        asked_path=None,
        **{name: bool(params.get(name)) for name in _FLAGS},
    )
    contradictions.refuse_contradictions(spec)
    return spec


#: below it, a number of bytes that is not of whole sectors is one that has lost its unit
_SMALLEST_BARE = 1 << 20


class _Reader:
    """Turns an item's options into values; every refusal names the item's path."""

    def __init__(self, params: t.Mapping[str, t.Any]) -> None:
        self._params = params
        self._name = str(params.get("path"))

    def refuse(self, fact: str, way_out: str, reason: str = "bad_option") -> errors.SpecError:
        return errors.SpecError("the options", self._name, fact, reason=reason, way_out=way_out)

    def _place(self, value: t.Any) -> Place:
        try:
            return parse_place(value)
        except ValueError as exc:
            raise self.refuse(str(exc), "Write an absolute path, a URI, or a blockdev dict.", "bad_path") from exc

    def _local(self, value: t.Any, role: str) -> str:
        place = self._place(value)
        if place.path is None:
            raise self.refuse(
                "%s is %s, which is not on this host" % (role, place),
                "Give a local path, or for the image itself an NBD export; other places can be a source.",
                "place_not_writable",
            )
        return place.path

    def path(self) -> t.Tuple[str, t.Optional[Place]]:
        """(the local path, None), or (what messages call the place, the place)."""
        if not self._params.get("path"):
            raise self.refuse("no path is given", "Set path, or list images.")
        place = self._place(self._params["path"])
        if place.driver != "nbd":
            return self._local(self._params["path"], "the image"), None
        given = [name for name in _FILE_OPTIONS if self._params.get(name) is not None]
        if given:
            raise self.refuse("%s is no option of an NBD export" % given[0], "Leave %s out." % given[0])
        return place.text, place

    def size(self, name: str) -> t.Optional[int]:
        value = self._params.get(name)
        if value is None:
            return None
        try:
            size = round_up(parse_size(value), SECTOR)
        except ValueError as exc:
            raise self.refuse(
                "%s: %s" % (name, exc), "Write bytes, or a number with a unit, such as 20G.", "bad_size"
            ) from exc
        if size < SECTOR:
            raise self.refuse("%s is 0" % name, "An image has at least 512 bytes.", "bad_size")
        if str(value).strip().isdigit() and size < _SMALLEST_BARE and int(value) != size:
            fact = "%s is %s, and sizes without a unit are bytes" % (name, value)
            raise self.refuse(fact, "Write the unit, such as %sG." % value, "bad_size")
        return size

    def options(self) -> Options:
        given = {k: v for k, v in (self._params.get("options") or {}).items() if v is not None}
        format_name = self._params.get("format")
        if format_name == "qcow2" and self._params.get("encryption"):
            given.setdefault("encrypt_format", "luks")
        if given and not format_name:
            raise self.refuse("options are given without a format", "Set format.")
        for name, value in given.items():
            known = find_option(format_name or "raw", name)
            if known and known.kind == "size":
                given[name] = self._option_size(name, value)
        return tuple(sorted(given.items()))

    def _option_size(self, name: str, value: t.Any) -> int:
        try:
            return parse_size(value)
        except ValueError as exc:
            raise self.refuse(
                "options.%s: %s" % (name, exc), "Write bytes, or a number with a unit, such as 64K.", "bad_size"
            ) from exc

    def backing(self) -> t.Optional[BackingSpec]:
        given = self._params.get("backing")
        if not given:
            return None
        return BackingSpec(
            path=self._base(given["path"]),
            format=given["format"],
            relative=bool(given.get("relative")),
            rebase=given.get("rebase") or "safe",
            accept_changed=bool(given.get("accept_changed")),
        )

    def _base(self, value: str) -> str:
        """The option is text: a dict comes as its Python form. A URI is not shown, as it may have a password in it."""
        if value.startswith(("/", "json:")):
            return self._local(value, "the backing file")
        fact, reason = "backing.path is not an absolute path: %s" % value, "bad_path"
        if value.startswith("{"):
            fact = "backing.path is a dict, not an absolute path"
        elif "://" in value:
            fact, reason = "backing.path is a URI, and a base is on this host", "place_not_writable"
        way_out = "Write the absolute path of a file or block device there; backing.relative records it relative to the image."
        raise self.refuse(fact, way_out, reason)

    def source(self) -> t.Optional[SourceSpec]:
        given = self._params.get("source")
        if not given:
            return None
        if bool(given.get("path")) == bool(given.get("url")):
            raise self.refuse("source needs either path or url", "Set exactly one of them.")
        place = self._place(given["path"]) if given.get("path") else None
        url = self._url(given.get("url"))
        if place is not None and place.driver in ("http", "https"):
            url = self._url_of(json.loads(place.options))
            place = None
        return SourceSpec(
            format=given["format"],
            place=place,
            url=url,
            checksum=_one_checksum(given.get("checksum")),
            compression=given.get("compression") or "auto",
            trusted=bool(given.get("trusted")),
            policy=self._params.get("source_policy") or "if_absent",
            http=self._http(given),
            secret_file=given.get("secret_file"),
        )

    def _url_of(self, node: t.Mapping[str, t.Any]) -> str:
        """Of a place with one of QEMU's web drivers, which we fetch ourselves. Its other keys can be secrets (cookie)."""
        others = sorted(set(node) - {"url"})
        if others:
            raise self.refuse(
                "source.path has keys that are not known of a web server: %s" % ", ".join(others),
                "Use source.url, with source.headers, username, password and validate_certs.",
            )
        return str(node.get("url"))

    def _url(self, url: t.Optional[str]) -> t.Optional[str]:
        """Said before anything is begun, and without the URL, which may have a password in it."""
        scheme = url.strip().partition(":")[0].lower() if url else "https"
        if scheme in ("http", "https"):
            return url
        way_out = "Use an http or https URL, or give a file of this host in source.path."
        raise self.refuse("source.url is neither an http nor an https URL", way_out, "url_refused")

    def _http(self, given: t.Mapping[str, t.Any]) -> HttpSpec:
        return HttpSpec(
            headers=tuple(
                sorted((str(name), self._header(value)) for name, value in (given.get("headers") or {}).items())
            ),
            username=given.get("username"),
            password=given.get("password"),
            validate_certs=given.get("validate_certs") is not False,
            ca_path=given.get("ca_path"),
            timeout=float(given.get("timeout") or 30),
        )

    def _header(self, value: t.Any) -> str:
        """YAML makes numbers of some texts; of others it makes what cannot be told back. The value is a secret."""
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise self.refuse("a value of source.headers is no text", "Write it in quotes.", "header_refused")
        return str(value)

    def encryption(self) -> t.Optional[EncryptionSpec]:
        given = self._params.get("encryption")
        if not given:
            return None
        slots = tuple(
            Keyslot(slot["slot"], slot.get("state") != "absent", slot.get("new_secret_file"))
            for slot in given.get("keyslots") or ()
        )
        return EncryptionSpec(given.get("secret_file"), slots)


def _one_checksum(text: t.Optional[str]) -> t.Optional[str]:
    """C(algorithm:value) in one spelling: without spaces, and without the file name that sha256sum(1) prints behind it."""
    if not text or ":" not in text:
        return text
    algorithm, _colon, value = text.strip().partition(":")
    words = value.split()
    value = words[0] if words else ""
    return "%s:%s" % (algorithm.strip().lower(), value if "://" in value else value.lower())
