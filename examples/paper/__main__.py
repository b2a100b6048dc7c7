"""Reproduce the figures and tables of the paper.

`python -m examples.paper list | run NAME ... | all` from the repository root.
"""

import argparse
import importlib
import os
import pathlib
import time

from examples.paper.settings import SEEDS, Settings

# Module and title by name. A module, and TensorFlow with it, is only loaded when it is run.
SCRIPTS = {
    "figure1": ("figure1", "the toy example: two equal weight-sets"),
    "links": ("links", "Lemma 1, and Optimal Brain Damage as a special case"),
    "figure2": ("figure2", "saliency curve and test error; histogram of the saliencies"),
    "figure3": ("figure3", "Saliency, Optimal Brain Damage and Optimal Brain Surgeon"),
    "figure4": ("figure4", "with and without the surgery"),
    "table1": ("table1", "LeNet-5 on MNIST"),
    "table1-more": ("table1_more", "table 1 with Fashion-MNIST and LeNet-300-100"),
    "table2": ("table2", "AlexNet's fc6 and fc7 at full size"),
    "table2-small": ("table2_small", "AlexNet's shape, small, on Fashion-MNIST"),
}


def main(argv: list[str] | None = None) -> None:
    options = _parser().parse_args(argv)
    if options.command == "list":
        for name, (_, title) in SCRIPTS.items():
            print(f"{name:16} {title}")
        return
    settings = Settings(
        output=options.output,
        quick=options.quick,
        data_dir=options.data_dir,
        cache=options.cache,
        seeds=tuple(range(options.models)),
        spambase=options.spambase,
        weights=options.weights,
        imagenet=options.imagenet,
    )
    settings.output.mkdir(parents=True, exist_ok=True)
    names = list(SCRIPTS) if options.command == "all" else list(dict.fromkeys(options.names))
    for name in names:
        module, title = SCRIPTS[name]
        print(f"== {name}: {title}", flush=True)
        start = time.monotonic()
        importlib.import_module(f"examples.paper.{module}").run(settings)
        print(f"== {name}: {time.monotonic() - start:.0f} s", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m examples.paper", description=__doc__.splitlines()[0]
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="list the names")
    for command, text in (("run", "run the named scripts"), ("all", "run all scripts")):
        sub = commands.add_parser(command, help=text)
        if command == "run":
            sub.add_argument("names", nargs="+", choices=SCRIPTS, metavar="NAME")
        _add_options(sub)
    return parser


def _add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--output",
        type=pathlib.Path,
        default=pathlib.Path("results/paper"),
        help="folder of the results",
    )
    add("--quick", action="store_true", help="a small run of seconds, to try the scripts")
    add("--data-dir", default=os.environ.get("TFDS_DATA_DIR"), help="TFDS folder")
    add(
        "--cache",
        type=pathlib.Path,
        default=pathlib.Path("trained"),
        help="folder of trained models",
    )
    add("--models", type=int, default=len(SEEDS), help="models to train, seeds 0, 1, ...")
    add("--spambase", type=pathlib.Path, help="spambase.data of the UCI repository, for figure3")
    add("--weights", type=pathlib.Path, help="AlexNet's weights (.npz), for table2")
    add("--imagenet", help="TFDS folder with imagenet2012, for table2")


if __name__ == "__main__":
    main()
