"""The four beats of an idempotent module: check, real, again, again in check mode; and what it left alone meanwhile."""

from __future__ import annotations

import hashlib
import os
import stat
from typing import Any, Iterable

from ansible_collections.platter.qemu.tests.lab.modules import call

#: what qemu-img may be asked where nothing is to be written
READING = {"info", "check", "map", "measure", "compare"}
_CHUNK = 64 << 10
_ZEROS = bytes(_CHUNK)


def four_beats(*, watch: Iterable[object] = (), unpredictable: Iterable[str] = (), **options: Any) -> dict[str, Any]:
    """The result of the real run. C(watch): further directories and devices that a run without changes leaves alone.

    C(unpredictable): keys of the facts that check mode cannot know.
    """
    places = [*_places(options), *map(str, watch)]
    found = snapshot(places)
    checked = call(_module(options), check=True, **options)
    assert checked.get("failed") is not True, checked["msg"]
    untouched(found, places, "check mode has written")
    real = call(_module(options), **options)
    assert real.get("failed") is not True, real["msg"]
    assert (checked["changed"], real["changed"]) == (True, True), (checked, real)
    assert checked["actions"] == real["actions"]
    assert known(checked, unpredictable) == known(real, unpredictable)
    only_reads(checked)
    settled(*watch, **options)
    return real


def converge(**options: Any) -> dict[str, Any]:
    """The result of the real run, be it a change, none, or a refusal: whatever check mode says is what happens."""
    places = _places(options)
    found = snapshot(places)
    checked = call(_module(options), check=True, **options)
    untouched(found, places, "check mode has written")
    real = call(_module(options), **options)
    told = [(r.get("reason"), r["changed"], r.get("actions"), known(r, ())) for r in (checked, real)]
    assert told[0] == told[1], (checked, real)
    if real.get("failed"):
        untouched(found, places, "a refused task has written")
    else:
        settled(**options)
    return real


def settled(*watch: object, **options: Any) -> None:
    """The last two beats: nothing is done, and no file of any image is touched."""
    places = [*_places(options), *map(str, watch)]
    found = snapshot(places)
    for check in (False, True):
        again = call(_module(options), check=check, **options)
        assert again.get("failed") is not True, again["msg"]
        assert (again["changed"], again["actions"]) == (False, []), again
        only_reads(again)
        untouched(found, places, "a task with nothing to do has written")


def refused(reason: str, *, watch: Iterable[object] = (), **options: Any) -> dict[str, Any]:
    """The same refusal in check mode and without; nothing is changed."""
    places = [*_places(options), *map(str, watch)]
    found = snapshot(places)
    results = [call(_module(options), check=check, **options) for check in (True, False)]
    for result in results:
        assert result.get("failed") is True, result
        assert (result.get("reason"), result["changed"]) == (reason, False), result
        assert result["msg"].startswith("refused: "), result["msg"]
        assert isinstance(result["evidence"], dict)
    assert results[0]["msg"] == results[1]["msg"]
    untouched(found, places, "a refused task has written")
    return results[1]


def known(result: dict[str, Any], unpredictable: Iterable[str]) -> Any:
    """The facts and the diff, without what cannot be predicted."""
    nouns = ("diff", "image", "images", "snapshot", "snapshots", "export", "exports", "device", "devices")
    nouns += ("definition", "live", "vm", "vms")
    shown = {key: result[key] for key in nouns if key in result}
    facts = _without(shown, set(unpredictable) | _NOT_FACTS)
    return dict(facts, diff=_without(result.get("diff"), set(unpredictable)))


#: keys of facts that tell how and when the work was done, not what came of it
_NOT_FACTS = {"method", "backup_file", "removed_leftovers", "date", "date_sec", "vm_state_size", "pid", "clients"}
#: and of a VM
_NOT_FACTS |= {"needs_restart"}
#: and of a device: which one the kernel has chosen
_NOT_FACTS |= {"path", "partitions"}


def _without(value: Any, keys: set[str]) -> Any:
    if isinstance(value, dict):
        return {key: _without(inner, keys) for key, inner in value.items() if key not in keys}
    return [_without(inner, keys) for inner in value] if isinstance(value, list) else value


def only_reads(result: dict[str, Any]) -> None:
    """No command of the result writes to an image; to a private copy of one that cannot be read where it is, they may."""
    shared = [command for command in result["commands"] if not command[-1].startswith("/var/tmp/.platter-tmp.")]
    verbs = {command[1] for command in shared if os.path.basename(command[0]) == "qemu-img"}
    assert verbs <= READING, result["commands"]


# --- what there is on the host


def _module(options: dict[str, Any]) -> str:
    """The module that these are the options of."""
    if "start_timeout" in options:
        return "qemu_vm"
    if {"vm", "validate"} & set(options):
        return "qemu_drive"
    if "devices" in options or isinstance(options.get("source"), str):
        return "host_device"
    if {"exports", "socket", "bind", "read_only", "server", "daemon"} & set(options) or set(options) <= {
        "name",
        "state",
        "allow_disconnect",
    }:
        return "nbd_export"
    return "image_snapshot" if "image" in options or "snapshots" in options else "disk_image"


def _places(options: dict[str, Any]) -> list[str]:
    if "vms" in options:
        configs = [entry["config"] for entry in options["vms"] if "config" in entry]
        return [place for each in configs for place in (each, each + "/current", os.path.dirname(each))]
    if "vm" in options:
        return [options["config"], options["config"] + "/current", os.path.dirname(options["config"])]
    lists = (options.get(name) for name in ("images", "snapshots", "exports", "devices"))
    entries = next(filter(None, lists), [options])
    named = [entry.get("path") or entry.get("image") or _source(entry) for entry in entries]
    paths = [str(path) for path in named if path]
    directories = (os.path.dirname(os.path.realpath(path)) for path in paths)
    return [*(each for each in directories if not each.startswith("/dev")), *paths]


def _source(entry: dict[str, Any]) -> str | None:
    source = entry.get("source")
    return source if isinstance(source, str) and source.startswith("/") else None


def snapshot(places: Iterable[str]) -> dict[str, Any]:
    """Everything in these directories, and these files and devices: identity, times, owner, mode, attributes, bytes."""
    found: dict[str, Any] = {}
    for place in dict.fromkeys(places):
        if os.path.isdir(place):
            found.update({entry.path: _facts(entry.path) for entry in os.scandir(place)})
        else:
            found[place] = _facts(place)
    return found


def untouched(found: dict[str, Any], places: Iterable[str], complaint: str) -> None:
    """Fail with the complaint and with what is not as C(snapshot) once found it."""
    now = snapshot(places)
    changed = {path: (found.get(path), now.get(path)) for path in {*found, *now} if found.get(path) != now.get(path)}
    assert not changed, f"{complaint}: {changed}"


def _facts(path: str) -> tuple[Any, ...] | None:
    try:
        seen = os.stat(path, follow_symlinks=os.path.exists(path) and stat.S_ISBLK(os.stat(path).st_mode))
    except OSError:
        return None
    if stat.S_ISBLK(seen.st_mode):
        return (seen.st_rdev, digest(path))
    if not stat.S_ISREG(seen.st_mode):
        return (seen.st_ino, seen.st_mode)
    attributes = {name: os.getxattr(path, name) for name in os.listxattr(path)}
    return (seen.st_ino, seen.st_mtime_ns, seen.st_mode, seen.st_uid, seen.st_gid, attributes, digest(path))


def digest(path: object) -> str:
    """SHA-256 over the length and all blocks that are not zero, wherever the holes of the file are; those are not read."""
    found = hashlib.sha256()
    with open(str(path), "rb") as stream:
        length = stream.seek(0, os.SEEK_END)
        found.update(b"%d" % length)
        for start in _blocks(stream.fileno(), length):
            stream.seek(start)
            chunk = stream.read(_CHUNK)
            if chunk != _ZEROS[: len(chunk)]:
                found.update(b"%d:" % start + chunk)
    return found.hexdigest()


def _blocks(descriptor: int, length: int) -> Iterable[int]:
    """The beginnings of all blocks in which the file has data."""
    if stat.S_ISBLK(os.fstat(descriptor).st_mode):
        yield from range(0, length, _CHUNK)
        return
    start = 0
    while start < length:
        try:
            start = os.lseek(descriptor, start, os.SEEK_DATA) // _CHUNK * _CHUNK
        except OSError:  # ENXIO: only a hole is left
            return
        yield start
        start += _CHUNK
