"""Check that the documentation builds without warnings, and that its pages fetch nothing."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
pytestmark = pytest.mark.slow
# What a browser fetches by itself, as opposed to links that a reader follows.
FETCHED = re.compile(
    r"<(?:script|img|iframe|source)[^>]*\ssrc=\"([^\"]*)|<link[^>]*\shref=\"([^\"]*)"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def test_pages_fetch_nothing_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        for found in FETCHED.findall(page.read_text(encoding="utf-8")):
            assert not "".join(found).startswith(("http:", "https:", "//")), (page, found)
    for sheet in site.rglob("*.css"):
        assert not re.search(r"@import|url\(['\"]?(https?:)?//", sheet.read_text("utf-8")), sheet


def test_public_names_can_be_linked_to(site):
    page = (site / "api" / "prune.html").read_text(encoding="utf-8")
    assert 'id="keras_dfprune.apply"' in page
    text = re.sub(r"<[^>]+>", "", page)  # code is coloured word by word
    for part in ("max_params", "ValueError", "pruned.layers[0].units"):
        assert part in text
