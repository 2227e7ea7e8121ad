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

from ansible_collections.platter.qemu.plugins.module_utils._core.errors import SpecError
from ansible_collections.platter.qemu.plugins.module_utils._core.place import Place, parse_place
from ansible_collections.platter.qemu.plugins.module_utils._core.size import SECTOR, parse_size, round_up
from ansible_collections.platter.qemu.plugins.module_utils._formats.features import FEATURES, rounded_size
from ansible_collections.platter.qemu.plugins.module_utils._formats.options import find_option

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

    @property
    def text(self) -> str:
        """How sentences name it."""
        return self.url.split("?")[0] if self.url else str(self.place)


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
    allow_nested_header: bool = False
    repair: t.Optional[str] = None
    on_in_use: str = "fail"
    wait_timeout: float = 60.0
    backup: bool = False
    max_virtual_size: t.Optional[int] = None
    overlay_directories: t.Tuple[str, ...] = ()

    @property
    def effective_size(self) -> t.Optional[int]:
        """The virtual size of a new image of this format made with C(size), in bytes."""
        if self.size is None or self.format is None:
            return None
        return rounded_size(self.format, self.size, dict(self.options))

    @property
    def secrets(self) -> t.List[t.Tuple[str, str]]:
        """The secret objects that open the image: (id, file)."""
        if not self.encryption or not self.encryption.secret_file:
            return []
        return [("sec0", self.encryption.secret_file)]

    def option(self, name: str) -> t.Any:
        """A create option's asked value, or None."""
        return dict(self.options).get(name)

    @classmethod
    def from_params(cls, params: t.Mapping[str, t.Any]) -> ImageSpec:
        """The spec of one item's module options. Raises SpecError."""
        reader = _Reader(params)
        spec = cls(
            path=reader.path(),
            state=params.get("state") or "present",
            format=params.get("format"),
            size=reader.size("size"),
            options=reader.options(),
            backing=reader.backing(),
            source=reader.source(),
            encryption=reader.encryption(),
            repair=params.get("repair"),
            on_in_use=params.get("on_in_use") or "fail",
            wait_timeout=float(params.get("wait_timeout") or 60),
            max_virtual_size=reader.size("max_virtual_size"),
            overlay_directories=tuple(params.get("overlay_directories") or ()),
            **{name: bool(params.get(name)) for name in _FLAGS},
        )
        _refuse_contradictions(spec)
        return spec


_FLAGS = ("flatten", "compressed", "allow_shrink", "discard_data", "allow_rewrite", "allow_nested_header", "backup")


class _Reader:
    """Turns an item's options into values; every refusal names the item's path."""

    def __init__(self, params: t.Mapping[str, t.Any]) -> None:
        self._params = params
        self._name = str(params.get("path"))

    def refuse(self, fact: str, way_out: str, reason: str = "bad_option") -> SpecError:
        return SpecError("this task", self._name, fact, reason=reason, way_out=way_out)

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
                "Give a local path; a remote place can be a source.",
                "place_not_writable",
            )
        return place.path

    def path(self) -> str:
        if not self._params.get("path"):
            raise self.refuse("no path is given", "Set path, or list images.")
        return self._local(self._params["path"], "the image")

    def size(self, name: str) -> t.Optional[int]:
        value = self._params.get(name)
        if value is None:
            return None
        try:
            size = round_up(parse_size(value), SECTOR)
        except ValueError as exc:
            raise self.refuse("%s: %s" % (name, exc), "Correct %s." % name, "bad_size") from exc
        if size < SECTOR:
            raise self.refuse("%s is 0" % name, "An image has at least 512 bytes.", "bad_size")
        return size

    def options(self) -> Options:
        given = {k: v for k, v in (self._params.get("options") or {}).items() if v is not None}
        format_name = self._params.get("format")
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
            raise self.refuse("options.%s: %s" % (name, exc), "Correct it.", "bad_size") from exc

    def backing(self) -> t.Optional[BackingSpec]:
        given = self._params.get("backing")
        if not given:
            return None
        return BackingSpec(
            path=self._local(given["path"], "the backing file"),
            format=given["format"],
            relative=bool(given.get("relative")),
            rebase=given.get("rebase") or "safe",
            accept_changed=bool(given.get("accept_changed")),
        )

    def source(self) -> t.Optional[SourceSpec]:
        given = self._params.get("source")
        if not given:
            return None
        if bool(given.get("path")) == bool(given.get("url")):
            raise self.refuse("source needs either path or url", "Set exactly one of them.")
        place = self._place(given["path"]) if given.get("path") else None
        url = given.get("url")
        if place is not None and place.driver in ("http", "https"):
            place, url = None, str(given["path"])
        return SourceSpec(
            format=given["format"],
            place=place,
            url=url,
            checksum=given.get("checksum"),
            compression=given.get("compression") or "auto",
            trusted=bool(given.get("trusted")),
            policy=self._params.get("source_policy") or "if_absent",
            http=self._http(given),
        )

    def _http(self, given: t.Mapping[str, t.Any]) -> HttpSpec:
        return HttpSpec(
            headers=tuple(sorted((given.get("headers") or {}).items())),
            username=given.get("username"),
            password=given.get("password"),
            validate_certs=given.get("validate_certs") is not False,
            ca_path=given.get("ca_path"),
            timeout=float(given.get("timeout") or 30),
        )

    def encryption(self) -> t.Optional[EncryptionSpec]:
        given = self._params.get("encryption")
        if not given:
            return None
        slots = tuple(
            Keyslot(slot["slot"], slot.get("state") != "absent", slot.get("new_secret_file"))
            for slot in given.get("keyslots") or ()
        )
        return EncryptionSpec(given.get("secret_file"), slots)


def _refuse_contradictions(spec: ImageSpec) -> None:
    for fact, way_out in _contradictions(spec):
        raise SpecError("this task", spec.path, fact, reason="bad_option", way_out=way_out)


def _contradictions(spec: ImageSpec) -> t.Iterator[t.Tuple[str, str]]:
    if spec.state == "absent":
        return
    if spec.format is None:
        yield "no format is given, and a format is never guessed for a write", "Set format."
        return
    features = FEATURES[spec.format]
    if not features.create:
        yield "QEMU cannot make %s images" % spec.format, "Choose another format."
    yield from _wrong_data_file(spec)
    if spec.options or spec.backing:
        yield from _wrong_options(spec)
    if spec.backing:
        yield from _backing_contradictions(spec)
    if spec.repair and spec.repair not in features.repair:
        yield "QEMU has no repair for the format %s" % spec.format, "Leave repair out."
    if spec.compressed and not features.compression:
        yield "the format %s holds no compressed data" % spec.format, "Leave compressed out."


def _backing_contradictions(spec: ImageSpec) -> t.Iterator[t.Tuple[str, str]]:
    if spec.flatten:
        yield "both backing and flatten are given", "Set one of them."
    if not FEATURES[str(spec.format)].backing:
        yield "the format %s has no backing files" % spec.format, "Use qcow2."
    if spec.format == "qcow" and spec.backing and spec.backing.format == "raw":
        yield "qcow records no format of its base, so that QEMU would guess what a raw one is", "Use qcow2."
    if spec.backing and spec.backing.path == spec.path:
        yield "the image is its own backing file", "Name another base."
    if spec.source:
        yield "both source and backing are given", "Import the base first, then make an overlay of it."


def _wrong_options(spec: ImageSpec) -> t.Iterator[t.Tuple[str, str]]:
    from ansible_collections.platter.qemu.plugins.module_utils._formats.rules import validate_options

    options = dict(spec.options)
    if spec.backing:
        options.update(backing_file=spec.backing.path, backing_fmt=spec.backing.format)
    known = {name: value for name, value in options.items() if name in dict(spec.options) or _has(spec, name)}
    for problem in _managed_options(spec) + validate_options(str(spec.format), known):
        yield "options: %s" % problem, "Correct options."


def _wrong_data_file(spec: ImageSpec) -> t.Iterator[t.Tuple[str, str]]:
    data_file = spec.option("data_file")
    if data_file is None:
        return
    if not str(data_file).startswith("/") or data_file == spec.path:
        yield "options.data_file is not an absolute path of another file", "Correct it."
    if spec.source:
        yield "both source and options.data_file are given", "Import the image without a data file."


def _has(spec: ImageSpec, name: str) -> bool:
    return find_option(str(spec.format), name) is not None


def _managed_options(spec: ImageSpec) -> t.List[str]:
    """Create options of QEMU's that an option of the module stands for."""
    managed = [name for name, _value in spec.options if getattr(find_option(str(spec.format), name), "managed", False)]
    return ["%s follows from another option of the module" % name for name in managed]
