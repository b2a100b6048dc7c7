"""The arguments of the command `keras-dfprune`: strings into a namespace."""

import argparse
import importlib.metadata
from typing import Any, NoReturn

EPILOG = """\
examples:
  keras-dfprune inspect model.keras
      what the automatic cut-off would remove, layer by layer, and what can't be pruned
  keras-dfprune prune model.keras -o pruned.keras
      prune with the automatic cut-off
  keras-dfprune prune model.keras -o pruned.tflite --sparsity 0.5 --quantize dynamic
      half of the units of every prunable layer, then int8 weights
  keras-dfprune prune model.keras -o saved_model --sparsity fc1=0.8 --sparsity fc2=0.25
      layers by name; those not named stay whole; OUT without a suffix is a SavedModel folder
  keras-dfprune prune model.h5 -o small.keras --max-params 100000 --plot curve.png
      a budget for the whole model; draw the saliency curve
  keras-dfprune demo
      train and prune a small net on real data, no download
"""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage that argparse puts in front."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def build_parser() -> argparse.ArgumentParser:
    """The parser of the command; a parsed `command` says which one it is."""
    parser = _Parser(
        prog="keras-dfprune",
        description="Prunes a trained Keras model without data: narrower layers, nothing else "
        "changed.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    version = importlib.metadata.version("keras_dfprune")
    parser.add_argument("--version", action="version", version=f"keras-dfprune {version}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_inspect(commands)
    _add_prune(commands)
    _add_demo(commands)
    for command in commands.choices.values():
        command.add_argument(
            "-v",
            "--verbose",
            action="store_const",
            const=1,
            default=0,
            help="show progress, and TensorFlow's own messages",
        )
    return parser


def _add_inspect(commands: Any) -> None:
    parser = commands.add_parser(
        "inspect",
        help="show what would be removed, and what can't be pruned",
        description="Prints the plan for MODEL (layer, units before and after, parameters) and "
        "the layers that can't be pruned, with the reason. Writes nothing.",
    )
    _add_plan_options(parser)


def _add_prune(commands: Any) -> None:
    parser = commands.add_parser(
        "prune",
        help="write the pruned model to a file",
        description="Prunes MODEL and writes the result to OUT, in the format that OUT's suffix "
        "says.",
    )
    _add_plan_options(parser)
    parser.add_argument(
        "-o",
        "--out",
        required=True,
        metavar="OUT",
        help="ends in .keras, .tflite or .onnx, or is a folder (SavedModel)",
    )
    parser.add_argument(
        "--quantize", choices=("dynamic", "float16"), help="for .tflite: store smaller weights"
    )
    parser.add_argument(
        "--no-verify",
        dest="verify",
        action="store_false",
        help="don't compare the result with the original",
    )
    parser.add_argument("--plot", metavar="FILE", help="draw the saliency curve (needs matplotlib)")
    parser.add_argument("--save-plan", metavar="FILE", help="keep the plan (.npz)")


def _add_demo(commands: Any) -> None:
    parser = commands.add_parser(
        "demo",
        help="train and prune a small net on embedded data",
        description="Trains a 64-256-256-10 net on scikit-learn's digits, prunes it in several "
        "ways, prints accuracy and sizes, and writes the automatically pruned net.",
    )
    parser.add_argument("--output", default="results", metavar="DIR", help="default: results")
    parser.add_argument("--quick", action="store_true", help="a shorter, worse training")


def _add_plan_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a .keras or .h5 file")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument(
        "--sparsity",
        action="append",
        metavar="[NAME=]F",
        help="fraction of the units to remove, in [0, 1); NAME=F for one layer, repeatable",
    )
    budget.add_argument(
        "--max-params", type=int, metavar="N", help="largest number of parameters of the result"
    )
    budget.add_argument(
        "--tolerance",
        type=float,
        metavar="F",
        help="largest predicted relative error per group; 0: lossless removals only",
    )
    parser.add_argument(
        "--method",
        choices=("saliency", "moments"),
        default="saliency",
        help="how units are chosen and replaced (default: saliency)",
    )
    parser.add_argument(
        "--layers",
        nargs="+",
        action="extend",
        metavar="NAME",
        help="prune these layers only (after MODEL, or before another option)",
    )
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
