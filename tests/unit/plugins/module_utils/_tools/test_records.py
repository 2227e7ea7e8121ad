"""What others write where we remember things is not believed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._tools import records


@pytest.mark.parametrize(
    "record",
    [
        {"source": {"digest": 5}},
        {"source": {"etag": True}},
        {"base": {"size": 1, "name": 7}},
        {"source": {"digest": []}},
    ],
)
def test_what_is_of_another_kind_is_not_believed(tmp_path: Path, record: dict[str, Any]) -> None:
    path = tmp_path / "a"
    path.touch()
    os.setxattr(path, records.ATTRIBUTE, json.dumps({**record, "format": "raw"}).encode())
    assert records.read_record(str(path)) == {"format": "raw"}
