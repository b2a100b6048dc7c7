"""Damage the files that the package reads, and look what comes of it.

`python -m tests.faults.corrupt_files 0 1000` reads every kind of file with the damage of each of
these seeds, in a process of its own, and prints what came out. A process that ends or takes longer
than a minute for a file is a failure; so is a wrong answer from a file that has check sums.
"""

import collections
import dataclasses
import pathlib
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

PATIENCE = 60  # seconds for one file
NAMES = [
    "plan.npz", "search.json", "refine.npz", "rounds", "models", "model.keras", "model.h5",
    "rows.npz", "rows.npy", "rows.csv",
]  # fmt: skip


def damaged(content: bytes, seed: int) -> bytes:
    """Cut a file short, flip bits, overwrite, remove or double a part of it, or replace it all."""
    random = np.random.default_rng(seed)
    length = len(content)
    start = int(random.integers(length))
    stop = min(length, start + int(random.integers(1, 65)))
    changed = bytearray(content)
    how = seed % 7
    if how == 0:
        return content[:start]
    if how == 1:
        changed[start] ^= 1 << int(random.integers(8))
    elif how == 2:
        for position in random.integers(length, size=8):
            changed[position] ^= 1 << int(random.integers(8))
    elif how == 3:
        changed[start:stop] = random.bytes(stop - start)
    elif how == 4:
        changed[start:stop] = b""
    elif how == 5:
        changed[start:start] = content[start:stop]
    else:
        return content[: min(4, start)] + random.bytes(length)
    return bytes(changed)


@dataclasses.dataclass(frozen=True)
class Kind:
    """Kind of file.

    Attributes:
        write: Writes a file at a path.
        read: Reads it, and returns what can be compared.
        checked: Whether the format has check sums, so that another answer is a fault.
        file: The file to damage, where a folder is written.
    """

    write: Callable[[pathlib.Path], None]
    read: Callable[[pathlib.Path], Any]
    checked: bool = True
    file: str = ""


def kinds() -> dict[str, Kind]:
    """Return the kinds of files by name; the suffix of a name counts."""
    import keras

    from keras_dfprune.api.prune_and_train import _Rounds
    from keras_dfprune.api.trial_file import TrialFile
    from keras_dfprune.cli.load_model import load_model
    from keras_dfprune.cli.rows_file import read_rows_file
    from tests.support.writers import WRITERS, X, model_of

    of = {writer.name: writer for writer in WRITERS}
    settings: dict[str, Any] = {}

    def of_model(model: keras.Model) -> Any:
        return model.to_json(), [weight.tolist() for weight in model.get_weights()]

    def rounds(folder: pathlib.Path) -> Any:
        if not settings:  # The file is sound when it is read first.
            settings.update(of["rounds"].read(folder)[0])
            settings.pop("done")
        return of_model(_Rounds(folder, settings).load(model_of(False))[1])

    def rows(path: pathlib.Path) -> Any:
        found = read_rows_file(path)
        return {k: v.tolist() for k, v in found.items()} if isinstance(found, dict) else found.size

    def npz(path: pathlib.Path) -> None:
        np.savez(path, x=X, labels=np.arange(16))

    return {
        "plan.npz": Kind(lambda path: of["plan.npz"].write(path, True), of["plan.npz"].read),
        "search.json": Kind(search_twice, lambda path: vars(TrialFile(path))),
        "refine.npz": Kind(lambda path: of["refine.npz"].write(path, True), of["refine.npz"].read),
        "rounds": Kind(lambda path: of["rounds"].write(path, True), rounds, True, "rounds.json"),
        "models": Kind(lambda path: of["rounds"].write(path, True), rounds, True, "round2.keras"),
        "model.keras": Kind(model_of(True).save, lambda path: of_model(load_model(str(path)))),
        "model.h5": Kind(model_of(True).save, lambda path: of_model(load_model(str(path))), False),
        "rows.npz": Kind(npz, rows),
        "rows.npy": Kind(lambda path: np.save(path, X), rows, False),
        "rows.csv": Kind(lambda path: np.savetxt(path, X, delimiter=","), rows, False),
    }


SOUND: dict[str, pathlib.Path] = {}


def search_twice(path: pathlib.Path) -> None:
    """Write the checkpoint of a search that went on once."""
    from tests.support.writers import search

    search(path, False)
    search(path, True)


class Reader:
    """Reads damaged files in a folder.

    Args:
        folder: An empty folder.
        names: Kinds to read; None for all.
    """

    def __init__(self, folder: pathlib.Path, names: list[str] | None = None):
        self.folder = folder
        self.kinds = {name: kind for name, kind in kinds().items() if not names or name in names}
        self.expected = {}
        for name, kind in self.kinds.items():
            SOUND[name] = folder / name
            kind.write(SOUND[name])
        for name, kind in self.kinds.items():
            self.expected[name] = self._plain(kind.read(SOUND[name]), name)

    def _plain(self, value: Any, name: str) -> str:
        return repr(value).replace(str(SOUND[name]), "PATH")

    def outcome(self, name: str, seed: int) -> str:
        """Return `"right"`, `"error"`, `"another answer"`, or `"FAULT ..."`."""
        kind, sound = self.kinds[name], SOUND[name] / self.kinds[name].file
        content = sound.read_bytes()
        path = SOUND[name]
        try:
            sound.write_bytes(damaged(content, seed))
            answer = self._plain(kind.read(path), name)
        except Exception as error:
            expected = type(error).__name__ in ("ValueError", "CommandError", "OSError")
            return "error" if expected else f"FAULT {type(error).__name__}: {error}"
        finally:
            sound.write_bytes(content)
        if answer == self.expected[name]:
            return "right"
        return "FAULT another answer" if kind.checked else "another answer"


def work(first: int, last: int, names: list[str]) -> None:
    """Read files and print a line before and after each."""
    with tempfile.TemporaryDirectory() as folder:
        reader = Reader(pathlib.Path(folder), names)
        for seed in range(first, last):
            for name in reader.kinds:
                print("reads", seed, name, flush=True)
                print("done", reader.outcome(name, seed).replace("\n", " "), flush=True)


def main(first: int, last: int, names: list[str]) -> int:
    """Read all files, beginning anew behind each that ends the process or hangs."""
    counts: collections.Counter = collections.Counter()
    faults = []
    for name in names or NAMES:
        seed = first
        while seed < last:
            seed = _run(seed, last, name, counts, faults)
        print(name, {what: n for (kind, what), n in counts.items() if kind == name}, flush=True)
    print(*faults, sep="\n")
    print(f"{sum(counts.values())} files, {len(faults)} faults")
    return bool(faults)


def _run(first: int, last: int, name: str, counts: collections.Counter, faults: list) -> int:
    """Read files in one process; return the seed behind the last that was read."""
    command = [sys.executable, "-m", __spec__.name, "--work", str(first), str(last), name]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    seed = first - 1
    timer = threading.Timer(PATIENCE * 3, process.kill)  # the first has to import TensorFlow
    timer.start()
    assert process.stdout is not None
    for line in process.stdout:
        timer.cancel()
        word, *rest = line.split(maxsplit=1)
        if word == "reads":
            seed = int(rest[0].split()[0])
            timer = threading.Timer(PATIENCE, process.kill)
            timer.start()
        elif word == "done":
            outcome = rest[0].strip()
            counts[name, outcome.split(":")[0]] += 1
            if outcome.startswith("FAULT"):
                faults.append(f"{name} {seed}: {outcome}")
    timer.cancel()
    if process.wait():
        counts[name, "FAULT ended"] += 1
        faults.append(f"{name} {seed}: the process ended with {process.returncode}")
        return max(seed, first) + 1
    return last


if __name__ == "__main__":
    if sys.argv[1] == "--work":
        work(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
    else:
        sys.exit(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
