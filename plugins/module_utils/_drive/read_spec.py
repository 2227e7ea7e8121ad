# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Turns what a task says of a VM's drives into values. Pure."""

from __future__ import annotations

import difflib
import typing as t
from dataclasses import replace

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._drive import (
    block_options,
    boot,
    controllers,
    devices,
    file_name,
    finding,
    keyval,
    link,
    nodes,
    read_cache,
    read_objects,
    settings,
    throttling,
)
from ansible_collections.platter.qemu.plugins.module_utils._drive.spec import (
    Device,
    Drive,
    DrivesSpec,
    Node,
    Object,
    Options,
    Scalar,
    sorted_options,
)

Params = t.Mapping[str, t.Any]


def read(params: t.Any, machine: str = "") -> DrivesSpec:
    """From a list of drives, or from a dict as C(facts.of_spec) makes it. Raises SpecError.

    C(machine): its type, where C(params) does not say it. Controllers and objects that drives need are added.
    """
    vm: Params = params if isinstance(params, t.Mapping) else {"drives": params}
    told = list(vm.get("drives") or ())
    readers = [_Reader(each) for each in told]
    drives = [reader.drive() for reader in readers]
    separate = _separate_nodes(vm.get("nodes") or ())
    drives, left = _linked(drives, separate)
    made = [each for reader in readers for each in reader.objects]
    objects = read_objects.read(vm.get("objects") or (), made, drives)
    family = devices.family(str(vm.get("machine") or machine or "pc"))
    kept = _controllers(vm.get("controllers") or ())
    spec = DrivesSpec(tuple(drives), kept, objects, left, family, **boot.of_vm(vm))
    return controllers.completed(spec)


def refused(drive: str, fact: str, way_out: str, reason: str = "bad_option") -> errors.SpecError:
    """A refusal of what is asked of a drive."""
    return finding.Finding(drive, reason, fact, way_out).error()


def _separate_nodes(trees: t.Sequence[Params]) -> t.Dict[str, Node]:
    found: t.Dict[str, Node] = {}
    for tree in trees:
        try:
            node = nodes.from_tree(tree)
        except ValueError as exc:
            raise refused(str(tree.get("node-name")), str(exc), "Correct that node.") from exc
        if not node.name or node.name in found:
            raise refused(node.name, "a node needs a name of its own", "Give it a node-name.", "duplicate_name")
        found[node.name] = node
    return found


def _linked(drives: t.Sequence[Drive], separate: t.Dict[str, Node]) -> t.Tuple[t.List[Drive], t.Tuple[Node, ...]]:
    """The drives with those nodes in them that only they name, and the nodes that are left."""
    if not separate:
        return list(drives), ()
    tops = {"\0" + each.id: each.backend for each in drives if each.backend is not None}
    graphs = link.graphs(dict(separate, **tops), set(tops))
    linked = [replace(each, backend=graphs.get("\0" + each.id)) for each in drives]
    return linked, tuple(node for name, node in graphs.items() if name not in tops)


def _controllers(told: t.Sequence[Params]) -> t.Tuple[Device, ...]:
    found = []
    for each in told:
        properties = dict(each.get("properties") or {}, id=each.get("id") or "", bus=each.get("bus") or "")
        try:
            found.append(devices.from_properties(str(each["device"]), properties))
        except (KeyError, ValueError) as exc:
            raise refused(str(each.get("id")), "a controller: %s" % exc, "Correct it.") from exc
    return tuple(found)


class _Reader:
    """Turns the options of one drive into values; every refusal names it."""

    def __init__(self, params: Params) -> None:
        if not isinstance(params, t.Mapping):
            raise refused("", "%r is no dictionary" % (params,), "Describe each drive by its options.")
        self._params = params
        self._id = str(params.get("id") or "")
        self.objects: t.List[Object] = []

    def _refuse(self, fact: str, way_out: str, reason: str = "bad_option") -> errors.SpecError:
        return refused(self._id, fact, way_out, reason)

    def drive(self) -> Drive:
        self._refuse_unknown()
        try:
            return Drive(
                self._id,
                self._backend(),
                self._frontend(),
                self._throttle(),
                bool(self._params.get("copy_on_read")),
                bool(self._params.get("snapshot")),
            )
        except ValueError as exc:
            raise self._refuse(str(exc), "Correct it.") from exc

    def _refuse_unknown(self) -> None:
        if not self._id:
            raise self._refuse("a drive has no id", "Give every drive an id.")
        for name in self._params:
            if name not in settings.ALL:
                close = difflib.get_close_matches(str(name), settings.ALL, 1)
                way_out = "Did you mean %s?" % close[0] if close else "See the documentation for what a drive has."
                raise self._refuse("%s is nothing that a drive has" % name, way_out, "unknown_option")
        unknown = read_cache.unknown(self._params.get("cache"))
        if unknown:
            raise self._refuse("cache has no %s" % ", ".join(unknown), "Leave it out.", "unknown_option")

    def _backend(self) -> t.Optional[Node]:
        image = self._params.get("image")
        if not image:
            return None
        node = self._image(image)
        given = {
            qemu: self._params[name] for name, qemu in settings.OF_NODE.items() if self._params.get(name) is not None
        }
        given.update(read_cache.of_node(self._params.get("cache")))
        given.update(self._encryption(node.driver))
        if self._is_cdrom():
            given["read-only"] = True
        top = nodes.from_tree(dict(keyval.nest(self._merged(node.options, given, node.driver)), driver=node.driver))
        node = replace(node, options=top.options)
        return self._with_protocol(node)

    def _is_cdrom(self) -> bool:
        """Which is always read-only."""
        found = self._device() in devices.CDROMS
        said = self._params.get("read_only")
        if found and said is not None and not block_options.boolean("read_only", said):
            raise self._refuse("nothing can be written to a CD-ROM", "Leave read_only out, or choose another device.")
        return found

    def _merged(self, has: Options, given: t.Mapping[str, t.Any], driver: str) -> t.List[t.Tuple[str, Scalar]]:
        options = dict(has)
        for key, value in given.items():
            typed = block_options.typed(driver, key, value)
            if options.get(key, typed) != typed:
                raise self._refuse(
                    "image says %s for %s, and the drive %s" % (options[key], key, typed), "Say it once."
                )
            options[key] = typed
        return list(options.items())

    def _image(self, image: t.Any) -> Node:
        if not isinstance(image, t.Mapping):
            raise self._refuse("image is %r" % (image,), "Write image: {path: ..., format: ...}.")
        ways = [name for name in ("path", "uri", "blockdev") if image.get(name)]
        if len(ways) != 1:
            raise self._refuse("image needs one of path, uri and blockdev", "Name the image once.")
        unknown = set(image) - {"path", "uri", "blockdev", "format", "options"}
        if unknown:
            raise self._refuse("image has no %s" % ", ".join(sorted(unknown)), "Leave it out.", "unknown_option")
        tree = self._tree(image, ways[0])
        options = self._options(image.get("options") or {})
        if image.get("format") or ways[0] != "blockdev":
            return nodes.from_tree(dict(options, driver=image.get("format") or "", file=tree))
        if options:
            fact = "image.options are those of the format's node, and image.format is not given"
            raise self._refuse(fact, "Set image.format, or write them into image.blockdev.")
        return nodes.from_tree(tree)

    def _options(self, told: t.Any) -> t.Dict[str, t.Any]:
        """Of the format's node, whose name and file are said elsewhere."""
        options = keyval.nest(keyval.flatten(self._mapping("image.options", told)))
        for name in ("driver", "node-name", "file"):
            if name in options:
                raise self._refuse("image.options has %s, which it cannot say" % name, "Write a whole image.blockdev.")
        return options

    def _mapping(self, name: str, told: t.Any) -> Params:
        if not isinstance(told, t.Mapping):
            raise self._refuse("%s is %r" % (name, told), "Write a dictionary.")
        return {str(key): value for key, value in told.items()}

    def _tree(self, image: Params, way: str) -> t.Dict[str, t.Any]:
        if way == "blockdev":
            return dict(self._mapping("image.blockdev", image["blockdev"]))
        if way == "uri":
            return file_name.read(str(image["uri"]))
        path = keyval.plain(image["path"])
        if file_name.read(path).get("filename") != path:
            raise self._refuse("image.path %s is no path of this host" % path, "Write it as image.uri.", "bad_path")
        return file_name.local_tree(path)

    def _encryption(self, driver: str) -> t.Dict[str, str]:
        told = self._params.get("encryption")
        if not told:
            return {}
        told = self._mapping("encryption", told)
        if bool(told.get("secret")) == bool(told.get("secret_file")):
            fact = "encryption needs a file with the secret, or the id of a secret object"
            raise self._refuse(fact, "Set encryption.secret_file.", "secret_missing")
        secret = str(told.get("secret") or self._id + "-secret")
        if told.get("secret_file"):
            self.objects.append(Object("secret", secret, (("file", keyval.plain(told["secret_file"])),)))
        if driver == "luks":
            return {"key-secret": secret}
        return {"encrypt.format": str(told.get("format") or "luks"), "encrypt.key-secret": secret}

    def _with_protocol(self, node: Node) -> Node:
        given = {
            qemu: self._params[name]
            for name, qemu in settings.OF_PROTOCOL.items()
            if self._params.get(name) is not None
        }
        if not given:
            return node
        below = nodes.protocol(node)
        for name in given:
            if below is None or name not in block_options.DRIVERS.get(below.driver, ()):
                place = below.driver if below is not None else "a node that is described elsewhere"
                raise self._refuse("%s is nothing for %s" % (name, place), "Leave it out.", "unknown_option")
        options = sorted_options({key: block_options.typed("", key, value) for key, value in given.items()})
        return nodes.changed_protocol(node, options)

    def _frontend(self) -> t.Optional[Device]:
        device = self._device()
        if not device:
            return None
        properties = dict(self._mapping("properties", self._params.get("properties") or {}))
        for name, qemu in settings.OF_DEVICE.items():
            if self._params.get(name) is not None:
                properties[qemu] = self._params[name]
        writeback = read_cache.writeback(self._params.get("cache"))
        if writeback is not None:
            properties["write-cache"] = "on" if writeback else "off"
        own = self._params.get("device_id")
        properties.update(id=self._id if own is None else own, bus=self._params.get("bus") or "")
        return devices.from_properties(device, properties)

    def _device(self) -> str:
        return devices.full_name(str(self._params.get("device") or ""))

    def _throttle(self) -> str:
        told = self._params.get("throttle")
        if not told:
            return ""
        told = dict(self._mapping("throttle", {"group": told} if isinstance(told, str) else told))
        group = keyval.plain(told.pop("group", "") or self._id)
        limits: t.Dict[str, Scalar] = {}
        for name, value in told.items():
            limit = name.replace("_", "-")
            if limit not in throttling.LIMITS:
                meant = "%s_total" % name if limit in ("bps", "iops") else "bps_total, iops_read and the like"
                raise self._refuse("throttle has no %s" % name, "Write %s." % meant, "unknown_option")
            limits["limits." + limit] = block_options.integer(name, value)
        self.objects.append(Object("throttle-group", group, sorted_options(limits)))
        return group
