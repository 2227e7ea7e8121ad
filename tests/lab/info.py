"""disk_image_info in this process; unlike C(modules.call) it can be asked for a check."""

from __future__ import annotations

import contextlib
import io
import json
import typing as t

from ansible.module_utils.testing import patch_module_args

from ansible_collections.platter.qemu.plugins.modules import disk_image_info

Facts = t.Dict[str, t.Any]


def ask(**options: t.Any) -> Facts:
    """The whole result; it must not have failed."""
    printed = io.StringIO()
    with patch_module_args(options), contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        disk_image_info.main()
    result = dict(json.loads(printed.getvalue().splitlines()[-1]))
    assert not result.get("failed"), result
    assert result["changed"] is False
    return result


def facts(*paths: object, **options: t.Any) -> list[Facts]:
    """Of each of C(paths) in their order."""
    images = ask(paths=[each if isinstance(each, dict) else str(each) for each in paths], **options)["images"]
    assert [each["path"] for each in images] == [str(each) for each in paths if not isinstance(each, dict)] or any(
        isinstance(each, dict) for each in paths
    )
    return list(images)


def fact(path: object, **options: t.Any) -> Facts:
    """Of one image."""
    (found,) = facts(path, **options)
    return found
