# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Secrets given as text reach programs only as files (0600) in the module's own temporary directory."""

from __future__ import annotations

import os
import stat
import tempfile
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import key_file

if t.TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule


def secret_options() -> t.Dict[str, t.Dict[str, t.Any]]:
    """The options that give the secret of an image."""
    return {"secret": {"type": "str", "no_log": True}, "secret_file": {"type": "path", "no_log": False}}


def with_secret_files(module: AnsibleModule, params: t.Dict[str, t.Any]) -> t.Dict[str, t.Any]:
    """C(params) of one image with every secret given as text replaced by the path of a file that holds it."""
    if params.get("source"):
        params = dict(params, source=_replaced(module, params, params["source"], "secret"))
    encryption = params.get("encryption")
    if not encryption:
        return params
    encryption = _replaced(module, params, encryption, "secret")
    slots = [_replaced(module, params, slot, "new_secret") for slot in encryption.get("keyslots") or ()]
    return dict(params, encryption=dict(encryption, keyslots=slots))


def _replaced(
    module: AnsibleModule, params: t.Mapping[str, t.Any], given: t.Mapping[str, t.Any], name: str
) -> t.Dict[str, t.Any]:
    given = dict(given)
    text = given.pop(name, None)
    if text is not None:
        given[name + "_file"] = _write(module.tmpdir, text)
    elif given.get(name + "_file"):
        _refuse_readable(params, given[name + "_file"])
    return given


def _write(directory: str, text: str) -> str:
    descriptor, path = tempfile.mkstemp(dir=directory)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(text.encode())
    return path


def _refuse_readable(params: t.Mapping[str, t.Any], path: str) -> None:
    """A key that others can read is no secret."""
    image = str(params.get("path") or params.get("image"))
    try:
        facts = os.stat(path)
    except FileNotFoundError as exc:
        way_out = "Make that file first, or correct its path. In check mode an earlier task has not made it."
        raise key_file.bad_key(path, image, "it does not exist", "secret_missing", way_out) from exc
    except OSError as exc:
        raise key_file.bad_key(path, image, "it cannot be read (%s)" % exc.strerror, "secret_missing") from exc
    key_file.refuse_foreign(stat.S_IMODE(facts.st_mode), facts.st_uid, os.geteuid(), path, image)
