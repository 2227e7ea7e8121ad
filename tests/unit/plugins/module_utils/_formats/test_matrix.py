"""The feature matrix as plain data."""

from __future__ import annotations

import json

from ansible_collections.platter.qemu.plugins.module_utils._formats.matrix import feature_matrix
from ansible_collections.platter.qemu.plugins.module_utils._formats.registry import FORMAT_NAMES


def test_every_format_has_a_row_of_plain_data() -> None:
    matrix = feature_matrix()
    assert tuple(matrix) == FORMAT_NAMES
    assert json.loads(json.dumps(matrix)) == matrix


def test_a_row_answers_what_a_format_can() -> None:
    qcow2, vdi = feature_matrix()["qcow2"], feature_matrix()["vdi"]
    assert qcow2["compression"] and qcow2["internal_snapshots"] and "compat" in qcow2["amend"]
    assert not vdi["compression"] and not vdi["backing"] and vdi["check"]
    assert qcow2["options"]["compat"]["choices"] == ["0.10", "1.1"]
    assert "backing_file" not in qcow2["options"], "not an option for the user"


def test_formats_that_the_installed_qemu_lacks_are_marked() -> None:
    assert {row["installed"] for row in feature_matrix().values()} == {None}
    installed = {name for name, row in feature_matrix(["raw", "qcow2", "nbd"]).items() if row["installed"]}
    assert installed == {"raw", "qcow2"}
