"""Write JSON files with a digest of their content, so that damage is noticed."""

import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from keras_dfprune.report.staging import written


def write_sealed(path: pathlib.Path, content: Mapping[str, Any]) -> None:
    """Write a file, whole or not at all.

    Args:
        path: The file.
        content: JSON values by name.
    """
    with written(path) as staged:
        staged.write_text(json.dumps({"digest": _digest(content), "content": content}))


def read_sealed(path: pathlib.Path) -> dict[str, Any]:
    """Read a file that `write_sealed` wrote.

    Args:
        path: The file.

    Raises:
        OSError: If it can't be opened.
        ValueError: If it is another file, or is damaged.
    """
    text = path.read_bytes()
    try:
        read = json.loads(text)
        content, digest = dict(read["content"]), read["digest"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError("it is another file, or is cut short") from error
    if digest != _digest(content):
        raise ValueError("its content has changed since it was written")
    return content


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
