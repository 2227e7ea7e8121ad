# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Brings a source to this host, verifies and unpacks it in a private place, and hands it to the builder."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.renaming import renaming
from ansible_collections.platter.qemu.plugins.module_utils._image import (
    actions,
    convert,
    difference,
    far_source,
    gate,
    plan_size,
    secret,
    space,
    state,
)
from ansible_collections.platter.qemu.plugins.module_utils._image.held_source import HeldSource, held_source
from ansible_collections.platter.qemu.plugins.module_utils._image.source import (
    closed_source,
    inspect_source,
    source_refused,
)
from ansible_collections.platter.qemu.plugins.module_utils._image.spec import ImageSpec, SourceSpec
from ansible_collections.platter.qemu.plugins.module_utils._inspect import damage
from ansible_collections.platter.qemu.plugins.module_utils._tools import (
    build_directory,
    decompress,
    download,
    file_system,
    files,
    http_access,
    sparse,
)
from ansible_collections.platter.qemu.plugins.module_utils._tools.qemu_img import QemuImg, image_node

Record = t.Dict[str, t.Any]


def import_image(
    converter: convert.Converter,
    qemu_img: QemuImg,
    spec: ImageSpec,
    action: actions.ImportImage,
    reading: state.ImageReading,
) -> t.Dict[str, t.Any]:
    """Carry out an import; nothing but the final step is seen at the image's place."""
    if far_source.is_read_there(action.source):
        found = far_source.size_of(qemu_img, spec)
        _refuse_another_size(spec, action, found)
        return converter.import_node(spec, action, reading, far_source.node_of(action.source), {}, size=found)
    with build_directory.BuildDirectory(file_system.build_place(spec.path)) as staging, held_source(
        spec, action.source, staging
    ) as held:
        path, record = _staged(qemu_img, spec, action.source, staging, held)
        path = _unpacked(spec, action.source, path, staging)
        header = inspect_source(spec, path)
        node, opened_by = secret.source_node(spec, header, files.local_node(files.file_facts(path)))
        refuse_damaged(qemu_img, spec, node, opened_by)
        _refuse_damaged_bases(qemu_img, spec, action.source, path)
        _refuse_another_size(spec, action, header.virtual_size)
        return converter.import_node(
            spec, action, reading, node, record, path, held.refuse_disturbed, size=header.virtual_size
        )


def _refuse_another_size(spec: ImageSpec, action: actions.ImportImage, found: int) -> None:
    """Only now the size of a source that was fetched is known, and of any other it may have changed since the task was
    planned. Without a size the image is as large as its source was then: a larger one would be cut off.
    """
    if spec.effective_size is not None and t.cast(int, spec.size) < found:
        plan_size.refuse_shrinking_import(spec, found)
    plan_size.refuse_too_large(spec, spec.effective_size or found)
    planned = action.virtual_size
    if spec.size is None and planned is not None and found > planned:
        raise source_refused(
            spec,
            "source_changed",
            "it has %d bytes now, and had %d when the task was planned" % (found, planned),
            "Import when nobody writes to the source.",
            before={"virtual_size": planned},
            now={"virtual_size": found},
        )


def _staged(
    qemu_img: QemuImg, spec: ImageSpec, source: SourceSpec, staging: build_directory.BuildDirectory, held: HeldSource
) -> t.Tuple[str, Record]:
    """(a local file with the source's bytes, what to remember of it)."""
    if source.url:
        return _downloaded(spec, source, staging)
    place = t.cast(t.Any, source.place)
    if place.path is None:
        # QEMU reads the foreign bytes as raw only, so that our parser sees the image before QEMU's do
        path, node = staging.spare("source"), image_node("raw", place.node())
        space.require_space(spec, int(qemu_img.measure(node, "qcow2")["required"]))
        qemu_img.convert(node, path, "raw")
        return path, {}
    record: Record = held.facts.written
    if source.checksum:
        record["digest"] = verified_digest(spec, held.path)
    return held.path, record


def _downloaded(spec: ImageSpec, source: SourceSpec, staging: build_directory.BuildDirectory) -> t.Tuple[str, Record]:
    path = staging.spare("download")
    report = download.download(
        t.cast(str, source.url),
        path,
        expected_digest=expected_digest(spec),
        free_bytes_reserve=space.SPACE_RESERVE,
        **_http(source),
    )
    record = {"digest": report.digest, "etag": report.etag, "last_modified": report.last_modified}
    return path, {key: value for key, value in record.items() if value}


def _http(source: SourceSpec) -> t.Dict[str, t.Any]:
    http = source.http
    return {
        "headers": dict(http.headers),
        "username": http.username,
        "password": http.password,
        "validate_certs": http.validate_certs,
        "ca_path": http.ca_path,
        "timeout": http.timeout,
    }


def expected_digest(spec: ImageSpec) -> t.Optional[str]:
    """C(algorithm:hex) that the source must have; a checksum file is fetched for it."""
    source = t.cast(SourceSpec, spec.source)
    if not source.checksum:
        return None
    access = _http(source)
    if not source.url or not http_access.same_host(source.url, source.checksum.partition(":")[2]):
        access.update(headers={}, username=None, password=None)  # they are for the source's own host
    return str(download.resolve_checksum(source.checksum, _file_name(source), **access))


def _file_name(source: SourceSpec) -> str:
    text = source.url.split("?")[0] if source.url else str(t.cast(t.Any, source.place).path)
    return os.path.basename(text)


def verified_digest(spec: ImageSpec, path: str) -> str:
    """The digest of the local source, which must be the declared one."""
    expected = t.cast(str, expected_digest(spec))
    algorithm, _colon, declared = expected.partition(":")
    found = sparse.digest_of(path, algorithm)
    if found != declared.lower():
        raise source_refused(
            spec,
            "checksum_mismatch",
            "its %s is %s, not %s" % (algorithm, found, declared),
            "Get the source again, or correct source.checksum.",
            found=found,
            expected=declared,
        )
    return "%s:%s" % (algorithm, found)


#: gzip(1), bzip2(1), xz(1) and zstd(1) by the endings of their files
_COMPRESSIONS = {"gzip": "gz", "bzip2": "bz2", "xz": "xz", "zstd": "zst"}


def compression_of(source: SourceSpec, path: str) -> str:
    """How the file at C(path) is packed; empty when it is not."""
    if source.compression == "auto":
        return decompress.detect_compression(path) or ""
    return _COMPRESSIONS.get(source.compression, "")


def _unpacked(spec: ImageSpec, source: SourceSpec, path: str, staging: build_directory.BuildDirectory) -> str:
    compression = compression_of(source, path)
    if not compression:
        return path
    unpacked = staging.spare("unpacked")
    limit = None if source.trusted and source.format != "raw" else spec.max_virtual_size
    if not source.trusted:
        limit = limit or gate.LARGEST_UNTRUSTED
    with renaming(path, source.text):
        decompress.decompress(path, unpacked, compression, limit_bytes=limit, free_bytes_reserve=space.SPACE_RESERVE)
    if path.startswith(staging.directory + "/"):
        os.unlink(path)
    return unpacked


def refuse_damaged(
    qemu_img: QemuImg, spec: ImageSpec, node: t.Mapping[str, t.Any], secrets: t.Sequence[t.Tuple[str, str]] = ()
) -> None:
    """QEMU 7.2 converts a truncated qcow2 image to zeros without a word; only check tells."""
    try:
        found = damage.damage_of(qemu_img, node, secrets)
    except errors.ToolError as exc:
        raise closed_source(spec, exc) from exc
    if found:
        raise source_refused(spec, "source_damaged", found.fact, "Get the source again.", **found.report)


def _refuse_damaged_bases(qemu_img: QemuImg, spec: ImageSpec, source: SourceSpec, path: str) -> None:
    """A trusted source may be an overlay: what is below it is read just so."""
    if not source.trusted:
        return
    from ansible_collections.platter.qemu.plugins.module_utils._inspect import chain, image

    for link in chain.walk_chain(path, source.format, image.chain_header).links[1:]:
        found = damage.damage_alone(qemu_img, link.path, link.header) if link.header else None
        if found:
            fact = "its backing file %s is damaged: %s" % (link.path, found.fact)
            raise source_refused(spec, "source_damaged", fact, "Restore that from a copy.", **found.report)


def read_remote(spec: ImageSpec, remembered: t.Optional[Record]) -> state.SourceReading:
    """Whether the source behind a URL has changed, by its digest or else by what its server says.

    C(remembered) is what is known of the source of what is there, None when there is nothing. What is going to be
    fetched is asked for (a HEAD request): a server that will not give it is found before anything is done.
    """
    source = t.cast(SourceSpec, spec.source)
    digest = expected_digest(spec)
    if remembered is not None and not remembered:
        return state.SourceReading(digest=digest)
    known_digest = (remembered or {}).get("digest")
    if digest and digest == known_digest:
        return state.SourceReading(digest=digest, changed=False)
    seen = download.head(t.cast(str, source.url), **_http(source))
    if remembered is None:
        return state.SourceReading(digest=digest, length=seen.size)
    if digest and known_digest and difference.of_one_kind(digest, known_digest):
        return state.SourceReading(digest=digest, changed=True, why="its checksum is another", length=seen.size)
    now = {"etag": seen.etag, "last_modified": seen.last_modified}
    known = [key for key in now if now[key] and remembered.get(key)]
    changed = any(now[key] != remembered[key] for key in known)
    return state.SourceReading(
        digest=digest, changed=changed, why="the server says that it has changed", length=seen.size
    )
