"""Drives of every kind, made by hypothesis: as tasks describe them, without contradictions."""

from __future__ import annotations

import typing as t

from hypothesis import settings
from hypothesis import strategies as st

#: a VM takes long to make up, so that a third of the usual number is looked at
SOME = settings(max_examples=settings().max_examples // 3)
Task = t.Dict[str, t.Any]

#: what QEMU's options, a shell, JSON or XML could take for more than a part of a name
ODD = st.text("abc,=:.{}[]()\"'\\/ \t%$#&;<>|*?\u00e9\u2028", min_size=1, max_size=10)
PATHS = ODD.map(lambda text: "/i/" + text)
SIZES = st.sampled_from((512, 4096))
FORMATS = st.sampled_from(("raw", "qcow2", "vmdk", "vdi", "luks"))
CACHES = st.sampled_from((None, "none", "writeback", "writethrough", "directsync", "unsafe"))
EMPTY: t.Tuple[str, ...] = ("scsi-cd", "ide-cd", "floppy")


def maybe(strategy: st.SearchStrategy[t.Any]) -> st.SearchStrategy[t.Any]:
    """Or not at all."""
    return st.none() | strategy


def _given(task: Task) -> Task:
    return {key: value for key, value in task.items() if value is not None}


SERVERS = st.one_of(
    st.fixed_dictionaries(
        {"type": st.just("inet"), "host": st.sampled_from(("store1", "::1")), "port": st.just("10809")}
    ),
    st.fixed_dictionaries({"type": st.just("unix"), "path": PATHS}),
)


def _file(path: str) -> Task:
    return {"driver": "file", "filename": path}


NBD = st.fixed_dictionaries({"driver": st.just("nbd"), "server": SERVERS, "export": ODD})
BLOCKDEVS = st.one_of(
    NBD,
    st.fixed_dictionaries({"driver": st.just("qcow2"), "file": NBD, "lazy-refcounts": st.booleans()}),
    st.fixed_dictionaries(
        {
            "driver": st.just("quorum"),
            "vote-threshold": st.just(2),
            "children": st.lists(NBD.map(lambda node: {"driver": "raw", "file": node}), min_size=2, max_size=12),
        }
    ),
    st.fixed_dictionaries(
        {"driver": st.just("preallocate"), "prealloc-size": st.just(65536), "file": PATHS.map(_file)}
    ),
    st.fixed_dictionaries(
        {
            "driver": st.just("qcow2"),
            "file": PATHS.map(_file),
            "backing": st.fixed_dictionaries({"driver": st.just("raw"), "file": PATHS.map(_file)}),
        }
    ),
    st.fixed_dictionaries(
        {
            "driver": st.just("rbd"),
            "pool": ODD,
            "image": ODD,
            "server": st.lists(
                st.fixed_dictionaries({"host": st.sampled_from(("mon1", "10.0.0.7")), "port": st.just("6789")}),
                min_size=1,
                max_size=3,
            ),
        }
    ),
)


@st.composite
def images(draw: t.Any) -> Task:
    """C(image) with the settings that are about it."""
    if draw(st.booleans()):
        return {"image": {"blockdev": draw(BLOCKDEVS)}}
    task = _given(
        {
            "cache": draw(CACHES),
            "discard": draw(maybe(st.just("unmap"))),
            "detect_zeroes": draw(maybe(st.just("on"))),
            "auto_read_only": draw(maybe(st.booleans())),
            "locking": draw(maybe(st.sampled_from(("on", "off", "auto")))),
            "copy_on_read": draw(maybe(st.just(True))),
            "throttle": draw(
                maybe(st.fixed_dictionaries({"iops_total": st.integers(1, 999), "bps_read_max": st.just(1)}))
            ),
        }
    )
    direct = task.get("cache") in ("none", "directsync")
    task.update(
        _given({"aio": draw(maybe(st.sampled_from(("threads", "io_uring") + (("native",) if direct else ()))))})
    )
    format = draw(FORMATS)
    if format == "qcow2":
        task.update(_given({"l2_cache_size": draw(maybe(st.just(1 << 20)))}))
    if format == "luks" or (format == "qcow2" and draw(st.booleans())):
        task["encryption"] = {"secret_file": draw(PATHS)}
    return dict(task, image={"path": draw(PATHS), "format": format})


FRONTENDS: t.Dict[str, t.Dict[str, st.SearchStrategy[t.Any]]] = {
    "virtio-blk-pci": {"serial": ODD, "queues": st.integers(1, 8), "iothread": st.sampled_from(("io1", "io2"))},
    "scsi-hd": {"wwn": st.integers(1, 2**64 - 1), "rotation_rate": st.just(1), "rerror": st.just("report")},
    "ide-hd": {"werror": st.sampled_from(("stop", "enospc"))},
    "nvme": {"properties": st.just({"max_ioqpairs": 4})},
    "usb-storage": {"properties": st.just({"removable": True})},
    "floppy": {},
    "scsi-cd": {},
    "ide-cd": {},
}


@st.composite
def drives(draw: t.Any, number: int, kinds: t.Sequence[str] = tuple(FRONTENDS)) -> Task:
    """One drive. C(number): tells it from others."""
    device = draw(st.sampled_from(kinds))
    task: Task = {"id": "d%d" % number, "device": device}
    if device not in EMPTY or draw(st.booleans()):
        task.update(draw(images()))
        task.pop("copy_on_read", None) if device in ("scsi-cd", "ide-cd") else None
    for name, values in FRONTENDS[device].items():
        task.update(_given({name: draw(maybe(values))}))
    if device not in ("floppy",):
        task.update(_given({"bootindex": draw(maybe(st.just(number)))}))
    if device not in ("ide-cd", "scsi-cd"):
        task.update(_given({"share_rw": draw(maybe(st.booleans()))}))
    if device == "nvme":
        task["serial"] = "N%d" % number
    return task


def vms(kinds: t.Sequence[str] = tuple(FRONTENDS)) -> st.SearchStrategy[t.List[Task]]:
    """The drives of a VM."""
    return st.integers(1, 4).flatmap(
        lambda count: st.tuples(*(drives(number, kinds) for number in range(count))).map(list)
    )
