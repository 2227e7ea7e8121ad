# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Owner, group, mode, SELinux context and file attributes, by the functions of every Ansible file module."""

from __future__ import annotations

import copy
import grp
import os
import pwd
import stat
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._tools import attributes

if t.TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

Pairs = t.Tuple[t.Tuple[str, t.Any], ...]
#: a new image is for its owner only, unless the task says otherwise
NEW_MODE = 0o600
#: what changes are made to that a task writes in symbols (C(g+w)), of what is still to be made
OF_FILES, OF_DIRECTORIES = stat.S_IFREG | NEW_MODE, stat.S_IFDIR | 0o755
#: flags that the file system sets itself (lsattr shows them, chattr cannot change them)
_FIXED_FLAGS = frozenset("eEINV")
_NAMES = ("owner", "group", "mode", "seuser", "serole", "setype", "selevel", "attributes")


class FileAttributes:
    """Answers what they are and should be, and sets them. C(params) of an item are found by its path. C(new): type and mode of
    what is still to be made.
    """

    def __init__(
        self, module: AnsibleModule, params_by_path: t.Mapping[str, t.Mapping[str, t.Any]], new: int = OF_FILES
    ) -> None:
        self._new = new
        self._module = copy.copy(module)
        # one file's failure is that of its image, and ends no list, and no thread, by SystemExit
        vars(self._module)["fail_json"] = _fail
        self._params = params_by_path

    def _asked(self, spec: t.Any) -> t.Dict[str, t.Any]:
        params = self._params[spec.name]
        names = [name for name in _NAMES if params.get(name) is not None]
        if not self._module.selinux_enabled():  # as in all file modules, a context is then nobody's concern
            names = [name for name in names if not name.startswith("se")]
        return {name: params[name] for name in names}

    def desired(self, spec: t.Any, members: t.Sequence[str]) -> Pairs:
        """What the task asks, comparable with C(current): names, octal mode."""
        asked = self._asked(spec)
        try:
            if "mode" in asked:
                asked["mode"] = self._octal(asked["mode"], members[0])
            if "attributes" in asked:
                asked["attributes"] = _flags_after(self._flags(members[0]), asked["attributes"])
            for name, look_up in (("owner", _known_user), ("group", _known_group)):
                if name in asked:
                    asked[name] = look_up(asked[name])
            if "mode" in asked and not 0 <= int(asked["mode"], 8) <= 0o7777:
                raise ValueError("mode %s" % asked["mode"])
        except (ValueError, KeyError, OverflowError) as exc:
            fact = "owner, group or mode cannot be as asked: %s" % (exc.args[0] if exc.args else exc)
            way_out = "Write another, or make the user or group first."
            raise errors.SpecError("the options", spec.path, fact, reason="bad_option", way_out=way_out) from exc
        return tuple(sorted(asked.items()))

    def _octal(self, mode: t.Any, path: str) -> str:
        text = str(mode)
        if isinstance(mode, int) and _meant_in_octal(mode):
            raise ValueError("mode: %d without quotes is the number %04o in octal; write '%04d'" % (mode, mode, mode))
        if isinstance(mode, int) or text.isdigit():
            return "%04o" % (mode if isinstance(mode, int) else int(text, 8))
        there = os.stat(path) if os.path.exists(path) else os.stat_result((self._new,) + (0,) * 9)
        return "%04o" % self._module._symbolic_mode_to_octal(there, text)

    def current(self, members: t.Sequence[str], desired: Pairs) -> Pairs:
        """The C(desired) ones as they are; of several members the first that differs speaks for all."""
        found = [self._of(path, [name for name, _value in desired]) for path in members if os.path.exists(path)]
        return next((pairs for pairs in found if pairs != desired), desired)

    def _of(self, path: str, names: t.Sequence[str]) -> Pairs:
        facts = os.stat(path)
        known: t.Dict[str, t.Any] = {
            "owner": _user_name(str(facts.st_uid)),
            "group": _group_name(str(facts.st_gid)),
            "mode": "%04o" % stat.S_IMODE(facts.st_mode),
        }
        if any(name.startswith("se") for name in names):
            context = self._module.selinux_context(path)
            known.update(zip(("seuser", "serole", "setype", "selevel"), context))
        if "attributes" in names:
            known["attributes"] = self._flags(path)
        return tuple((name, known.get(name)) for name in names)

    def _flags(self, path: str) -> str:
        """The file attributes of C(path) that chattr(1) can change, sorted; none of a file that is not there."""
        if not os.path.exists(path):
            return ""
        flags = self._module.get_file_attributes(path, include_version=False).get("attr_flags", "")
        return "".join(sorted(set(flags) - _FIXED_FLAGS))

    def apply(self, spec: t.Any, path: str) -> None:
        """Make C(path) as asked."""
        params = dict.fromkeys(_NAMES)
        params.update(self._params[spec.name], path=path)
        params.pop("attributes", None)
        arguments = self._module.load_file_common_arguments(params, path=path)
        self._module.set_fs_attributes_if_different(arguments, False)

    def set_flags(self, spec: t.Any, path: str) -> None:
        """Set the file attributes, last of all: an immutable file can take no name any more."""
        asked = self._asked(spec).get("attributes")
        if asked is None:
            return
        now = set(self._flags(path))
        wanted = set(_flags_after("".join(now), asked))
        for sign, flags in (("+", wanted - now), ("-", now - wanted)):
            if flags:
                self._module.set_attributes_if_different(path, sign + "".join(sorted(flags)), False)

    def dress(
        self, spec: t.Any, built: str, like: t.Optional[str], identity: t.Optional[t.Tuple[int, int]] = None
    ) -> None:
        """Prepare a finished file for its name: as C(like) (the file it replaces, of that C(identity)), then as asked."""
        os.chmod(built, NEW_MODE)
        if like:
            attributes.copy_attributes(like, built, identity)
        elif self._module.selinux_enabled():
            self._module.set_default_selinux_context(built, False)
        if self._asked(spec):
            self.apply(spec, built)


def _fail(msg: str, **facts: t.Any) -> t.NoReturn:
    """In the place of C(fail_json), for Ansible's own functions."""
    details = [str(facts[key]).strip() for key in ("path", "details", "exception") if facts.get(key)]
    raise errors.EngineError(": ".join([msg, *details]))


#: writing without reading, which nobody is allowed on purpose
_WRITE_ONLY = (2, 3)


def _meant_in_octal(mode: int) -> bool:
    """Whether a number is a mode only when its decimal digits are read as octal ones.

    YAML makes 420 of C(0644), which is right, but leaves C(644) as it is, which is 01204 in octal.
    """
    if set(str(mode)) - set("01234567") or mode > 7777:
        return False
    owner, others = mode >> 6 & 7, (mode >> 3 & 7, mode & 7)
    return mode > 0o777 or any(each & ~owner or each in _WRITE_ONLY for each in others)


def _flags_after(current: str, asked: str) -> str:
    """C(current) flags after C(+x), C(-x), C(=x) or C(x), sorted."""
    sign, flags = (asked[0], asked[1:]) if asked[:1] in ("+", "-", "=") else ("=", asked)
    now, given = set(current), set(flags) - _FIXED_FLAGS
    result = {"+": now | given, "-": now - given, "=": given}[sign]
    return "".join(sorted(result))


def _known_user(text: t.Any) -> str:
    return _user_name(text) if str(text).isdigit() else pwd.getpwnam(str(text)).pw_name


def _known_group(text: t.Any) -> str:
    return _group_name(text) if str(text).isdigit() else grp.getgrnam(str(text)).gr_name


def _user_name(text: t.Any) -> str:
    try:
        return pwd.getpwuid(int(text)).pw_name if str(text).isdigit() else str(text)
    except KeyError:
        return str(text)


def _group_name(text: t.Any) -> str:
    try:
        return grp.getgrgid(int(text)).gr_name if str(text).isdigit() else str(text)
    except KeyError:
        return str(text)
