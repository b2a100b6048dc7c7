"""Make inputs of `real_networks` as the packages that carry the networks prepare them.

Where a package carries measured or recorded examples, the inputs are drawn from them.
"""

import io
import itertools
import re
import zipfile
from collections.abc import Callable, Sequence

import keras
import numpy as np

from benchmarks.archives import Archives

InputMaker = Callable[[Archives, int, np.random.Generator], np.ndarray | dict[str, np.ndarray]]

DEEPGLOW = "DeepGlow==1.1.0"
WALLS = "wall-ml-prediction==1.0.1"
FACES = "scikit-image==0.25.2"
PEPTIDES = "im2deep==0.3.1"
BINDING = "mhcnuggets==2.4.1"
DOMAINS = "dgaintel==2.3"


def uniform(*bounds: tuple[float, float]) -> InputMaker:
    """Return a maker of tables whose columns are uniform between bounds."""

    def make(archives: Archives, rows: int, generator: np.random.Generator) -> np.ndarray:
        del archives
        low, high = np.transpose(bounds)
        return generator.uniform(low, high, (rows, len(bounds))).astype(np.float32)

    return make


def afterglows(archives: Archives, rows: int, generator: np.random.Generator) -> np.ndarray:
    """Draw DeepGlow's parameters: bursts that are seen from inside their jets."""
    scales = np.loadtxt(io.BytesIO(archives.read(DEEPGLOW, "data/scale_facs_ism_final.csv")))
    # Logarithms of energy, observer's angle (added below), jet's angle and density; the electrons'
    # index; logarithms of two shares of the energy and of the frequency.
    drawn = uniform((51, 55), (-1, 0), (-1.5, -0.3), (-4, 2), (2.1, 2.9), (-4, -0.5), (-6, -0.5))
    columns = drawn(archives, rows, generator)
    columns[:, 1] += columns[:, 2]
    columns = np.column_stack([columns, generator.uniform(9, 18, rows)])
    return ((columns - scales[:16:2]) / scales[1:16:2]).astype(np.float32)


def walls(archives: Archives, rows: int, generator: np.random.Generator) -> np.ndarray:
    """Draw buildings and earthquakes with the medians and spread that the package scales away.

    The logarithms are normal, and correlated as in the 30 examples that the package carries.
    """
    workbook = zipfile.ZipFile(io.BytesIO(archives.read(WALLS, "Example.xlsx")))
    cells = re.findall(rb"<v>([^<]*)</v>", workbook.read("xl/worksheets/sheet1.xml"))
    # Two targets, then the features; the first row holds references to the columns' names.
    examples = np.reshape(np.array(cells, float), (-1, 10))[1:, 2:]
    # Medians and interquartile ranges of the training data, from the package's scalers.
    medians = [0.08577886, 0.83, 27.51, 6.96, 6.29953939, 0.14480617, 0.35091955, 0.03451114]
    ranges = [0.10170967, 0.91, 20.65, 5.3479014, 5.35448277, 0.50985039, 0.6504435, 0.06453845]
    correlations = np.corrcoef(np.log(examples), rowvar=False)
    normal = generator.multivariate_normal(np.zeros(8), correlations, rows)
    spread = np.arcsinh(np.divide(ranges, medians) / 2) / 0.6745
    columns = medians * np.exp(spread * np.clip(normal, -2, 2))
    return ((columns - medians) / ranges).astype(np.float32)


def waves(archives: Archives, rows: int, generator: np.random.Generator) -> np.ndarray:
    """Draw mass ratios and spins of black holes, and the polynomials that mlgw makes of them."""
    drawn = uniform((1, 10), (-0.9, 0.9), (-0.9, 0.9))(archives, rows, generator)
    ratio, first, second = drawn.T
    symmetric = ratio / (1 + ratio) ** 2
    features = [(ratio * first + second) / (1 + ratio), symmetric, np.log(ratio), symmetric**0.6]
    pairs = [a * b for a, b in itertools.combinations_with_replacement(features, 2)]
    return np.column_stack([drawn, *features, *pairs]).astype(np.float32)


def faces(archives: Archives, rows: int, generator: np.random.Generator, size: int) -> np.ndarray:
    """Draw from 100 real grey faces, some mirrored, in varied light."""
    return _images(archives, rows, generator, size, shown=100)


def detections(archives: Archives, rows: int, generator: np.random.Generator) -> np.ndarray:
    """Draw from 100 faces and 100 other images, with rows and columns swapped as mtcnn does."""
    grey = _images(archives, rows, generator, size=48, shown=200)
    return np.repeat(grey.transpose(0, 2, 1, 3), 3, axis=-1)


def _images(
    archives: Archives, rows: int, generator: np.random.Generator, size: int, shown: int
) -> np.ndarray:
    content = archives.read(FACES, "skimage/data/lfw_subset.npy")
    images = np.load(io.BytesIO(content))[:shown, ..., None].astype(np.float32)
    images = keras.ops.convert_to_numpy(keras.ops.image.resize(images, (size, size)))
    images = images[generator.integers(len(images), size=rows)]
    mirrored = generator.random(rows) < 0.5
    images[mirrored] = images[mirrored, :, ::-1]
    light = generator.uniform(0.7, 1.3, (rows, 1, 1, 1)).astype(np.float32)
    return np.clip(images * light, 0.0, 1.0) * 2.0 - 1.0


def genes(archives: Archives, rows: int, generator: np.random.Generator) -> np.ndarray:
    """Draw one-hot DNA of 10,400 letters, with an exon among the 400 in the middle.

    Introns begin with GTRAGT and end with pyrimidines and CAG. The letters of exons are half G
    and C, those of introns two fifths.
    """
    del archives

    def letters(length: int, shares: Sequence[float]) -> str:
        return "".join(generator.choice(list("ACGT"), size=length, p=shares))

    def intron(length: int) -> str:
        inside = letters(length, [0.3, 0.2, 0.2, 0.3]) + "TACTAAC" + letters(15, [0.25] * 4)
        return f"GT{'AG'[generator.integers(2)]}AGT{inside}{letters(15, [0, 0.4, 0, 0.6])}CAG"

    def exon(length: int) -> str:
        return "G" + letters(length, [0.25] * 4) + "CAG"

    codes = []
    for _ in range(rows):
        before, after = "", exon(generator.integers(80, 160))
        while len(before) < 5150:
            before = (
                exon(generator.integers(80, 220)) + intron(generator.integers(300, 3000)) + before
            )
        while len(after) < 5250:
            after += intron(generator.integers(300, 3000)) + exon(generator.integers(80, 220))
        codes.append(["ACGT".index(letter) for letter in before[-5150:] + after[:5250]])
    return np.eye(4, dtype=np.float32)[np.array(codes)]


def domains(archives: Archives, rows: int, generator: np.random.Generator) -> np.ndarray:
    """Draw domain names: half of the package's README's words, half of random letters."""
    text = archives.read(DOMAINS, "README.md").decode().lower()
    words = sorted(set(re.findall(r"\b[a-z]{4,9}\b", text)))
    codes = np.zeros((rows, 82), np.float32)
    for row in codes:
        if generator.random() < 0.5:
            name = "".join(generator.choice(words, size=generator.integers(1, 3)))
        else:
            name = "".join(generator.choice(list(ALPHABET[13:]), size=generator.integers(9, 25)))
        name += generator.choice([".com", ".net", ".org", ".info", ".ru"])
        row[: len(name)] = [ALPHABET.index(letter) for letter in name]
    return codes


ALPHABET = "-.0123456789_abcdefghijklmnopqrstuvwxyz"


def binding(archives: Archives, rows: int, generator: np.random.Generator) -> np.ndarray:
    """Draw peptides whose binding to HLA-A*02:01 was measured, as softened one-hot codes."""
    table = archives.read(BINDING, "production/mhcI/curated_training_data.csv").decode()
    measured = re.findall(r"^HLA-A\*02:01,([ACDEFGHIKLMNPQRSTVWY]{8,15}),", table, re.MULTILINE)
    codes = np.full((rows, 15, 21), MASK, np.float32)
    for row, index in zip(codes, generator.integers(len(measured), size=rows), strict=True):
        for place, letter in enumerate(measured[index]):
            row[place] = 0.1 / 20
            row[place, "ACDEFGHIKLMNPQRSTVWYX".index(letter)] = 0.9
    return codes


MASK = -4_200_000.0


def peptides(
    archives: Archives, rows: int, generator: np.random.Generator
) -> dict[str, np.ndarray]:
    """Draw peptides whose cross section was measured, as counts of atoms and one-hot codes."""
    table = zipfile.ZipFile(io.BytesIO(archives.read(PEPTIDES, "reference_ccs.zip")))
    lines = table.read("reference_ccs").decode().splitlines()[1:]
    atoms = np.zeros((rows, 60, 6), np.float32)
    onehot = np.zeros((rows, 60, 20), np.float32)
    overall = np.zeros((rows, 60), np.float32)
    done = 0
    while done < rows:
        line = lines[generator.integers(len(lines))]
        found = re.fullmatch(r"((?:[A-Z](?:\[Oxidation\]|\[Carbamidomethyl\])?)+)/(\d),.*", line)
        residues = re.findall(r"([A-Z])(\[.)?", found[1]) if found else []
        letters = "".join(letter for letter, _ in residues)
        if not 7 <= len(letters) <= 60 or set(letters) - set(ATOMS):
            continue
        counts = [np.add(ATOMS[letter], CHANGES[change]) for letter, change in residues]
        atoms[done, : len(letters)] = counts
        onehot[done, range(len(letters)), [list(ATOMS).index(letter) for letter in letters]] = 1
        shares = [
            sum(map(letters.count, group)) / len(letters) for group in ("H", "FWY", "DE", "KR")
        ]
        ends = np.ravel([*counts[:4], *counts[-4:]])
        overall[done] = [*np.sum(counts, 0), len(letters), *shares, int(found[2]), *ends]
        done += 1
    pairs = atoms.reshape(rows, 30, 2, 6).sum(2)
    names = ("input_layer", "input_layer_1", "input_layer_2", "input_layer_3")
    return dict(zip(names, (atoms, pairs, overall, onehot), strict=True))


# Atoms of C, H, N, O, S and P in the residue of each amino acid, in the order of the one-hot code.
ATOMS = {
    "K": (6, 12, 2, 1, 0, 0),
    "R": (6, 12, 4, 1, 0, 0),
    "P": (5, 7, 1, 1, 0, 0),
    "T": (4, 7, 1, 2, 0, 0),
    "N": (4, 6, 2, 2, 0, 0),
    "A": (3, 5, 1, 1, 0, 0),
    "Q": (5, 8, 2, 2, 0, 0),
    "V": (5, 9, 1, 1, 0, 0),
    "S": (3, 5, 1, 2, 0, 0),
    "G": (2, 3, 1, 1, 0, 0),
    "I": (6, 11, 1, 1, 0, 0),
    "L": (6, 11, 1, 1, 0, 0),
    "C": (3, 5, 1, 1, 1, 0),
    "M": (5, 9, 1, 1, 1, 0),
    "H": (6, 7, 3, 1, 0, 0),
    "F": (9, 9, 1, 1, 0, 0),
    "Y": (9, 9, 1, 2, 0, 0),
    "W": (11, 10, 2, 1, 0, 0),
    "E": (5, 7, 1, 3, 0, 0),
    "D": (4, 5, 1, 3, 0, 0),
}
CHANGES = {"": (0,) * 6, "[O": (0, 0, 0, 1, 0, 0), "[C": (2, 3, 1, 1, 0, 0)}
