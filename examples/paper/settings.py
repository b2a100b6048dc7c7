"""What the command line says into what the scripts are given."""

import dataclasses
import pathlib

SEEDS = (0, 1, 2)  # three trained models are the fewest that have a spread worth showing


@dataclasses.dataclass(frozen=True)
class Settings:
    """What one run is made with.

    Attributes:
        output: Folder for the pictures and the CSV files.
        quick: Whether to run on less: few weights, few seeds, no data set to fetch.
        data_dir: TFDS folder, or None for TFDS' own default.
        cache: Folder of the trained models.
        seeds: Seeds of the trained models.
        spambase: File `spambase.data` of the UCI repository, or None.
        weights: File with the weights of AlexNet, or None.
        imagenet: TFDS folder with ImageNet, or None.
    """

    output: pathlib.Path
    quick: bool = False
    data_dir: str | None = None
    cache: pathlib.Path = pathlib.Path("trained")
    seeds: tuple[int, ...] = SEEDS
    spambase: pathlib.Path | None = None
    weights: pathlib.Path | None = None
    imagenet: str | None = None
