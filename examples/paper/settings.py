"""Define the settings that the command line passes to every script."""

import dataclasses
import pathlib

SEEDS = (0, 1, 2)  # three trained models: the fewest whose spread is worth showing


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of a run.

    Attributes:
        output: Folder of the pictures and CSV files.
        quick: Whether to run small: few weights and points, and data that come with scikit-learn.
        data_dir: TFDS folder; default: the environment variable TFDS_DATA_DIR.
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
