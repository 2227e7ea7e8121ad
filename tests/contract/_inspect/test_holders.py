"""Every kind of user of an image that QEMU's own lock does not stop is found, with real ones."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Iterator

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._inspect.holders import (
    Holder,
    find_holders,
    network_filesystem,
    qemu_lock_state,
)
from ansible_collections.platter.qemu.plugins.module_utils._tools.image_lock import image_lock
from ansible_collections.platter.qemu.tests.lab.loops import HAVE_LOOPS, attached, mounted
from ansible_collections.platter.qemu.tests.lab.programs import exported, running, stand_still, wait_until

MIB = 1 << 20
needs_loops = pytest.mark.skipif(not HAVE_LOOPS, reason="needs root and loop devices")
READ = "import sys; f = open(sys.argv[1], sys.argv[2]); sys.stdin.read()"
#: with mounts of its own, and none that others have undone: a test beside this one waits for its device
ELSEWHERE = ("unshare", "--mount", "--propagation", "slave")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "a b.raw"
    path.write_bytes(bytes(4 * MIB))
    return path


def holders(path: object) -> list[Holder]:
    """Without those of other tests who open each device for a moment: losetup, when it looks for a free one, and modules,
    which look for theirs. Whoever has it open for longer is there when it is looked at again.
    """
    found: list[Holder] = []

    def settled() -> bool:
        before, found[:] = found[:], find_holders([str(path)])[str(path)]
        return found == before and all(holder.name != "losetup" for holder in found)

    wait_until(settled, "nobody comes or goes")
    return found


def wait_for_holder(path: object) -> list[Holder]:
    wait_until(lambda: holders(path), "somebody has it open")
    return holders(path)


def test_an_idle_image_has_no_holders(image: Path) -> None:
    assert holders(image) == []
    assert qemu_lock_state(str(image)) == frozenset()


@pytest.mark.parametrize(("mode", "writes"), [("rb", False), ("r+b", True)])
def test_a_process_is_found_with_how_it_opened_the_file(image: Path, mode: str, writes: bool) -> None:
    with running(sys.executable, "-c", READ, image, mode) as process:
        found = wait_for_holder(image)
    assert found == [Holder("process", process.pid, os.path.basename(sys.executable), writes)]


def test_a_process_is_found_through_a_hard_link_and_a_symbolic_link(image: Path, tmp_path: Path) -> None:
    os.link(image, tmp_path / "hard")
    (tmp_path / "soft").symlink_to(image)
    with running("tail", "-f", tmp_path / "hard") as process:
        for name in ("soft", "hard", image.name):
            assert [holder.pid for holder in wait_for_holder(tmp_path / name)] == [process.pid]


def test_a_renamed_image_in_use_is_still_in_use(image: Path, tmp_path: Path) -> None:
    with running("tail", "-f", image):
        wait_for_holder(image)
        image.rename(tmp_path / "moved")
        assert holders(tmp_path / "moved")


def test_a_process_in_another_mount_namespace_is_found(image: Path, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    (tmp_path / "elsewhere").mkdir()
    inside = f"mount --bind '{image.parent}' '{tmp_path}/elsewhere' && exec tail -f '{tmp_path}/elsewhere/{image.name}'"
    with running(*ELSEWHERE, "sh", "-c", inside) as process:
        assert [holder.pid for holder in wait_for_holder(image)] == [process.pid]


@pytest.mark.parametrize("options", [(), ("-r",)])
def test_qemu_nbd_is_named_and_its_lock_is_seen(image: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    with exported(image, "raw", tmp_path / "sock", *options) as process:
        assert holders(image) == [Holder("process", process.pid, "qemu-nbd", not options)]
        assert (101 in qemu_lock_state(str(image))) is (not options)
    assert holders(image) == []


LOOK = """
import sys
from ansible_collections.platter.qemu.plugins.module_utils._inspect.holders import find_holders
print(*find_holders(sys.argv[1:])[sys.argv[1]])
"""


def test_a_qemu_whose_process_cannot_be_seen_is_known_by_its_lock(image: Path, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    looking = [*ELSEWHERE, "-p", "-f", "--mount-proc", sys.executable, "-c", LOOK, str(image)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with exported(image, "raw", tmp_path / "sock"):
        seen = subprocess.run(looking, env=environment, check=True, capture_output=True, text=True).stdout
    assert seen.strip() == "qemu_lock QEMU image lock, open for writing, bytes 100 101 203"


def test_a_base_under_an_exported_overlay_is_in_use(image: Path, tmp_path: Path) -> None:
    overlay = tmp_path / "overlay.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", image, "-F", "raw", overlay], check=True)
    with exported(overlay, "qcow2", tmp_path / "sock") as process:
        assert holders(image) == [Holder("process", process.pid, "qemu-nbd", False)]


def test_our_own_image_lock_is_not_taken_for_a_qemu(image: Path) -> None:
    with image_lock(str(image)):
        assert qemu_lock_state(str(image)) == frozenset()
        assert holders(image) == []


@needs_loops
def test_a_loop_device_is_a_holder_even_after_a_rename(image: Path, tmp_path: Path) -> None:
    with attached(image) as device:
        image.rename(tmp_path / "moved")
        assert holders(tmp_path / "moved") == [Holder("loop", None, device, True)]
    with attached(tmp_path / "moved", "-r") as device:
        assert holders(tmp_path / "moved") == [Holder("loop", None, device, False)]


@needs_loops
def test_a_loop_on_a_loop_is_a_holder_of_the_device_and_the_file(image: Path) -> None:
    with attached(image) as lower, attached(lower) as upper:
        assert holders(lower) == [Holder("loop", None, upper, True)]
        assert {holder.name for holder in holders(image)} == {lower, upper}


@needs_loops
def test_a_mounted_image_and_its_device_are_in_use(image: Path, tmp_path: Path) -> None:
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    (tmp_path / "mnt point").mkdir()
    with attached(image) as device, mounted(device, tmp_path / "mnt point", "-o", "ro"):
        assert holders(device) == [Holder("mount", None, str(tmp_path / "mnt point"), False, "ext4")]
        expected = Holder("mount", None, str(tmp_path / "mnt point"), False, f"ext4, through {device}")
        assert expected in holders(image)


@needs_loops
def test_a_mount_in_another_namespace_is_found(image: Path, tmp_path: Path) -> None:
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    (tmp_path / "mnt").mkdir()
    with attached(image) as device:
        inside = f"mount {device} '{tmp_path}/mnt' && exec sleep 600"
        with running(*ELSEWHERE, "sh", "-c", inside):
            wait_until(lambda: [holder.kind for holder in holders(device)] == ["mount"], "the mount is seen")


@needs_loops
def test_swap_is_found_on_a_file_and_on_a_device(image: Path) -> None:
    image.chmod(0o600)
    subprocess.run(["mkswap", "-q", image], check=True)
    for target, done in ((image, image), (None, image)):
        with attached(image) as device:
            used = target or device
            if subprocess.run(["swapon", used], stderr=subprocess.DEVNULL, check=False).returncode:
                pytest.skip("this kernel does not swap")
            try:
                assert Holder("swap", None, str(used), True) in holders(used)
                assert "swap" in {holder.kind for holder in holders(done)}
            finally:
                subprocess.run(["swapoff", used], check=True)


@needs_loops
def test_a_process_on_a_second_device_node_is_found(image: Path, tmp_path: Path) -> None:
    with attached(image) as device:
        node = tmp_path / "node"
        os.mknod(node, stat.S_IFBLK | 0o600, os.stat(device).st_rdev)
        with running(sys.executable, "-c", READ, node, "r+b") as process:
            expected = Holder("process", process.pid, os.path.basename(sys.executable), True)
            assert wait_for_holder(device) == [expected]
            assert Holder(expected.kind, expected.pid, expected.name, True, f"through {device}") in holders(image)


@needs_loops
def test_a_writer_of_the_file_below_is_a_user_of_the_loop_device(image: Path) -> None:
    with attached(image) as device, running(sys.executable, "-c", READ, image, "r+b") as process:
        wait_until(lambda: any(holder.pid == process.pid for holder in holders(device)), "the writer is seen")


@pytest.fixture
def partitioned(image: Path) -> Iterator[str]:
    with attached(image, "-P") as device:
        if subprocess.run(["addpart", device, "1", "2048", "2048"], stderr=subprocess.DEVNULL, check=False).returncode:
            pytest.skip("this kernel has no partitions on loop devices")
        wait_until(lambda: os.path.exists(device + "p1"), "the partition has its node")
        yield device


@needs_loops
def test_a_disk_is_used_through_its_partition_and_a_partition_through_its_disk(partitioned: str) -> None:
    first = partitioned + "p1"
    with running(sys.executable, "-c", READ, first, "r+b") as process:
        assert [(holder.pid, holder.detail) for holder in wait_for_holder(partitioned)] == [
            (process.pid, f"through {first}")
        ]
    with running(sys.executable, "-c", READ, partitioned, "r+b") as process:
        wait_for_holder(partitioned)
        assert [(holder.pid, holder.detail) for holder in holders(first)] == [(process.pid, f"through {partitioned}")]


@needs_loops
def test_an_exclusive_claim_without_a_visible_owner_is_reported(image: Path) -> None:
    with attached(image) as device:
        fd = os.open(device, os.O_RDONLY | os.O_EXCL)  # this process is not looked at, so nobody explains it
        try:
            assert [holder.kind for holder in holders(device)] == ["kernel"]
        finally:
            os.close(fd)
        assert holders(device) == []


@pytest.fixture
def served_by_fuse(image: Path, tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A file that a program serves, as a network file system would, and that program."""
    point = tmp_path / "fuse"
    point.touch()
    blockdev = f"driver=file,node-name=f,filename={image}"
    export = f"type=fuse,id=e,node-name=f,mountpoint={point}"
    with running("qemu-storage-daemon", "--blockdev", blockdev, "--export", export) as daemon:
        wait_until(lambda: os.path.ismount(point) or daemon.poll() is not None, "the export is mounted")
        if daemon.poll() is not None:
            pytest.skip("this machine has no FUSE")
        yield str(point), daemon


def test_a_file_system_served_by_a_program_is_not_trusted(
    served_by_fuse: tuple[str, subprocess.Popen[bytes]], image: Path
) -> None:
    assert network_filesystem(served_by_fuse[0]) == "fuse"
    assert network_filesystem(str(image)) is None


def test_a_dead_file_server_does_not_hang_the_search(
    served_by_fuse: tuple[str, subprocess.Popen[bytes]], image: Path
) -> None:
    point, server = served_by_fuse
    with running(sys.executable, "-c", READ, point, "rb") as reader:
        wait_until(lambda: any(holder.pid == reader.pid for holder in holders(point)), "the reader is seen")
        stand_still(server.pid)
        time.sleep(1.1)  # the kernel believes what it knows of the file for a second
        rescue = threading.Timer(60, server.send_signal, [signal.SIGCONT])
        rescue.start()
        start = time.monotonic()
        holders(image)
        took = time.monotonic() - start
        rescue.cancel()
        server.send_signal(signal.SIGCONT)
    assert took < 50


def test_a_hundred_images_cost_milliseconds(tmp_path: Path) -> None:
    paths = [str(tmp_path / str(number)) for number in range(100)]
    for path in paths:
        Path(path).write_bytes(bytes(512))
    find_holders(paths)
    took = []
    for _round in range(5):
        start = time.process_time()
        find_holders(paths)
        took.append(time.process_time() - start)
    assert min(took) < 0.1, took
