# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The first program of the guest, as text for busybox's shell: modules, network, the root, and over to that. Pure.

What cannot be had yet is tried once a second; what cannot be had in time ends the program, and Linux does then what
C(panic=) of its arguments says.
"""

from __future__ import annotations

import shlex
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._initramfs.spec import (
    NBD_RAID,
    NFS,
    InitramfsSpec,
    Network,
    Root,
)

#: what busybox has to have for it
APPLETS = ("sh", "mount", "umount", "mkdir", "insmod", "ip", "sleep", "uname", "switch_root")
DHCP_APPLETS = ("udhcpc",)
#: where the root is mounted before it is the root
_ROOT = "/root"
_OPTIONS = {
    # without a cache the guest can map no file for writing, and programs do; more of a cache is not coherent with the host
    "9p": "trans=virtio,version=9p2000.L,msize=262144,cache=mmap",
}
_BEGIN = """\
#!/bin/busybox sh
# The first program of a VM without disks. Made by platter.qemu (initramfs_image); changes here are lost.
export PATH=/bin:/sbin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs -o mode=0755 tmpfs /run

say() { echo "initramfs: $*" >/dev/console; }
give_up() { say "$*"; sleep 1; exit 1; }
seconds() { read -r up rest </proc/uptime; echo "${up%%.*}"; }
# runs a command until it succeeds, or until there is no time left
until_done() { until "$@"; do [ "$(seconds)" -lt "$end" ] || return 1; sleep 1; done; }
"""
_END = """\
[ -e {root}{init} ] || [ -L {root}{init} ] || give_up "the root file system has no {shown}"
for each in dev proc sys run; do
    [ -d {root}/$each ] || mkdir {root}/$each 2>/dev/null
    mount --move /$each {root}/$each 2>/dev/null || umount -l /$each
done
unset LD_LIBRARY_PATH
exec switch_root {root} {init}
"""
#: what udhcpc runs
LEASE = """\
#!/bin/busybox sh
export PATH=/bin
[ "$1" = bound ] || [ "$1" = renew ] || exit 0
ip addr flush dev "$interface"
ip addr add "$ip/${mask:-24}" dev "$interface"
for each in $router; do ip route add default via "$each" dev "$interface" && break; done
"""


def init_script(spec: InitramfsSpec, libraries: t.Sequence[str] = ()) -> str:
    """The text of C(/init) for a spec with a root. C(libraries): directories that hold those of its programs, as no loader
    has a cache of them there.
    """
    root = t.cast(Root, spec.root)
    parts = [_BEGIN, *_libraries(libraries), _modules(spec)]
    if spec.network.address != "none":
        parts.append(_network(spec.network))
    parts.append(_array(root) if root.kind == NBD_RAID else _mount(root))
    parts.append(_END.format(root=_ROOT, init=shlex.quote(root.init), shown=_in_double(root.init)))
    return "\n".join(parts)


def _libraries(directories: t.Sequence[str]) -> t.List[str]:
    return ["export LD_LIBRARY_PATH=%s\n" % shlex.quote(":".join(directories))] if directories else []


def _modules(spec: InitramfsSpec) -> str:
    release = shlex.quote(spec.release)
    return (
        '[ "$(uname -r)" = %s ] || give_up "this is for Linux %s, and $(uname -r) runs"\n'
        "while read -r module; do insmod /modules/$module.ko 2>/dev/null; done </modules/order\n"
        "end=$(($(seconds) + %d))\n" % (release, _in_double(spec.release), spec.wait)
    )


def _network(network: Network) -> str:
    lines = ["ip link set lo up"]
    if network.interface:
        interface = shlex.quote(network.interface)
        lines += ["interface=%s" % interface, 'found() { [ -e "/sys/class/net/$interface" ]; }']
    else:
        lines.append(
            "found() { for each in /sys/class/net/*; do\n"
            '    [ -e "$each/device" ] && interface=${each##*/} && return; done; return 1; }'
        )
    lines += ['until_done found || give_up "there is no network interface"', 'ip link set "$interface" up']
    if network.address == "dhcp":
        lines.append('lease() { udhcpc -i "$interface" -n -q -t 5 -T 2 -s /bin/lease >/dev/null 2>&1; }')
        lines.append('until_done lease || give_up "no DHCP server has answered"')
    else:
        lines.append('ip addr add %s dev "$interface"' % shlex.quote(network.address))
        if network.gateway:
            lines.append('ip route add default via %s dev "$interface"' % shlex.quote(network.gateway))
    return "\n".join(lines) + "\n"


def _mount(root: Root) -> str:
    source, shown = shlex.quote(root.source), _in_double(root.source)
    if root.kind == NFS:
        return _mount_nfs(root, source, shown)
    command = "mount -t %s -o %s %s %s" % (root.kind, _options(root, _OPTIONS.get(root.kind, "")), source, _ROOT)
    return 'root() { %s; }\nuntil_done root || give_up "%s of %s cannot be mounted"\n' % (command, root.kind, shown)


def _mount_nfs(root: Root, source: str, shown: str) -> str:
    """The newest version that the server has, as no program negotiates it here."""
    address = root.source.partition(":")[0]
    own = "vers=$version,addr=%s,sec=sys" % address
    return (
        "root() { for version in %s; do\n"
        "    mount -t nfs4 -o %s %s %s && return; done; return 1; }\n"
        'until_done root || give_up "%s cannot be mounted"\n'
    ) % (_versions(root), _options(root, own), source, _ROOT, shown)


def _versions(root: Root) -> str:
    told = [option.partition("=")[2] for option in root.options.split(",") if option.startswith(("vers=", "nfsvers="))]
    return shlex.quote(told[-1]) if told else "4.2 4.1 4.0"


def _options(root: Root, own: str) -> str:
    """Ours first: of two that contradict each other, the later counts."""
    given = ",".join(each for each in root.options.split(",") if not each.startswith(("vers=", "nfsvers=")))
    parts = ["ro" if root.read_only else "rw", *filter(None, (own, _quoted(given)))]
    return ",".join(parts)


def _quoted(options: str) -> str:
    return shlex.quote(options) if options else ""


def _in_double(text: str) -> str:
    """For a message between double quotes."""
    return "".join("\\" + each if each in '"$`\\' else each for each in text)


#: mdadm without --run starts an array only if all legs are there that had its data when it was written last: a leg that was
#: away since then, alone, says that the other one has it too
_ARRAY = """\
attach() {
    [ -e /sys/block/nbd$1/pid ] || nbd-client "$2" "$3" /dev/nbd$1 -N "$4" -timeout %(timeout)d -connections 1 >/dev/null 2>&1
    [ -e /sys/block/nbd$1/pid ] && legs="$legs /dev/nbd$1"
}
runs() { case "$(cat /sys/block/md0/md/array_state 2>/dev/null)" in ""|clear|inactive) return 1;; esac; }
# reads which slot a leg has in the array, and the slots that it knows as active
role() {
    slot= state= ours=
    mdadm --examine $1 >/run/role 2>/dev/null
    while read -r one two colon value word number; do
        case "$one $two $value" in
            "Array UUID %(uuid)s") ours=yes;;
            "Device Role Active") slot=$number;;
            "Array State "*) state=$value;;
        esac
    done </run/role
    [ -n "$ours" ] && [ -n "$slot" ]
}
knows() {
    left=$1 before=$2
    while [ "$before" -gt 0 ]; do left=${left#?} before=$((before - 1)); done
    case "$left" in [AR]*) ;; *) return 1;; esac
}
# whether two legs have gone on without each other: what was written to one of them would be lost
diverged() {
    for leg in $legs; do
        role $leg || continue
        its_slot=$slot its_state=$state
        for other in $legs; do
            role $other && [ "$slot" != "$its_slot" ] || continue
            knows "$its_state" "$slot" || knows "$state" "$its_slot" || return 0
        done
    done
    return 1
}
assemble() {
    legs= why="too few legs of the array are there"
%(attach)s
    [ -n "$legs" ] || return 1
    diverged && why="two legs have gone on without each other, and only a person can say which is to go" && return 1
    mdadm --assemble $* /dev/md0 --uuid=%(uuid)s $legs >/dev/null 2>&1
    runs && return
    mdadm --stop /dev/md0 >/dev/null 2>&1
    return 1
}
until_done assemble || %(last)sgive_up "$why: $legs"
for each in $legs; do
    # of a leg that was away, what was written meanwhile
    [ -e /sys/block/md0/slaves/${each##*/} ] || mdadm /dev/md0 --re-add $each >/dev/null 2>&1 || say "$each is left out"
done
"""


def _array(root: Root) -> str:
    attach = ("    attach %d %s %d %s" % (number, *_words(leg)) for number, leg in enumerate(root.legs))
    values = {
        "timeout": root.io_timeout,
        "attach": "\n".join(attach),
        "uuid": _in_colons(root.uuid),
        "last": "assemble --run || " if root.start_degraded else "",
    }
    command = "mount -t %s -o %s /dev/md0 %s" % (root.filesystem, _options(root, ""), _ROOT)
    failed = "%s on the array cannot be mounted" % root.filesystem
    return _ARRAY % values + 'root() { %s; }\nuntil_done root || give_up "%s"\n' % (command, failed)


def _in_colons(uuid: str) -> str:
    """As mdadm writes it."""
    digits = uuid.replace("-", "")
    return ":".join(digits[at : at + 8] for at in range(0, 32, 8))


def _words(leg: t.Any) -> t.Tuple[str, int, str]:
    return shlex.quote(leg.host), leg.port, shlex.quote(leg.export)
