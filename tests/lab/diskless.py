"""Guests without disks: their root trees, what serves those, and a start by C(qemu_drive), after which they answer."""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
import subprocess
import urllib.request
import uuid
from pathlib import Path
from typing import Any, Iterator

import pytest

from ansible_collections.platter.qemu.tests.lab import superblocks
from ansible_collections.platter.qemu.tests.lab.initramfs import SCRIPTS
from ansible_collections.platter.qemu.tests.lab.linux import kernel_with
from ansible_collections.platter.qemu.tests.lab.modules import call
from ansible_collections.platter.qemu.tests.lab.ports import free_port
from ansible_collections.platter.qemu.tests.lab.programs import listens, running, wait_until
from ansible_collections.platter.qemu.tests.lab.vm import CLOCK, KERNEL_LINE, Guest

MIB = 1 << 20
ARRAY = uuid.UUID("6f9b0c1e-6f0c-4c43-9a5e-0f4b3a0d7c11")
#: where distributions have the server of virtiofs
VIRTIOFSD = ("/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd", "/usr/lib/virtiofsd")
#: the first program of a root: says over HTTP what the guest's root is, and takes commands as other guests do
INIT = """#!/bin/sh
export PATH=/bin:/sbin
[ -e /proc/self ] || mount -t proc proc /proc
[ -e /dev/console ] || mount -t devtmpfs devtmpfs /dev
grep ' / ' /proc/mounts | tail -n 1 >/run/www/index.html 2>/dev/null || {
    mkdir -p /run/www; grep ' / ' /proc/mounts | tail -n 1 >/run/www/index.html; }
httpd -p 80 -h /run/www
exec /bin/sh /shell.sh
"""


def plant(directory: Path, programs: tuple[str, ...] = ()) -> Path:
    """A root tree: busybox, and programs of this machine with their libraries."""
    for name in ("bin", "sbin", "dev", "proc", "sys", "run", "tmp", "etc"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    busybox = shutil.which("busybox")
    assert busybox
    shutil.copy(busybox, directory / "bin/busybox")
    for name in subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split():
        if name != "busybox":
            (directory / "bin" / name).symlink_to("busybox")
    for name, text in (("sbin/init", INIT), ("shell.sh", (SCRIPTS / "shell.sh").read_text())):
        (directory / name).write_text(text)
        (directory / name).chmod(0o755)
    for name in programs:
        _add_program(directory, name)
    return directory


def _add_program(directory: Path, name: str) -> None:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    assert found, f"{name} is not installed"
    shutil.copy(found, directory / "sbin" / name)
    told = subprocess.run(["ldd", found], capture_output=True, text=True, check=False).stdout
    for library in [word for word in told.split() if word.startswith("/")]:
        target = directory / library.strip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, target)


def legs(directory: Path, tree: Path, length: int = 64 * MIB) -> list[Path]:
    """The two legs of a RAID1 that has the tree in it, as files; md has none of its own here."""
    system = directory / "tree.ext4"
    subprocess.run(["truncate", "-s", str(length - 2 * MIB), system], check=True)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", tree, system], check=True)
    made = []
    for number in (0, 1):
        made.append(directory / f"leg{number}.raw")
        subprocess.run(["truncate", "-s", str(length), made[-1]], check=True)
        at, block = superblocks.md_1(length, 2, ARRAY, "root", number)
        with made[-1].open("r+b") as leg:
            leg.seek(at)
            leg.write(block)
            leg.seek(MIB)
            leg.write(system.read_bytes())
    system.unlink()
    return made


def events(leg: Path) -> int:
    """How often the array of a leg had changed when md wrote to it last."""
    with leg.open("rb") as stream:
        stream.seek(4096 + 200)
        return int(struct.unpack("<Q", stream.read(8))[0])


@contextlib.contextmanager
def virtiofs(tree: Path, socket: Path) -> Iterator[dict[str, Any]]:
    """The share of a virtiofsd while the block runs."""
    program = next(filter(os.path.exists, VIRTIOFSD), None)
    if program is None:
        pytest.skip("there is no virtiofsd here")
    with running(program, f"--socket-path={socket}", "-o", f"source={tree}", "-o", "sandbox=chroot"):
        wait_until(lambda: listens(socket), "virtiofsd listens")
        yield {"tag": "root", "driver": "virtiofs", "socket": str(socket)}


class Diskless:
    """A VM without disks that is defined and started as a user would. C(web): the port that it answers at."""

    def __init__(self, directory: Path, modules: tuple[str, ...]) -> None:
        self.directory = directory
        self.kernel, self.modules = kernel_with(modules)
        self.port = free_port()
        self.image = directory / "root.initramfs"

    def make(self, root: dict[str, Any], check: bool = False, **more: Any) -> dict[str, Any]:
        """The result of the module for its initramfs."""
        options = {"path": str(self.image), "root": root, "modules_directory": str(self.modules), **more}
        return call("initramfs_image", check=check, **options)

    @contextlib.contextmanager
    def booted(self, wait: bool = True, network: str = "", **vm: Any) -> Iterator[Guest]:
        """The guest, which takes commands. C(network): more of its network. C(vm): options of C(qemu_drive) besides."""
        config, run = self.directory / "vms" / "web1", self.directory / "run"
        run.mkdir(exist_ok=True)
        boot = {"kernel": str(self.kernel), "initrd": str(self.image), "append": f"{KERNEL_LINE} {CLOCK}"}
        nic = f"user,model=virtio-net-pci,hostfwd=tcp:127.0.0.1:{self.port}-:80{network}"
        made = call("qemu_drive", vm="web1", config=str(config), boot=boot, arguments=["-nic", nic], **vm)
        assert not made.get("failed"), made["msg"]
        memory = () if "shared_memory" in vm else ("-m", "256")
        guest = Guest(run, (), agent=False, begin=(config / "start", "-accel", "tcg", "-cpu", "qemu64", *memory))
        try:
            if wait:
                guest.boot()
            yield guest
        finally:
            guest.end()

    def answer(self) -> str:
        """What the guest says over its network: the mount of its root."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=60) as page:
            return str(page.read().decode())


#: where the guest finds the NFS server, which has a network of its own: it would listen on all addresses
NFS = "10.0.2.100"
_GANESHA = """
NFS_CORE_PARAM {{ NFS_Port = 2049; Protocols = 4; Enable_NLM = false; Enable_RQUOTA = false; Plugins_Dir = {plugins}; }}
NFSV4 {{ RecoveryRoot = {place}; Graceless = true; Minor_Versions = 1,2; Only_Numeric_Owners = true;
    UseGetpwnam = true; }}
NFS_KRB5 {{ Active_krb5 = false; }}
EXPORT {{ Export_Id = 1; Path = {tree}; Pseudo = {name}; Access_Type = RW; Squash = No_Root_Squash; SecType = sys; Protocols = 4;
    Transports = TCP; FSAL {{ Name = VFS; }} }}
"""


def ganesha_conf(recovery: Path, tree: Path, name: str) -> str:
    """Of a server of NFS 4 that has the tree under that name. C(recovery): a directory of its own."""
    program = Path(shutil.which("ganesha.nfsd") or "/usr/bin/ganesha.nfsd")
    plugins = next(program.parents[1].glob("lib*/**/libfsalvfs.so"), program).parent
    return _GANESHA.format(plugins=plugins, place=recovery, tree=tree, name=name)


_ALONE = "ip link set lo up; ip addr add 127.0.0.2/8 dev lo; mount -t tmpfs none /run; mkdir /run/ganesha; exec "


@contextlib.contextmanager
def nfs(tree: Path, directory: Path) -> Iterator[str]:
    """What a network of QEMU's has to know of an NFS server (ganesha), which runs while the block does."""
    program = shutil.which("ganesha.nfsd")
    if program is None:
        pytest.skip("ganesha.nfsd is not installed")
    config, log = directory / "ganesha.conf", directory / "ganesha.log"
    (directory / "recovery").mkdir()
    config.write_text(ganesha_conf(directory / "recovery", tree, "/web1"))
    command = f"{_ALONE} {program} -F -f {config} -L {log} -p {directory}/ganesha.pid"
    with running("unshare", "--net", "--mount", "--propagation", "slave", "sh", "-c", command) as server:
        wait_until(lambda: _says(log, "NFS SERVER INITIALIZED") or server.poll() is not None, "ganesha serves")
        assert server.poll() is None, log.read_text()
        relay = f"nsenter --net=/proc/{server.pid}/ns/net {shutil.which('busybox')} nc 127.0.0.1 2049"
        yield f",guestfwd=tcp:{NFS}:2049-cmd:{relay}"


def _says(log: Path, text: str) -> bool:
    return log.exists() and text in log.read_text()


_OWN = """
mount -t tmpfs none {place}
for each in etc var/lib; do
    mkdir -p {place}/$each/upper {place}/$each/work
    mount -t overlay -o lowerdir=/$each,upperdir={place}/$each/upper,workdir={place}/$each/work overlay /$each
done
mount -t tmpfs -o mode=0755 none /run && mount -t tmpfs -o mode=0755 none /srv && echo ready && exec cat
"""


class OwnHost:
    """This machine with places and processes of its own: what is written to C(/etc), C(/run), C(/srv) and C(/var/lib), and
    what is started, is gone with it.
    """

    def __init__(self, pid: int) -> None:
        self._enter = ("nsenter", "--target", str(pid), "--mount", "--pid")

    def run(self, *command: object, check: bool = True) -> str:
        """What a command prints, which must succeed if C(check)."""
        argv = [*self._enter, *map(str, command)]
        done = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
        assert done.returncode == 0 or not check, done.stdout[-4000:] + done.stderr[-2000:]
        return done.stdout + (done.stderr if not check else "")


@contextlib.contextmanager
def own_host(directory: Path) -> Iterator[OwnHost]:
    """While the block runs."""
    place = directory / "own"
    place.mkdir()
    options = ("--mount", "--propagation", "slave", "--pid", "--fork", "--kill-child", "--mount-proc")
    with running("unshare", *options, "sh", "-ec", _OWN.format(place=place)) as holder:
        assert holder.stdout and holder.stdout.readline() == b"ready\n"
        children = Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text().split()
        yield OwnHost(int(children[0]))
