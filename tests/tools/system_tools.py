"""The programs this collection is used and tested with, and the system package each is in.

system_tools.py check|install demo|test
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

# program: (Debian and Ubuntu package, Fedora package)
DEMO = {
    "qemu-img": ("qemu-utils", "qemu-img"),
    "qemu-io": ("qemu-utils", "qemu-img"),
    "qemu-nbd": ("qemu-utils", "qemu-img"),
    "mke2fs": ("e2fsprogs", "e2fsprogs"),
}
STORAGE = {
    **DEMO,
    "qemu-storage-daemon": ("qemu-system-common", "qemu-img"),
    "qemu-system-x86_64": ("qemu-system-x86", "qemu-system-x86-core"),
    "qemu-ga": ("qemu-guest-agent", "qemu-guest-agent"),
    "busybox": ("busybox-static", "busybox"),
    "nbdkit": ("nbdkit", "nbdkit"),
    "nbdinfo": ("libnbd-bin", "libnbd"),
    "nbd-client": ("nbd-client", "nbd"),
    "ganesha.nfsd": ("nfs-ganesha", "nfs-ganesha"),
    "ss": ("iproute2", "iproute"),
    "ps": ("procps", "procps-ng"),
    "systemd-analyze": ("systemd", "systemd"),
    "strace": ("strace", "strace"),
    "setfattr": ("attr", "attr"),
    "setfacl": ("acl", "acl"),
    "losetup": ("mount", "util-linux"),
    "sfdisk": ("fdisk", "util-linux"),
    "parted": ("parted", "parted"),
    "mdadm": ("mdadm", "mdadm"),
    "lvm": ("lvm2", "lvm2"),
    "mkfs.xfs": ("xfsprogs", "xfsprogs"),
    "mkfs.btrfs": ("btrfs-progs", "btrfs-progs"),
    "mkfs.vfat": ("dosfstools", "dosfstools"),
    "mkfs.ntfs": ("ntfs-3g", "ntfsprogs"),
    "mkfs.exfat": ("exfatprogs", "exfatprogs"),
    "cryptsetup": ("cryptsetup-bin", "cryptsetup"),
    "openssl": ("openssl", "openssl"),
    "zstd": ("zstd", "zstd"),
    "xz": ("xz-utils", "xz"),
    "bzip2": ("bzip2", "bzip2"),
    "nginx": ("nginx-light", "nginx-core"),
    "ssh": ("openssh-client", "openssh-clients"),
    "sshd": ("openssh-server", "openssh-server"),
}
TEST = {
    **STORAGE,
    "git": ("git", "git"),
    "make": ("make", "make"),
    "shellcheck": ("shellcheck", "ShellCheck"),
}
PROFILES = {"demo": DEMO, "test": TEST}

# Packages without a program in PATH: QEMU's ssh and http drivers, Python's venv, what ganesha serves files with, and
# virtiofsd, which Debian 12 has in qemu-system-common.
LIBRARIES = {
    "apt-get": ["python3-venv", "qemu-block-extra", "nfs-ganesha-vfs"],
    "dnf": ["qemu-block-curl", "qemu-block-ssh", "nfs-ganesha-vfs", "virtiofsd"],
}
# What the guests of the tests boot; any kernel of this machine that lies there with its modules will do.
KERNEL = {"apt-get": ["linux-image-cloud-amd64"], "dnf": ["kernel-core"]}
KERNEL_OF_UBUNTU = ["linux-image-virtual"]
# And where the root comes over 9p, which kernels for clouds lack. Fedora's and Ubuntu's were not tried.
KERNEL_WITH_9P = {"apt-get": ["linux-image-amd64"], "dnf": ["kernel-core"]}
# What is looked for in such packages: where it can be, and what has it.
FILES = {
    "libfsalvfs.so": (("/usr/lib*/ganesha/libfsalvfs.so", "/usr/lib/*/ganesha/libfsalvfs.so"), "nfs-ganesha-vfs"),
    "virtiofsd": (
        ("/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd", "/usr/lib/virtiofsd"),
        "virtiofsd, or qemu-system-common of Debian 12",
    ),
}
INSTALL = {"apt-get": ["apt-get", "install", "-y", "--no-install-recommends"], "dnf": ["dnf", "install", "-y"]}


def search_path() -> str:
    """PATH, with the directories that hold the administrator's programs, without pyenv's stand-ins for Pythons."""
    names = [name for name in os.environ.get("PATH", os.defpath).split(os.pathsep) if not name.endswith("/shims")]
    return os.pathsep.join([*names, "/usr/local/sbin", "/usr/sbin", "/sbin"])


def missing(programs) -> list[str]:
    """Those of the programs which this machine lacks."""
    return [name for name in programs if not shutil.which(name, path=search_path())]


def package_manager() -> str | None:
    """The package manager of this machine, if it is one we know."""
    return next((name for name in INSTALL if shutil.which(name, path=search_path())), None)


def packages(programs, manager: str) -> list[str]:
    """The packages the programs are in."""
    column = list(INSTALL).index(manager)
    return sorted({TEST[name][column] for name in programs})


def libraries(manager: str | None) -> list[str]:
    """The packages without programs, and kernels where none lies ready."""
    kernel = [] if _has_kernel("") else _kernel(manager, KERNEL)
    return [
        *LIBRARIES.get(manager or "", []),
        *kernel,
        *([] if _has_kernel("/9p.ko") else _kernel(manager, KERNEL_WITH_9P)),
    ]


def _has_kernel(module: str) -> bool:
    """A kernel that lies beside its modules, or in /boot: machines may have the modules only of what they run.

    module: as the kernel's own list of them has it.
    """
    lists = [each for each in Path("/lib/modules").glob("*/modules.dep") if module in each.read_text()]
    directories = [each.parent for each in lists]
    return any((each / "vmlinuz").exists() or Path(f"/boot/vmlinuz-{each.name}").exists() for each in directories)


def _kernel(manager: str | None, packages: dict[str, list[str]]) -> list[str]:
    with open("/etc/os-release", encoding="utf-8") as lines:
        ubuntu = any(line.strip() == "ID=ubuntu" for line in lines)
    return KERNEL_OF_UBUNTU if ubuntu else packages.get(manager or "", [])


def missing_files() -> list[str]:
    """What the tests need beside programs and is not there, as a person is told."""
    absent = [
        f"missing: {name} (package {package})"
        for name, (places, package) in FILES.items()
        if not any(found for place in places for found in Path("/").glob(place.lstrip("/")))
    ]
    kernels = {"": "linux-image-cloud-amd64 or kernel-core", "/9p.ko": "linux-image-amd64 or kernel-core"}
    return absent + [
        f"missing: a kernel with {module.lstrip('/') or 'its modules'} in /boot and /lib/modules (package {package})"
        for module, package in kernels.items()
        if not _has_kernel(module)
    ]


def advice(programs) -> str:
    """What to type to get the programs, for a person."""
    known = [package_manager()] if package_manager() else list(INSTALL)
    commands = [" ".join(INSTALL[name] + packages(programs, name)) for name in known]
    return f"missing: {', '.join(programs)}. Install with: {' or: '.join(commands)}"


def install(names: list[str], manager: str) -> None:
    """Install packages without a question; nothing is started (see .ci/run for daemons)."""
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    if manager == "apt-get":
        subprocess.run(["apt-get", "update", "-q"], check=True, stdin=subprocess.DEVNULL, env=environ)
    subprocess.run(INSTALL[manager] + names, check=True, stdin=subprocess.DEVNULL, env=environ)


def install_missing(programs, extra=()) -> None:
    """Install what is missing when root, else say which command to run and exit."""
    absent, manager = missing(programs), package_manager()
    if not absent and not extra:
        return
    if manager is None or os.geteuid() != 0:
        raise SystemExit(advice(absent) if absent else 0)
    install([*packages(absent, manager), *extra], manager)


def main() -> None:
    """Check or install the programs of one profile."""
    verb, profile = sys.argv[1:]
    programs = PROFILES[profile]
    if verb == "install":
        install_missing(programs, libraries(package_manager()) if profile == "test" else ())
    absent = [advice(missing(programs))] if missing(programs) else []
    absent += missing_files() if profile == "test" else []
    if absent:
        raise SystemExit("\n".join(absent))


if __name__ == "__main__":
    main()
