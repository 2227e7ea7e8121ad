"""LUKS images and encrypted qcow2: every cipher, mode, hash and IV generator, secrets, key slots. One at a time is slow:
QEMU measures the machine for seconds whenever it makes a key.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._formats.options import (
    CIPHERS,
    HASHES,
    IVGENS,
    OPTIONS,
)
from ansible_collections.platter.qemu.tests.lab.beats import four_beats, refused, settled
from ansible_collections.platter.qemu.tests.lab.guest import (
    MIB,
    PATTERNS,
    filename,
    guest_bytes,
    scribble,
    shows,
)
from ansible_collections.platter.qemu.tests.lab.modules import call, prepared
from ansible_collections.platter.qemu.tests.lab.oracle import create, qemu_img, try_qemu_img
from ansible_collections.platter.qemu.tests.lab.programs import DEADLINE

SECRET = "ge,heim: 'ü'"
#: where the key has 192 bits only xts will do, and cast5's block is too short for xts
MODES = {"cast5-128": "ctr", "aes-128": "cbc", "serpent-256": "ecb"}
#: QEMU may be built with a crypto library that lacks them
RARE = ("cast5", "serpent", "twofish", "ripemd160", "ctr", "ecb")


def rows() -> list[dict[str, Any]]:
    """Every choice of every option at least once, several in one image."""
    return [
        {
            "cipher_alg": cipher,
            "cipher_mode": MODES.get(cipher, "xts"),
            "ivgen_alg": ivgen or "plain64",
            "hash_alg": hash_alg or "sha256",
            "iter_time": 10,
        }
        for cipher, ivgen, hash_alg in zip_longest(CIPHERS, [i for i in IVGENS if i != "essiv"], HASHES)
    ] + [
        {"cipher_mode": "cbc", "ivgen_alg": "essiv", "ivgen_hash_alg": kind, "cipher_alg": cipher, "iter_time": 10}
        for kind, cipher in (("sha256", "aes-256"), ("md5", "aes-128"))
    ]


QCOW2_ROWS = [rows()[0], rows()[-2]]


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text(SECRET)
    path.chmod(0o600)
    return path


def luks(tmp_path: Path, **more: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"path": str(tmp_path / "disk.luks"), "format": "luks", "size": "4M"}
    return {**given, "options": {"iter_time": 10}, "encryption": {"secret": SECRET}, **more}


def qcow2(tmp_path: Path, **more: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"path": str(tmp_path / "disk.qcow2"), "format": "qcow2", "size": "4M"}
    options = {"encrypt_format": "luks", "encrypt_iter_time": 10}
    return {**given, "options": options, "encryption": {"secret": SECRET}, **more}


def named(row: dict[str, Any]) -> str:
    return "-".join(str(value) for value in row.values())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An image of each format, made once: a copy costs nothing."""
    directory = tmp_path_factory.mktemp("encrypted")
    (directory / "secret").write_text(SECRET)
    return {"luks": _made(directory, luks), "qcow2": _made(directory, qcow2)}


def _made(directory: Path, given: Any) -> Path:
    options = given(directory)
    assert call("disk_image", **options)["changed"]
    scribble(options["path"], options["format"], secret=directory / "secret")
    return Path(options["path"])


def slots(path: object, format: str) -> list[int]:
    """The numbers of the active key slots, as QEMU tells them."""
    told = json.loads(qemu_img("info", "--output=json", "-f", format, path))["format-specific"]["data"]
    found = (told["encrypt"] if format == "qcow2" else told)["slots"]
    return [number for number, slot in enumerate(found) if slot["active"]]


def opens(path: object, format: str, secret: object) -> bool:
    """Whether the image opens with the secret in that file."""
    argv = ["qemu-io", "--object", f"secret,id=sec0,file={secret}", "-c", "read -q 0 512", filename(path, format, True)]
    return subprocess.run(argv, capture_output=True, timeout=DEADLINE, check=False).returncode == 0


def test_the_rows_hold_every_choice() -> None:
    missing = [
        (option.name, choice)
        for option in OPTIONS["luks"]
        if option.choices and not option.managed and option.name != "preallocation"
        for choice in option.choices
        if choice not in {row.get(option.name) for row in rows()}
    ]
    # The other hashes give keys of a size that no cipher has: refused, see test_an_iv_hash_that_is_no_key_size
    assert missing == [("ivgen_hash_alg", kind) for kind in HASHES if kind not in ("md5", "sha256")]


@pytest.mark.parametrize("row", rows(), ids=named)
def test_luks_is_made_with_every_cipher_and_hash(tmp_path: Path, secret: Path, row: dict[str, Any]) -> None:
    given = luks(tmp_path, options=row)
    try:
        result = four_beats(**given)
    except AssertionError:
        skip_without_crypto(tmp_path, secret, row)
        raise
    told = json.loads(qemu_img("info", "--output=json", "-f", "luks", given["path"]))["format-specific"]["data"]
    for name in ("cipher_alg", "cipher_mode", "ivgen_alg", "ivgen_hash_alg", "hash_alg"):
        assert name not in row or told[name.replace("_", "-")] == row[name]
    scribble(given["path"], "luks", secret=secret)
    shows(given["path"], "luks", secret=secret)
    assert SECRET not in json.dumps(result, ensure_ascii=False)


def skip_without_crypto(tmp_path: Path, secret: Path, row: dict[str, Any]) -> None:
    """Where QEMU itself cannot, without the module."""
    if not any(str(value).startswith(RARE) for value in row.values()):
        return
    options = ",".join(f"{name.replace('_', '-')}={value}" for name, value in row.items())
    argv = ["--object", f"secret,id=s,file={secret}", "-f", "luks", "-o", f"key-secret=s,{options}"]
    done = try_qemu_img("create", *argv, tmp_path / "attempt", "1M")
    (tmp_path / "attempt").unlink(missing_ok=True)
    if done.returncode:
        pytest.skip(f"this QEMU cannot: {done.stderr.strip()}")


@pytest.mark.parametrize("row", QCOW2_ROWS, ids=named)
def test_qcow2_is_encrypted_with_every_option(tmp_path: Path, secret: Path, row: dict[str, Any]) -> None:
    given = qcow2(tmp_path, options={"encrypt_format": "luks", **{"encrypt_" + k: v for k, v in row.items()}})
    four_beats(**given)
    scribble(given["path"], "qcow2", secret=secret)
    shows(given["path"], "qcow2", secret=secret)


@pytest.mark.parametrize("kind", [k for k in HASHES if k not in ("md5", "sha256")])
def test_an_iv_hash_that_is_no_key_size_is_refused(tmp_path: Path, kind: str) -> None:
    options = {"ivgen_alg": "essiv", "cipher_mode": "cbc", "ivgen_hash_alg": kind}
    refused("bad_option", **luks(tmp_path, options=options))


@pytest.mark.parametrize("given", [luks, qcow2])
def test_a_secret_file_opens_what_it_made(tmp_path: Path, secret: Path, given: Any) -> None:
    options = given(tmp_path, encryption={"secret_file": str(secret)})
    four_beats(**options)
    assert opens(options["path"], options["format"], secret)


def test_a_secret_file_that_others_can_read_is_refused(tmp_path: Path, secret: Path) -> None:
    secret.chmod(0o644)
    refused("key_permissions", **luks(tmp_path, encryption={"secret_file": str(secret)}))


def test_a_secret_file_of_another_user_is_refused(tmp_path: Path, secret: Path) -> None:
    os.chown(secret, 1234, 1234)
    result = refused("key_permissions", **luks(tmp_path, encryption={"secret_file": str(secret)}))
    assert "it belongs to another user (1234)" in result["msg"]


def test_a_secret_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    refused("secret_missing", **luks(tmp_path, encryption={"secret_file": str(tmp_path / "none")}))


@pytest.mark.parametrize("given", [luks, qcow2])
def test_key_slots_are_added_and_removed(tmp_path: Path, secret: Path, made: dict[str, Path], given: Any) -> None:
    options = given(tmp_path)
    shutil.copy(made[options["format"]], options["path"])
    other = tmp_path / "other"
    other.write_text("neu")
    other.chmod(0o600)

    added = {"secret": SECRET, "keyslots": [{"slot": 3, "new_secret": "neu"}]}
    result = four_beats(**{**options, "encryption": added})
    assert result["image"]["keyslots"] == [0, 3]
    assert slots(options["path"], options["format"]) == [0, 3]
    shows(options["path"], options["format"], secret=other)

    removed = {"secret_file": str(other), "keyslots": [{"slot": 0, "state": "absent"}]}
    four_beats(**{**options, "encryption": removed})
    assert slots(options["path"], options["format"]) == [3]
    assert opens(options["path"], options["format"], other)
    assert not opens(options["path"], options["format"], secret)


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory, made: dict[str, Path]) -> Path:
    """An encrypted qcow2 image with keys in the slots 0 (of the secret), 1 and 2."""
    options = qcow2(tmp_path_factory.mktemp("crowded"))
    shutil.copy(made["qcow2"], options["path"])
    keys = [{"slot": slot, "new_secret": f"Schlüssel {slot}"} for slot in (1, 2)]
    assert call("disk_image", **{**options, "encryption": {"secret": SECRET, "keyslots": keys}})["changed"]
    return Path(options["path"])


def erasing(*slots: int) -> dict[str, Any]:
    return {"secret": SECRET, "keyslots": [{"slot": slot, "state": "absent"} for slot in slots]}


def test_the_slot_of_the_secret_is_erased_last(tmp_path: Path, crowded: Path) -> None:
    """Whichever of them it is: nobody can see that, and QEMU is given no other secret of the task."""
    options = qcow2(tmp_path)
    shutil.copy(crowded, options["path"])
    stays = {"slot": 2, "new_secret": "Schlüssel 2"}
    result = call("disk_image", **keyed(options, *erasing(0, 1)["keyslots"], stays))
    assert result["changed"] is True and not result.get("failed"), result
    assert slots(options["path"], "qcow2") == [2]


def test_a_rewrite_that_would_drop_keys_is_refused(tmp_path: Path, secret: Path, crowded: Path) -> None:
    options = qcow2(tmp_path, size=None)
    shutil.copy(crowded, options["path"])
    smaller = {**options, "options": {**options["options"], "cluster_size": "4K"}, "allow_rewrite": True}
    for encryption in (options["encryption"], erasing(1, 2)):
        result = refused("would_lose_keyslots", **{**smaller, "encryption": encryption})
        assert result["evidence"] == {"keyslots": [0, 1, 2]}
    assert call("disk_image", **{**options, "encryption": erasing(1, 2)})["changed"]
    assert call("disk_image", **{**smaller, "encryption": erasing(1, 2)})["changed"]
    assert slots(options["path"], "qcow2") == [0]
    shows(options["path"], "qcow2", secret=secret)


def test_the_last_key_is_never_removed(tmp_path: Path, made: dict[str, Path]) -> None:
    shutil.copy(made["luks"], luks(tmp_path)["path"])
    last = {"secret": SECRET, "keyslots": [{"slot": 0, "state": "absent"}]}
    refused("last_keyslot", **luks(tmp_path, encryption=last))


def test_the_last_key_that_the_task_knows_is_never_removed(tmp_path: Path, made: dict[str, Path]) -> None:
    """Slot 1 is in use, and so is left as it is: another secret is in it than the task believes."""
    asked = qcow2(tmp_path)
    shutil.copy(made["qcow2"], asked["path"])
    prepared("disk_image", **keyed(asked, {"slot": 1, "new_secret": "of somebody else"}))
    gone = {"slot": 0, "state": "absent"}
    for slots in ([gone], [{"slot": 1, "new_secret": "new"}, gone]):
        result = refused("last_keyslot", **keyed(asked, *slots))
        assert result["evidence"] == {"keyslots": [1]}
    result = four_beats(**keyed(asked, {"slot": 1, "new_secret": "of somebody else"}, gone))
    assert result["actions"] == [f"Change the key slots of {asked['path']}: erase slot 0."]


def keyed(asked: dict[str, Any], *slots: dict[str, Any]) -> dict[str, Any]:
    return {**asked, "encryption": {"secret": SECRET, "keyslots": list(slots)}}


def test_a_new_image_gets_its_other_key_slots_at_once(tmp_path: Path) -> None:
    slot = {"slot": 1, "new_secret": "neu"}
    options = luks(tmp_path, encryption={"secret": SECRET, "keyslots": [slot]})
    four_beats(**options)
    assert slots(options["path"], "luks") == [0, 1]


def overlay(tmp_path: Path, made: dict[str, Path], base: Path) -> dict[str, Any]:
    """The task of an encrypted overlay on that base: a copy, as a key of its own would take QEMU seconds."""
    path = shutil.copy(made["qcow2"], tmp_path / "top")
    given = {"path": str(path), "format": "qcow2", "encryption": {"secret": SECRET}}
    unsafe = {"path": str(base), "format": "qcow2", "rebase": "unsafe"}
    assert call("disk_image", **given, backing=unsafe)["changed"]
    return given


def test_an_encrypted_overlay_leaves_its_base(tmp_path: Path, secret: Path, made: dict[str, Path]) -> None:
    base, other = (create(tmp_path / name, "qcow2", "4M") for name in ("base", "other"))
    below = (0x55, 2 * MIB, 64 << 10)
    scribble(base, "qcow2", (below,))
    given = overlay(tmp_path, made, base)
    rebased = {**given, "backing": {"path": str(other), "format": "qcow2"}}
    refused("wrong_secret", **{**rebased, "encryption": {"secret": "falsch"}})
    four_beats(**rebased)
    four_beats(**given, flatten=True)
    for gone in (base, other):
        gone.unlink()
    shows(given["path"], "qcow2", (*PATTERNS, below), secret=secret)


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
def test_what_lies_on_an_encrypted_base_is_not_opened(tmp_path: Path, made: dict[str, Path], encrypted: bool) -> None:
    """QEMU asks for a secret of each image, and the task has one for its own image only."""
    if encrypted:
        given = overlay(tmp_path, made, made["qcow2"])
    else:
        path = create(tmp_path / "top", "qcow2", "4M", "", "-u", "-b", made["qcow2"], "-F", "qcow2")
        given = {"path": str(path), "format": "qcow2"}
    for change in ({"size": "6M"}, {"flatten": True}, {"repair": "leaks"}, {"options": {"lazy_refcounts": True}}):
        result = refused("image_encrypted", **given, **change)
        assert str(made["qcow2"]) in result["msg"]
    assert call("disk_image", **given, mode="0640")["changed"]
    plain = {"path": str(create(tmp_path / "plain", "qcow2", "4M")), "format": "qcow2"}
    refused("image_encrypted", **given, backing=plain)
    assert call("disk_image", **given, backing={**plain, "rebase": "unsafe"})["changed"]
    refused("image_encrypted", **given, backing={"path": str(made["qcow2"]), "format": "qcow2"})


def test_a_source_on_an_encrypted_base_is_refused(tmp_path: Path, made: dict[str, Path]) -> None:
    top = create(tmp_path / "top", "qcow2", "4M", "", "-u", "-b", made["qcow2"], "-F", "qcow2")
    source = {"path": str(top), "format": "qcow2", "trusted": True}
    refused("image_encrypted", path=str(tmp_path / "new"), format="qcow2", source=source)


@pytest.mark.parametrize("given", [luks, qcow2])
def test_an_encrypted_image_grows(tmp_path: Path, secret: Path, made: dict[str, Path], given: Any) -> None:
    options = given(tmp_path)
    shutil.copy(made[options["format"]], options["path"])
    four_beats(**{**options, "size": "6M"})
    told = json.loads(qemu_img("info", "--output=json", "-f", options["format"], options["path"]))
    assert told["virtual-size"] == 6 * MIB
    shows(options["path"], options["format"], secret=secret)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Path]:
    """Images of 8 MiB with the patterns in their first half."""
    directory = tmp_path_factory.mktemp("larger")
    (directory / "secret").write_text(SECRET)
    return {
        given: _made(directory, lambda where, given=given: {**given(where), "size": "8M"}) for given in (luks, qcow2)
    }


def halved(given: Any, large: dict[Any, Path], tmp_path: Path, *written: tuple[int, int, int]) -> dict[str, Any]:
    """The task that halves such an image, with what else is written."""
    options = given(tmp_path)
    shutil.copy(large[given], options["path"])
    scribble(options["path"], options["format"], written, secret=large[given].parent / "secret")
    return {**options, "size": "4M", "allow_shrink": True}


@pytest.mark.parametrize("given", [luks, qcow2])
def test_an_encrypted_image_shrinks_where_it_is_empty(
    tmp_path: Path, secret: Path, large: dict[Any, Path], given: Any
) -> None:
    options = halved(given, large, tmp_path, (0, 6 * MIB, MIB))  # zeros that the guest has written are no data
    refused("secret_missing", **{**options, "encryption": None})
    four_beats(**options)
    shows(options["path"], options["format"], secret=secret)
    told = json.loads(qemu_img("info", "--output=json", "-f", options["format"], options["path"]))
    assert told["virtual-size"] == 4 * MIB


@pytest.mark.parametrize("at", [4 * MIB, 8 * MIB - 512])
@pytest.mark.parametrize("given", [luks, qcow2])
def test_data_in_an_encrypted_image_is_not_cut(
    tmp_path: Path, secret: Path, large: dict[Any, Path], given: Any, at: int
) -> None:
    options = halved(given, large, tmp_path, (0x77, at, 512))
    result = refused("shrink_cuts_data", **options)
    assert at < result["evidence"]["data_end"] <= 8 * MIB
    four_beats(**{**options, "discard_data": True})
    shows(options["path"], options["format"], secret=secret)


@pytest.mark.parametrize("given", [luks, qcow2])
def test_a_file_system_in_an_encrypted_image_is_not_cut(
    tmp_path: Path, secret: Path, large: dict[Any, Path], given: Any
) -> None:
    options = halved(given, large, tmp_path)
    raw = create(tmp_path / "raw", "raw", "8M")
    subprocess.run(["mkfs.ext4", "-q", "-F", raw, "6M"], check=True, capture_output=True)
    key = "key-secret=sec0" if options["format"] == "luks" else "encrypt.key-secret=sec0"
    target = f"driver={options['format']},{key},file.filename={options['path']}"
    objects = ["--object", f"secret,id=sec0,file={secret}"]
    qemu_img("convert", *objects, "-n", "-f", "raw", "--target-image-opts", raw, target)
    result = refused("shrink_cuts_data", **options)
    assert (result["evidence"]["data_end"], result["evidence"]["what"]) == (6 * MIB, "a partition or file system")


WITH_SECRET: dict[str, dict[str, Any]] = {
    "grow": {"size": "6M"},
    "shrink": {"size": "2M", "allow_shrink": True},
    "discard": {"size": "2M", "allow_shrink": True, "discard_data": True},
    "rewrite": {"options": {"iter_time": 10, "cipher_mode": "cbc", "ivgen_alg": "plain64"}, "allow_rewrite": True},
    "convert": {"format": "qcow2", "options": {}, "current_format": "luks", "allow_rewrite": True},
    "keyslots": {"keyslots": [{"slot": 3, "new_secret": "neu"}]},
}


@pytest.mark.parametrize("edit", sorted(WITH_SECRET))
def test_the_wrong_secret_is_found_before_anything_is_done(
    tmp_path: Path, secret: Path, made: dict[str, Path], edit: str
) -> None:
    options = luks(tmp_path)
    shutil.copy(made["luks"], options["path"])
    before = Path(options["path"]).read_bytes()
    change = dict(WITH_SECRET[edit])
    encryption = {"secret": "falsch", **({"keyslots": change.pop("keyslots")} if "keyslots" in change else {})}
    result = refused("wrong_secret", **{**options, **change, "encryption": encryption})
    assert "falsch" not in json.dumps(result)
    assert Path(options["path"]).read_bytes() == before


def test_the_wrong_secret_of_an_encrypted_qcow2_is_found_before_it_is_repaired(
    tmp_path: Path, made: dict[str, Path]
) -> None:
    options = qcow2(tmp_path, repair="all")
    shutil.copy(made["qcow2"], options["path"])
    settled(**options)
    refused("wrong_secret", **{**options, "encryption": {"secret": "falsch"}})
    refused("wrong_secret", **{**qcow2(tmp_path), "size": "6M", "encryption": {"secret": "falsch"}})


@pytest.mark.parametrize("asked", [{"encrypt_format": "luks", "encrypt_iter_time": 10}, {}], ids=["options", "secret"])
def test_an_image_that_is_not_encrypted_is_not_taken_for_one(
    tmp_path: Path, secret: Path, asked: dict[str, Any]
) -> None:
    options = qcow2(tmp_path, options=asked)
    scribble(create(Path(options["path"]), "qcow2", "4M"), "qcow2")
    result = refused("exists_different", **options)
    assert result["evidence"]["differences"] == ["encrypt_format unset instead of luks"]
    four_beats(**{**options, "allow_rewrite": True, "options": {"encrypt_iter_time": 10, **asked}})
    shows(options["path"], "qcow2", secret=secret)


def test_what_cannot_be_encrypted_is_refused(tmp_path: Path) -> None:
    refused("bad_option", path=str(tmp_path / "disk"), format="raw", size="1M", encryption={"secret": SECRET})


@pytest.mark.parametrize("to", ["raw", "qcow2", "luks"])
def test_an_import_is_encrypted(tmp_path: Path, secret: Path, to: str) -> None:
    """To raw: what is not encrypted stays readable; to the others: no plain text reaches the disk."""
    source = tmp_path / "plain.raw"
    source.write_bytes(b"Klartext" * (MIB // 2))
    given = {"raw": lambda t: {"path": str(t / "copy.raw"), "format": "raw"}, "qcow2": qcow2, "luks": luks}[to](
        tmp_path
    )
    four_beats(**{**given, "source": {"path": str(source), "format": "raw"}})
    stored = Path(given["path"]).read_bytes()
    assert (b"Klartext" in stored) == (to == "raw")
    key = None if to == "raw" else secret
    assert guest_bytes(given["path"], to, key) == source.read_bytes()


def imported(tmp_path: Path, made: dict[str, Path], format: str, **source: Any) -> dict[str, Any]:
    """The task that imports the encrypted image of that format into a plain one."""
    copy = shutil.copy(made[format], tmp_path / ("source." + format))
    given = {"path": str(copy), "format": format, "trusted": format == "luks", **source}
    return {"path": str(tmp_path / "image.qcow2"), "format": "qcow2", "source": given}


@pytest.mark.parametrize("format", ["luks", "qcow2"])
def test_an_encrypted_source_is_imported_decrypted(
    tmp_path: Path, secret: Path, made: dict[str, Path], format: str
) -> None:
    given = imported(tmp_path, made, format, secret=SECRET)
    result = four_beats(**given)
    shows(given["path"], "qcow2")
    assert SECRET not in json.dumps(result, ensure_ascii=False)
    again = imported(tmp_path, made, format, secret_file=str(secret))
    four_beats(**{**again, "path": str(tmp_path / "image.raw"), "format": "raw", "size": "6M"})
    shows(tmp_path / "image.raw", "raw")


@pytest.mark.parametrize(("format", "to"), [("luks", qcow2), ("qcow2", luks), ("qcow2", qcow2)])
def test_an_encrypted_source_is_encrypted_anew(
    tmp_path: Path, secret: Path, made: dict[str, Path], format: str, to: Any
) -> None:
    other = tmp_path / "other"
    other.write_text("neu")
    other.chmod(0o600)
    given = to(tmp_path, size=None, encryption={"secret": "neu"})
    given["source"] = imported(tmp_path, made, format, secret_file=str(secret))["source"]
    four_beats(**given)
    shows(given["path"], given["format"], secret=other)
    assert not opens(given["path"], given["format"], secret)
    four_beats(**{**given, "path": given["path"] + ".larger", "size": "6M"})
    shows(given["path"] + ".larger", given["format"], secret=other)


@pytest.mark.parametrize("format", ["luks", "qcow2"])
def test_an_encrypted_source_needs_its_secret(tmp_path: Path, made: dict[str, Path], format: str) -> None:
    result = refused("secret_missing", **imported(tmp_path, made, format))
    assert "Set source.secret or source.secret_file." in result["msg"]
    refused("wrong_secret", **imported(tmp_path, made, format, secret="falsch"))
    refused("secret_missing", **imported(tmp_path, made, format, secret_file=str(tmp_path / "none")))


def test_the_wrong_secret_of_a_packed_source_is_told(tmp_path: Path, made: dict[str, Path]) -> None:
    given = imported(tmp_path, made, "qcow2", secret="falsch")
    packed = Path(given["source"]["path"] + ".gz")
    packed.write_bytes(gzip.compress(made["qcow2"].read_bytes()))
    given["source"]["path"] = str(packed)
    result = call("disk_image", **given)
    assert (result["reason"], result["changed"]) == ("wrong_secret", False)
    given["source"]["secret"] = SECRET
    four_beats(**given, unpredictable=("virtual_size",))
    shows(given["path"], "qcow2")


def test_a_secret_of_what_is_never_encrypted_is_refused(tmp_path: Path, made: dict[str, Path]) -> None:
    given = imported(tmp_path, made, "qcow2", secret=SECRET)
    refused("bad_option", **{**given, "source": {**given["source"], "format": "vdi"}})
    refused("bad_option", **{**given, "path": f"nbd+unix:///?socket={tmp_path}/none"})


def test_a_source_with_the_old_encryption_is_refused(tmp_path: Path, secret: Path) -> None:
    objects = ["--object", f"secret,id=s,file={secret}"]
    source = tmp_path / "old.qcow2"
    made = try_qemu_img(
        "create", *objects, "-f", "qcow2", "-o", "encrypt.format=aes,encrypt.key-secret=s", source, "1M"
    )
    if made.returncode:
        pytest.skip(f"this QEMU cannot: {made.stderr.strip()}")
    given = {"path": str(source), "format": "qcow2", "secret": SECRET}
    result = refused("format_not_allowed", path=str(tmp_path / "image"), format="qcow2", source=given)
    assert "old AES" in result["msg"]
