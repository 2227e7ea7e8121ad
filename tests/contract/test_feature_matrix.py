"""The feature matrix and the option tables are what the installed QEMU does: each claim is tried."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._formats.features import (
    FEATURES,
)
from ansible_collections.platter.qemu.plugins.module_utils._formats.options import OPTIONS, to_argument
from ansible_collections.platter.qemu.plugins.module_utils._formats.registry import FORMAT_NAMES
from ansible_collections.platter.qemu.tests.lab.oracle import (
    create,
    info,
    qemu_img,
    require_qemu,
    try_qemu_img,
    version,
)

pytestmark = pytest.mark.usefixtures("qemu")
MIB = 1 << 20
SECRET = ("--object", "secret,id=key,file=secret")


@pytest.fixture(scope="module")
def qemu() -> None:
    require_qemu()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("a password")
    return tmp_path


@pytest.fixture(scope="module", autouse=True)
def _plain_luks(tmp_path_factory: pytest.TempPathFactory, qemu: None) -> Path:
    """One LUKS image for all: each costs seconds, in which QEMU measures how many iterations take 10 ms."""
    directory = tmp_path_factory.mktemp("luks")
    (directory / "secret").write_text("a password")
    _LUKS.append(create(directory / "image", "luks", "8M", "key-secret=key,iter-time=10", *SECRET))
    return _LUKS[-1]


_LUKS: list[Path] = []


def _new(directory: Path, format: str, size: object = "8M", options: str = "") -> Path:
    if format == "luks" and (size, options) == ("8M", ""):
        return Path(shutil.copy(_LUKS[-1], directory / "image"))
    if format == "luks":
        options = ",".join(part for part in ("key-secret=key,iter-time=10", options) if part)
    return create(directory / "image", format, size, options, *SECRET)


def _works(*argv: object, cwd: Path) -> bool:
    return try_qemu_img(*argv, cwd=cwd).returncode == 0


def _image_opts(format: str) -> str:
    return f"driver={format},file.filename=image" + (",key-secret=key" if format == "luks" else "")


def _help(verb: str, format: str) -> dict[str, str]:
    """Option names and their descriptions, as qemu-img lists them; none where it has no such verb for the format."""
    said = try_qemu_img(verb, "-f", format, "-o", "help")
    return dict(re.findall(r"^ +([\w.-]+)=<[^>]*> *- (.*)$", said.stdout, re.MULTILINE)) if said.returncode == 0 else {}


@pytest.mark.parametrize("format", FORMAT_NAMES)
def test_every_create_option_is_in_the_table(format: str) -> None:
    known = {option.qemu_name for option in OPTIONS[format] if not option.of_file and not option.amend_only}
    listed = set(_help("create", format))
    assert known - listed == set()
    if version() == (7, 2):
        assert listed - known == set()


@pytest.mark.parametrize("format", FORMAT_NAMES)
def test_what_is_amendable_is_listed_for_amend(format: str) -> None:
    known = {option.qemu_name for option in OPTIONS[format] if option.amendable}
    assert known - set(_help("amend", format)) == set()


def test_options_of_the_file_are_those_of_raw() -> None:
    listed = set(_help("create", "file") or _help("create", "raw")) | {"nocow", "extent_size_hint", "preallocation"}
    known = {option.qemu_name for options in OPTIONS.values() for option in options if option.of_file}
    assert known <= listed


@pytest.mark.parametrize("format", FORMAT_NAMES)
def test_create_works_as_said(format: str, directory: Path) -> None:
    _new(directory, format)
    assert FEATURES[format].create


@pytest.mark.parametrize("format", FORMAT_NAMES)
@pytest.mark.parametrize("base", ["raw", "qcow2", "vmdk"])
def test_backing_works_as_said(format: str, base: str, directory: Path) -> None:
    create(directory / "base", base, "8M")
    options = ("-o", "key-secret=key,iter-time=10", *SECRET) if format == "luks" else ()
    works = _works("create", "-q", "-f", format, *options, "-b", "base", "-F", base, "image", cwd=directory)
    assert works == (base in FEATURES[format].backing)


@pytest.mark.parametrize("format", FORMAT_NAMES)
@pytest.mark.parametrize("grow", [True, False])
def test_resize_works_as_said(format: str, grow: bool, directory: Path) -> None:
    _new(directory, format)
    more = () if grow else ("--shrink",)
    size = 16 * MIB if grow else 4 * MIB
    works = _works("resize", "-q", *SECRET, *more, "--image-opts", _image_opts(format), size, cwd=directory)
    assert works == (FEATURES[format].grow if grow else FEATURES[format].shrink)
    assert not works or info(directory / "image", format)["virtual-size"] == size


@pytest.mark.parametrize("format", [name for name in FORMAT_NAMES if FEATURES[name].grow])
@pytest.mark.parametrize("mode", ["off", "metadata", "falloc", "full"])
def test_growing_preallocates_as_said(format: str, mode: str, directory: Path) -> None:
    _new(directory, format)
    preallocation = f"--preallocation={mode}"
    works = _works("resize", "-q", *SECRET, preallocation, "--image-opts", _image_opts(format), "16M", cwd=directory)
    assert works == (mode in FEATURES[format].grow_preallocation)


@pytest.mark.parametrize("format", FORMAT_NAMES)
def test_check_and_repair_work_as_said(format: str, directory: Path) -> None:
    _new(directory, format)
    opts = (*SECRET, "--image-opts", _image_opts(format))
    repairs = tuple(kind for kind in ("leaks", "all") if _works("check", "-q", "-r", kind, *opts, cwd=directory))
    assert (_works("check", "-q", *opts, cwd=directory), repairs) == (FEATURES[format].check, FEATURES[format].repair)


@pytest.mark.parametrize("format", FORMAT_NAMES)
def test_snapshots_and_bitmaps_work_as_said(format: str, directory: Path) -> None:
    _new(directory, format)
    snapshot = _works("snapshot", "-c", "one", *SECRET, "--image-opts", _image_opts(format), cwd=directory)
    bitmap = _works("bitmap", "--add", *SECRET, "--image-opts", _image_opts(format), "bits", cwd=directory)
    assert (snapshot, bitmap) == (FEATURES[format].internal_snapshots, FEATURES[format].bitmaps)


def _compresses(format: str, options: str, directory: Path) -> bool:
    """Whether convert -c succeeds, and the data takes less room."""
    (directory / "source").write_bytes(b"compressible " * 80_000)
    options = ",".join(part for part in (options, "key-secret=key,iter-time=10" if format == "luks" else "") if part)
    given = (*SECRET, "-o", options) if options else ()
    works = _works("convert", "-c", "-f", "raw", "-O", format, *given, "source", "image", cwd=directory)
    return works and (directory / "image").stat().st_blocks * 512 < 600_000


@pytest.mark.parametrize("format", FORMAT_NAMES)
def test_compression_works_as_said(format: str, directory: Path) -> None:
    features = FEATURES[format]
    for subformat in features.compression_subformats:
        assert _compresses(format, f"subformat={subformat}", directory)
    assert _compresses(format, "", directory) == (features.compression and not features.compression_subformats)


@pytest.mark.parametrize("format", FORMAT_NAMES)
@pytest.mark.parametrize("method", ["aes", "luks"])
def test_encryption_works_as_said(format: str, method: str, directory: Path) -> None:
    if format == "luks":
        assert FEATURES[format].encryption == ("luks",)
        return
    options = f"encrypt.format={method},encrypt.key-secret=key" + (",encrypt.iter-time=10" if method == "luks" else "")
    works = _works("create", "-q", "-f", format, *SECRET, "-o", options, "image", "8M", cwd=directory)
    assert works == (method in FEATURES[format].encryption)


@pytest.mark.parametrize("format", FORMAT_NAMES)
def test_preallocation_takes_room_as_said(format: str, directory: Path) -> None:
    """A mode counts where it has an effect: others QEMU passes on to the file, which is then empty (seen on 7.2)."""
    made = _LUKS[-1] if format == "luks" else _new(directory, format)  # a copy of it would have no holes
    plain = made.stat().st_blocks
    effective = ["off"]
    for mode in ("metadata", "falloc", "full"):
        given = "key-secret=key,iter-time=10," if format == "luks" else ""
        options = f"{given}preallocation={mode}"
        if _works("create", "-q", "-f", format, *SECRET, "-o", options, "image", "8M", cwd=directory):
            effective += [mode] if (directory / "image").stat().st_blocks > plain else []
    assert tuple(effective) == FEATURES[format].preallocation
    choices = [option.choices for option in OPTIONS[format] if option.name == "preallocation"]
    assert choices == ([FEATURES[format].preallocation] if len(effective) > 1 else [])


def test_split_subformats_are_more_than_one_file(directory: Path) -> None:
    several = []
    subformats = next(option.choices for option in OPTIONS["vmdk"] if option.name == "subformat")
    for subformat in subformats:
        room = directory / subformat
        room.mkdir()
        create(room / "image.vmdk", "vmdk", "5G", f"subformat={subformat}")
        several += [subformat] if len(list(room.iterdir())) > 1 else []
    assert sorted(several) == sorted(FEATURES["vmdk"].split)


AMENDMENTS = {
    "compat": ("0.10", "1.1"),
    "lazy_refcounts": (True, False),
    "refcount_bits": (8, 32),
}
NOT_AMENDABLE = {
    "cluster_size": 4096,
    "extended_l2": True,
    "compression_type": "zstd",
    "preallocation": "full",
    "data_file": "other",
    "data_file_raw": True,
    "backing_file": "other",
}


@pytest.mark.parametrize("name", [name for name in FEATURES["qcow2"].amend if not name.startswith("encrypt_")])
def test_qcow2_options_are_amended_as_said(name: str, directory: Path) -> None:
    _new(directory, "qcow2")
    for value in AMENDMENTS[name]:
        qemu_img("amend", "-f", "qcow2", "-o", to_argument(name, value), "image", cwd=directory)
        data = info(directory / "image", "qcow2")["format-specific"]["data"]
        assert data.get(name.replace("_", "-"), False) == value


@pytest.mark.parametrize(("name", "value"), NOT_AMENDABLE.items())
def test_other_qcow2_options_cannot_be_amended(name: str, value: object, directory: Path) -> None:
    _new(directory, "qcow2")
    assert not _works("amend", "-f", "qcow2", "-o", to_argument(name, value), "image", cwd=directory)
    assert name not in FEATURES["qcow2"].amend


def test_luks_keyslots_are_amended_as_said(directory: Path) -> None:
    _new(directory, "luks")
    (directory / "another").write_text("another password")
    values = {"state": "active", "new_secret": "new", "keyslot": 3, "iter_time": 10}
    options = ",".join(to_argument(name, value) for name, value in values.items())
    secrets = (*SECRET, "--object", "secret,id=new,file=another")
    qemu_img("amend", *secrets, "-o", options, "--image-opts", _image_opts("luks"), cwd=directory)
    slots = info(directory / "image", "luks")["format-specific"]["data"]["slots"]
    assert [slot["active"] for slot in slots] == [True, False, False, True, False, False, False, False]
    assert set(values) < set(FEATURES["luks"].amend)


def test_luks_defaults_are_qemus(directory: Path) -> None:
    data = info(_new(directory, "luks"), "luks")["format-specific"]["data"]
    reported = [option for option in OPTIONS["luks"] if option.reported and not option.managed]
    assert {o.name: o.default for o in reported} == {o.name: data.get(o.qemu_name) for o in reported}


@pytest.mark.parametrize("format", [name for name in FORMAT_NAMES if name != "luks"])
def test_defaults_are_qemus(format: str, directory: Path) -> None:
    """Asking for every default makes the same image as asking for nothing."""
    asked_for = [option for option in OPTIONS[format] if not option.managed and not option.name.startswith("encrypt_")]
    options = ",".join(to_argument(o.name, o.default) for o in asked_for if o.default is not None)
    plain, asked = create(directory / "plain", format, "8M"), create(directory / "asked", format, "8M", options)
    assert _comparable(info(plain, format)) == _comparable(info(asked, format))
    assert plain.stat().st_size == asked.stat().st_size


def _comparable(told: dict[str, Any]) -> dict[str, Any]:
    """Without names, content ids, and the room that a file system happens to give."""
    told = {key: value for key, value in told.items() if key not in ("filename", "actual-size", "children")}
    data = told.get("format-specific", {}).get("data", {})
    data.pop("cid", None)
    for extent in data.get("extents", []):
        extent.pop("filename")
    return told
