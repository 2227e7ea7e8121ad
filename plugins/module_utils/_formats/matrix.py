# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""The feature matrix as plain data: what can be done with each format, for results, documentation and templates."""

from __future__ import annotations

import typing as t
from dataclasses import asdict

from ansible_collections.platter.qemu.plugins.module_utils._formats import options
from ansible_collections.platter.qemu.plugins.module_utils._formats.features import FEATURES, Features


def feature_matrix(installed: t.Collection[str] | None = None) -> dict[str, dict[str, t.Any]]:
    """Format name -> what QEMU can do with it.

    C(installed): the formats that the installed QEMU has, as distributions leave some out; None where that is unknown.
    """
    return {name: _row(features, installed) for name, features in FEATURES.items()}


def _row(features: Features, installed: t.Collection[str] | None) -> dict[str, t.Any]:
    row = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(features).items()}
    del row["name"]
    row["amend"] = list(features.amend)
    row["options"] = {option.name: _option(option) for option in features.options if not option.managed}
    row["installed"] = None if installed is None else features.name in installed
    return row


def _option(option: options.CreateOption) -> dict[str, t.Any]:
    return {
        "kind": option.kind,
        "description": option.doc,
        "default": option.default,
        "choices": list(option.choices),
        "reported": option.reported,
        "amendable": option.amendable,
    }
