# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""A program of ours as one file (zipapp), which outlives the play: a module with a C(main()) and all of this collection that
it needs.
"""

from __future__ import annotations

import hashlib
import io
import posixpath
import re
import typing as t
import zipfile
from types import ModuleType

_BASE = "ansible_collections.platter.qemu.plugins.module_utils"
_IMPORT = re.compile(r"^\s*from %s(\S*) import (?:\(([^)]*)\)|(.*))$" % re.escape(_BASE), re.MULTILINE)
_MAIN = "from %s import main\n\nmain()\n"
#: the oldest that a zip can hold, so that the same files make the same bytes
_DATE = (1980, 1, 1, 0, 0, 0)


def build(start: ModuleType, *, packed: bool = True) -> bytes:
    """The bytes of the file, which Python runs, always the same of the same files. C(start): imported by the caller, so that
    Ansible has sent to the host what it imports. C(packed): small, but another zlib makes other bytes.
    """
    sources = {"__main__.py": (_MAIN % start.__name__).encode()}
    top = _BASE.replace(".", "/")
    for name, text in _needed(start).items():
        sources["%s/%s" % (top, name)] = text
    directories = {path.rpartition("/")[0] for path in sources if "/" in path}
    for directory in list(directories):
        parts = directory.split("/")
        sources.update(("/".join(parts[: end + 1]) + "/__init__.py", b"") for end in range(len(parts)))
    made, how = io.BytesIO(), zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    with zipfile.ZipFile(made, "w", how) as archive:
        for path, text in sorted(sources.items()):
            archive.writestr(zipfile.ZipInfo(path, _DATE), text, how)
    return made.getvalue()


def digest_of(program: bytes) -> str:
    """By which two are told apart."""
    return hashlib.sha256(program).hexdigest() if program else ""


def _needed(start: ModuleType) -> t.Dict[str, bytes]:
    """Every file that the first one imports, directly or not, in functions too."""
    found: t.Dict[str, bytes] = {}
    todo = [start.__name__[len(_BASE) + 1 :].replace(".", "/") + ".py"]
    while todo:
        name = todo.pop()
        if name in found:
            continue
        text = _source(name)
        if text is not None:
            found[name] = text
            todo += _imported(text.decode())
    return found


def _imported(text: str) -> t.Iterator[str]:
    """What may be files: a name that is imported is a module, or in one."""
    for where, many, one in _IMPORT.findall(text):
        package = where.strip(".").replace(".", "/")
        if package:
            yield package + ".py"
        for name in re.findall(r"\w+", re.sub(r"\bas \w+|#.*", "", many or one)):
            yield "%s/%s.py" % (package, name) if package else name + ".py"


def _source(name: str) -> t.Optional[bytes]:
    """The text of a file of ours; None where there is none. They come from where this one comes from, mostly a zip."""
    loader = __spec__.loader if __spec__ else None
    top = posixpath.dirname(posixpath.dirname(__file__))
    try:
        return bytes(loader.get_data(posixpath.join(top, name)))  # type: ignore[union-attr]
    except OSError:
        return None
