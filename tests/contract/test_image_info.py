"""disk_image_info against the installed QEMU: the same facts, whatever is going on with the images."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import typing as t
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.tests.lab.info import ask, fact, facts
from ansible_collections.platter.qemu.tests.lab.oracle import create, qemu_img, require_qemu, without_news
from ansible_collections.platter.qemu.tests.lab.programs import exported, wait_until

#: in one process of pytest-xdist: the pool costs seconds, LUKS headers are slow to make
pytestmark = [pytest.mark.usefixtures("qemu"), pytest.mark.xdist_group("image_info")]
MIB = 1 << 20


@pytest.fixture(scope="module")
def qemu() -> None:
    require_qemu()


def scribbled(path: Path) -> None:
    command = ["qemu-io", "-f", "qcow2", "-c", "write -P 7 1M 1M", "-c", "write -z 3M 1M", str(path)]
    subprocess.run(command, check=True, capture_output=True)


def with_snapshots(path: Path) -> None:
    qemu_img("snapshot", "-c", "one", path)
    qemu_img("snapshot", "-c", "zwei ü", path)


def with_bitmaps(path: Path) -> None:
    qemu_img("bitmap", "--add", path, "recording")
    qemu_img("bitmap", "--add", "--disable", "-g", "512k", path, "other")


KEY = ("--object", "secret,id=key,file=secret")
#: (name, format, options, further arguments, what happens to it)
SPREAD: t.List[t.Tuple[str, str, str, t.Tuple[str, ...], t.Optional[t.Callable[[Path], None]]]] = [
    ("plain.raw", "raw", "", (), None),
    ("a,b: ü -x.qcow2", "qcow2", "", (), scribbled),
    ("old.qcow2", "qcow2", "compat=0.10", (), with_snapshots),
    ("small-clusters.qcow2", "qcow2", "cluster_size=512", (), None),
    ("options.qcow2", "qcow2", "extended_l2=on,cluster_size=128k,lazy_refcounts=on,refcount_bits=8", (), with_bitmaps),
    ("zstd.qcow2", "qcow2", "compression_type=zstd,preallocation=metadata", (), None),
    ("overlay.qcow2", "qcow2", "", ("-b", "options.qcow2", "-F", "qcow2"), None),
    ("secret.qcow2", "qcow2", "encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10", KEY, None),
    ("v1.qcow", "qcow", "", ("-b", "plain.raw", "-F", "raw"), None),
    ("q.qed", "qed", "cluster_size=4k", ("-b", "plain.raw", "-F", "raw"), None),
    ("v.vdi", "vdi", "static=on", (), None),
    ("one.vmdk", "vmdk", "adapter_type=lsilogic", (), None),
    ("stream.vmdk", "vmdk", "subformat=streamOptimized", (), None),
    ("flat.vmdk", "vmdk", "subformat=monolithicFlat", (), None),
    ("split.vmdk", "vmdk", "subformat=twoGbMaxExtentSparse", (), None),
    ("h.vhdx", "vhdx", "block_size=1M", (), None),
    ("dynamic.vhd", "vpc", "", (), None),
    ("fixed.vhd", "vpc", "subformat=fixed,force_size=on", (), None),
    ("p.hdd", "parallels", "cluster_size=64k", (), None),
    ("l.luks", "luks", "key-secret=key,iter-time=10", KEY, None),
]


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with an image of everything."""
    directory = tmp_path_factory.mktemp("pool")
    (directory / "secret").write_text("a password")
    for name, format, options, more, after in SPREAD:
        path = create(
            directory / name, format, "" if "-b" in more else "5G" if "split" in name else "8M", options, *more
        )
        if after:
            after(path)
    (directory / "secret").unlink()
    return directory


def oracle(path: Path, format: str, *options: str) -> t.Any:
    """C(qemu-img info) by a name that it cannot misread."""
    node = json.dumps({"driver": format, "file": {"driver": "file", "filename": str(path)}})
    return without_news(json.loads(qemu_img("info", "--output=json", *options, "json:" + node)))


def in_our_words(value: t.Any) -> t.Any:
    if isinstance(value, dict):
        return {name.replace("-", "_"): in_our_words(each) for name, each in value.items()}
    return [in_our_words(each) for each in value] if isinstance(value, list) else value


def as_oracle(ours: t.Dict[str, t.Any]) -> t.Dict[str, t.Any]:
    """Our facts put as C(qemu-img info) puts them, as far as it says anything."""
    told = {
        "format": ours["format"],
        "virtual_size": ours["virtual_size"],
        "actual_size": ours["actual_size"],
        "cluster_size": ours["cluster_size"],
        "encrypted": ours["encrypted"] or None,
        "snapshots": [snapshot(each) for each in ours["snapshots"]] or None,
        "format_specific": dict(ours.get("format_specific") or {}, **specific(ours)) or None,
    }
    if ours["backing"]:
        told["backing_filename"] = ours["backing"]["name"]
        told["full_backing_filename"] = ours["backing"]["path"]
        told["backing_filename_format"] = ours["backing"]["format"]
    return {name: value for name, value in told.items() if value is not None}


def snapshot(ours: t.Dict[str, t.Any]) -> t.Dict[str, t.Any]:
    kept = {name: value for name, value in ours.items() if name not in ("virtual_size", "vm_clock_nsec", "date")}
    clock = {"vm_clock_sec": ours["vm_clock_nsec"] // 10**9, "vm_clock_nsec": ours["vm_clock_nsec"] % 10**9}
    return {name: value for name, value in dict(kept, **clock).items() if value is not None}


def specific(ours: t.Dict[str, t.Any]) -> t.Dict[str, t.Any]:
    """What qemu-img has below format-specific and we have elsewhere."""
    if ours["format"] != "qcow2":
        return {}
    names = ["compat", "compression_type", "refcount_bits"]
    names += ["lazy_refcounts", "extended_l2"] if ours["options"]["compat"] == "1.1" else []
    found = {name: ours["options"][name] for name in names}
    if ours["options"]["compat"] == "1.1":
        found["corrupt"] = ours["corrupt"]
    return dict(found, bitmaps=ours["bitmaps"]) if ours["bitmaps"] else found


@pytest.mark.parametrize("name", [each[0] for each in SPREAD])
def test_the_facts_are_those_of_qemu_img_info(pool: Path, name: str) -> None:
    format = next(each[1] for each in SPREAD if each[0] == name)
    told = in_our_words(oracle(pool / name, format))
    ours = fact(pool / name)
    assert ours.pop("dirty") == told.pop("dirty_flag", False)
    told["format_specific"] = expected_specific(pool, told.get("format_specific", {}).get("data"))
    del told["filename"]
    told = {key: value for key, value in told.items() if value is not None and key not in ("children",)}
    if format == "parallels":  # QEMU 7.2 keeps it for itself
        told.setdefault("cluster_size", 65536)
    assert as_oracle(ours) == told


def expected_specific(pool: Path, told: t.Any) -> t.Any:
    """qemu-img prints a VMDK's extents by full path or as one; we as the descriptor has them."""
    if told and "extents" in told:
        names = [Path(each["filename"]).name for each in told["extents"]]
        whole = len(names) == 1 and not names[0].startswith(("flat-", "split-"))
        told["extents"] = [dict(each, filename="" if whole else name) for each, name in zip(told["extents"], names)]
    return told


def test_a_directory_lists_each_image_once_in_one_call(pool: Path) -> None:
    result = ask(directory=str(pool))
    assert [each["path"] for each in result["images"]] == [str(pool / name) for name in sorted(s[0] for s in SPREAD)]
    assert result["commands"] == [], "no program for what headers say"
    assert not [each for each in result["images"] if "error" in each]
    formats = {Path(each["path"]).name: each["format"] for each in result["images"]}
    assert formats == {name: format for name, format, *_rest in SPREAD}
    assert [each["path"] for each in result["images"] if not each["format_is_certain"]] == [str(pool / "plain.raw")]


def test_no_paths_are_no_error() -> None:
    assert ask(paths=[])["images"] == []


def test_members_of_a_split_image_are_its_own(pool: Path) -> None:
    extents = [f"split-s00{number}.vmdk" for number in (1, 2, 3)]
    ours = fact(pool / "split.vmdk")
    assert ours["members"] == [str(pool / name) for name in ["split.vmdk", *extents]]
    assert [Path(each["path"]).name for each in ours["extents"]] == extents
    assert sum(each["virtual_size"] for each in ours["extents"]) == 5 << 30


def test_patterns_and_recursion_choose_what_is_listed(pool: Path, tmp_path: Path) -> None:
    shutil.copytree(pool, tmp_path / "below" / "deeper")
    (tmp_path / "below" / "loop").symlink_to("loop")
    (tmp_path / "below" / "up").symlink_to("..")
    os.mkfifo(tmp_path / "below" / "fifo.qcow2")
    found = ask(directory=str(tmp_path), recurse=True, patterns=["*.qcow2", "q.*"])["images"]
    names = sorted(each[0] for each in SPREAD if each[0].endswith(".qcow2") or each[0] == "q.qed")
    assert [each["path"] for each in found] == [str(tmp_path / "below" / "deeper" / name) for name in names]
    assert ask(directory=str(tmp_path))["images"] == []


def test_a_directory_that_is_not_there_is_a_warning(tmp_path: Path) -> None:
    result = ask(directory=str(tmp_path / "nothing"))
    assert result["images"] == []
    assert "cannot be searched" in json.dumps(result["warnings"])


# --- chains and dependents


def chain_of(directory: Path, length: int) -> t.List[Path]:
    """Overlay on overlay, the base first; every second one in a directory of its own, with a relative backing file."""
    paths = [create(directory / "0.qcow2", "qcow2", "4M")]
    (directory / "sub").mkdir()
    for number in range(1, length):
        path = directory / ("sub" if number % 2 else "") / f"{number}.qcow2"
        backing = os.path.relpath(paths[-1], path.parent)
        paths.append(create(path, "qcow2", "", "", "-b", backing, "-F", "qcow2"))
    return paths


def test_a_chain_of_50_is_that_of_qemu_img(tmp_path: Path) -> None:
    top = chain_of(tmp_path, 50)[-1]
    told = oracle(top, "qcow2", "--backing-chain")
    keys = {"path": "filename", "format": "format", "virtual_size": "virtual-size", "actual_size": "actual-size"}
    expected = [{ours: each[qemus] for ours, qemus in keys.items()} for each in told]
    expected = [dict(each, path=os.path.normpath(each["path"]), problem=None) for each in expected]
    expected[0]["path"] = str(top)
    assert fact(top, backing_chain=True)["backing_chain"] == expected
    assert len(expected) == 50


@pytest.mark.parametrize("kind", ["loop", "missing", "protocol", "fifo"])
def test_a_chain_that_ends_badly_says_where(tmp_path: Path, kind: str) -> None:
    base, _middle, top = chain_of(tmp_path, 3)
    if kind == "loop":
        qemu_img("rebase", "-u", "-f", "qcow2", "-b", top, "-F", "qcow2", base)
    elif kind == "protocol":
        qemu_img("rebase", "-u", "-f", "qcow2", "-b", "nbd://127.0.0.1:1/x", "-F", "raw", base)
    else:
        base.unlink()
    if kind == "fifo":
        os.mkfifo(base)
    chain = fact(top, backing_chain=True, measure="raw", map=True, check=True)
    reason = {"loop": "backing_loop", "missing": "base_missing", "protocol": "backing_protocol"}
    links = chain["backing_chain"]
    assert links[-1]["problem"]["reason"] == reason.get(kind, "backing_not_regular")
    assert [link["problem"] for link in links[:-1]] == [None] * (len(links) - 1)
    assert chain["measure"]["reason"] == links[-1]["problem"]["reason"], "QEMU is not let into it"
    assert chain["check"]["corruptions"] == 0 and chain["map"]["unallocated"] == 4 * MIB, "these need no chain"


def test_a_backing_file_behind_a_symbolic_link_is_the_one_that_qemu_opens(tmp_path: Path) -> None:
    (tmp_path / "real" / "sub").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real/sub")
    base = create(tmp_path / "real" / "base", "qcow2", "1M")
    create(tmp_path / "base", "qcow2", "2M")  # what a name without its dots would lead to
    overlay = create(tmp_path / "o", "qcow2", "", "", "-b", "link/../base", "-F", "qcow2")
    ours = fact(overlay, backing_chain=True)
    assert ours["backing"]["path"] == ours["backing_chain"][1]["path"] == str(base)
    assert ours["virtual_size"] == MIB


@pytest.mark.parametrize(
    "name", ["file:{}", 'json:{{"driver":"qcow2","file":{{"driver":"file","filename":"{}"}}}}'], ids=["file", "json"]
)
def test_a_dependent_is_found_however_it_names_its_base(tmp_path: Path, name: str) -> None:
    base = create(tmp_path / "base", "qcow2", "1M")
    top = create(tmp_path / "top", "qcow2", "1M", "", "-u", "-b", name.format(base), "-F", "qcow2")
    assert fact(base, dependents=True)["dependents"] == [str(top)]


def test_a_descriptor_depends_on_its_extents(tmp_path: Path) -> None:
    create(tmp_path / "disk.vmdk", "vmdk", "1M", "subformat=monolithicFlat")
    found = facts(tmp_path / "disk-flat.vmdk", dependents=True)
    assert found[0]["dependents"] == [str(tmp_path / "disk.vmdk")]


def test_dependents_are_found_beside_and_elsewhere(tmp_path: Path) -> None:
    base, first, second = chain_of(tmp_path, 3)
    data = create(tmp_path / "on-data", "qcow2", "1M", f"data_file={tmp_path / 'the-data'}")
    found = facts(base, tmp_path / "the-data", dependents=True)
    assert [each["dependents"] for each in found] == [[], [str(data)]]
    assert fact(base, overlay_directories=[str(tmp_path / "sub")])["dependents"] == [str(first)]
    assert fact(first, overlay_directories=[str(tmp_path)])["dependents"] == [str(second)]


# --- in use


def test_an_image_in_use_is_read_and_its_user_named(tmp_path: Path) -> None:
    base, _middle, top = chain_of(tmp_path, 3)
    with exported(top, "qcow2", tmp_path / "socket") as server:
        written, read = facts(top, base, check=True, map=True, measure="raw")
        assert [(each["name"], each["pid"], each["writes"]) for each in written["in_use_by"]] == [
            ("qemu-nbd", server.pid, True)
        ]
        assert written["consistent"] is False
        assert written["check"] == {
            "unavailable": "it is being written, so a check would say nothing",
            "reason": "image_in_use",
        }
        assert written["map"]["unallocated"] == 4 * MIB and written["measure"]["required"] == 4 * MIB
        assert read["in_use_by"][0]["writes"] is False and read["consistent"] is True
        assert read["check"]["corruptions"] == 0
        assert "in_use_by" not in fact(top, in_use=False)
    wait_until(lambda: not fact(top)["in_use_by"], "nobody uses it")
    assert fact(top)["consistent"] is True


def test_a_user_of_an_extent_uses_the_image(tmp_path: Path) -> None:
    path = create(tmp_path / "f.vmdk", "vmdk", "1M", "subformat=monolithicFlat")
    with (tmp_path / "f-flat.vmdk").open("rb"):
        assert fact(path)["in_use_by"] == [], "this process is not counted"
    with exported(tmp_path / "f-flat.vmdk", "raw", tmp_path / "socket"):
        assert [each["name"] for each in fact(path)["in_use_by"]] == ["qemu-nbd"]


# --- what qemu-img answers


def test_check_measure_and_map_are_qemus(tmp_path: Path) -> None:
    scribbled(create(tmp_path / "deeper.qcow2", "qcow2", "8M"))
    create(tmp_path / "base.qcow2", "qcow2", "", "", "-b", "deeper.qcow2", "-F", "qcow2")
    path = create(tmp_path / "o.qcow2", "qcow2", "", "", "-b", "base.qcow2", "-F", "qcow2")
    alone = fact(path, measure="qcow2")["measure"]["required"]
    scribbled(path)
    ours = fact(path, check=True, measure="qcow2", map=True)
    told = json.loads(qemu_img("check", "--output=json", path))
    assert ours["check"]["allocated_clusters"] == told["allocated-clusters"] == 16
    assert ours["check"]["image_end_offset"] == told["image-end-offset"]
    told = json.loads(qemu_img("measure", "--output=json", "-O", "qcow2", path))
    assert (ours["measure"]["required"], ours["measure"]["fully_allocated"]) == (
        told["required"],
        told["fully-allocated"],
    )
    assert ours["measure"]["required"] == alone > MIB, "what the chain holds counts"
    assert ours["map"] == {"data": MIB, "compressed": 0, "zero": MIB, "unallocated": 6 * MIB}


def test_compressed_clusters_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "raw").write_bytes(b"text " * (2 * MIB // 5) + bytes(2 * MIB))
    for format, options in (("qcow2", ""), ("vmdk", "subformat=streamOptimized")):
        path = tmp_path / f"c.{format}"
        qemu_img(
            "convert", "-c", "-f", "raw", "-O", format, *(["-o", options] if options else []), tmp_path / "raw", path
        )
        found = fact(path, map=True)["map"]
        assert found["data"] == 0 and 2 * MIB <= found["compressed"] < 3 * MIB, format


def test_a_leak_is_counted_and_left_alone(tmp_path: Path) -> None:
    path = create(tmp_path / "a.qcow2", "qcow2", "8M")
    scribbled(path)
    leaked = path.stat().st_size
    with path.open("r+b") as image:  # the reference count of a cluster behind the end
        image.seek(2 * 65536 + 2 * 30)
        image.write(b"\0\1")
        image.truncate(31 * 65536)
    before = path.read_bytes()
    assert leaked < 31 * 65536
    assert fact(path, check=True)["check"]["leaks"] == 1
    assert path.read_bytes() == before


def test_a_relative_data_file_is_the_one_beside_the_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = create(tmp_path / "a.qcow2", "qcow2", "1M", "data_file=data")
    monkeypatch.chdir("/")
    assert fact(path, check=True)["check"]["corruptions"] == 0


def test_what_cannot_be_answered_is_said_for_each_image(pool: Path) -> None:
    luks, raw, qcow2 = facts(
        pool / "secret.qcow2", pool / "plain.raw", pool / "old.qcow2", check=True, map=True, measure="raw"
    )
    no_secret = f"{pool}/secret.qcow2 is encrypted, and no secret is given to this module"
    for asked in ("check", "map", "measure"):
        assert luks[asked] == {"unavailable": no_secret, "reason": "image_encrypted"}
    assert raw["check"] == {"unavailable": "raw images cannot be checked", "reason": "not_supported"}
    assert qcow2["check"]["corruptions"] == 0


def test_without_qemu_img_all_that_headers_say_is_there(pool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ask(directory=str(pool), backing_chain=True)["images"]
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr("ansible.module_utils.common.process.get_bin_path", _no_program)
    result = ask(
        directory=str(pool), paths=["nbd://127.0.0.1:1/x"], backing_chain=True, check=True, map=True, features=True
    )
    place, *images = result["images"]
    assert place["reason"] == "tool_missing" and "Install it" in place["error"]
    checked = {each["format"]: each.pop("check") for each in images}
    mapped = {each["path"]: each.pop("map")["reason"] for each in images}
    assert images == whole
    assert checked["qcow2"]["reason"] == "tool_missing"
    expected = {each["path"]: "image_encrypted" if each["encrypted"] else "tool_missing" for each in images}
    assert mapped == expected
    assert result["qemu_version"] is None and result["features"]["qcow2"]["installed"] is None
    assert result["commands"] == []


def _no_program(name: str, *_unused: t.Any, **_more: t.Any) -> str:
    raise ValueError(f"no {name}")


def test_a_remote_place_is_read_by_qemu_img(tmp_path: Path) -> None:
    base = create(tmp_path / "a.qcow2", "qcow2", "8M")
    with_snapshots(base)
    socket = tmp_path / "so cket"
    uri = f"nbd+unix:///?socket={socket}".replace(" ", "%20")
    node = {"driver": "nbd", "server": {"type": "unix", "path": str(socket)}, "export": ""}
    with exported(base, "raw", socket):
        found = ask(paths=[str(tmp_path / "none"), uri, node, str(base)])
        missing, by_uri, by_node, by_path = found["images"]
        assert missing == {"path": str(tmp_path / "none"), "exists": False}
        assert by_uri["path"] == uri
        for name in ("format", "virtual_size", "cluster_size", "snapshots", "dirty", "encrypted", "backing", "bitmaps"):
            if name != "snapshots":
                assert by_uri[name] == by_node[name] == by_path[name], name
        assert [each["name"] for each in by_uri["snapshots"]] == ["one", "zwei ü"]
        assert found["qemu_version"]
        (declared,) = ask(paths=[uri], format="raw")["images"]
        assert declared["format"] == "raw" and declared["format_is_certain"] is True
    (gone,) = ask(paths=[uri])["images"]
    assert gone["exists"] is None and gone["error"] and gone["reason"] == "unreadable"


def test_the_formats_of_the_installed_qemu_are_marked() -> None:
    result = ask(features=True)
    assert result["images"] == []
    assert {name: row["installed"] for name, row in result["features"].items()} == dict.fromkeys(
        ["raw", "qcow", "qcow2", "qed", "vdi", "vmdk", "vhdx", "vpc", "parallels", "luks"], True
    )
    assert qemu_img("--version").startswith(f"qemu-img version {result['qemu_version']} ")
    assert result["features"]["qcow2"]["options"]["cluster_size"]["default"] == 65536
    assert result["features"]["vmdk"]["split"] == ["monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat"]
    assert json.loads(json.dumps(result["features"])) == result["features"]
