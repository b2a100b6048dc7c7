"""Parse the arguments of the command `keras-dfprune`."""

import argparse
from typing import Any, NoReturn

import keras_dfprune
from keras_dfprune.cli.messages import COMMAND
from keras_dfprune.cli.options import (
    add_custom_objects,
    add_demo_options,
    add_output_options,
    add_plan_options,
    add_search_options,
)

_EPILOG = """\
examples:
  keras-dfprune prune model.keras -o pruned.keras --max-params 0.5
      halve the number of parameters
  keras-dfprune prune model.keras -o pruned.keras --max-params 0.2 --data rows.npy \
      --refine-steps 1000
      go further with some unlabelled rows, and let the result learn to follow the original
  keras-dfprune inspect model.keras
      show what can go at next to no change, layer by layer, and what can't be pruned
  keras-dfprune prune model.keras -o pruned.tflite --sparsity 0.5 --quantize dynamic
      remove half of the units of every prunable layer, then store int8 weights
  keras-dfprune prune model.keras -o pruned.tflite --max-params 20000 --quantize int8 \
      --representative-data rows.npy --io-dtype int8 --batch-size 1
      write a file for a microcontroller
  keras-dfprune prune model.keras -o pruned.keras --custom-objects layers:MyLayer
      prune a model with a class from layers.py
  keras-dfprune prune model.keras -o saved_model --sparsity fc1=0.8 --sparsity fc2=0.25
      prune two layers and leave the others whole; OUT without a suffix is a SavedModel folder
  keras-dfprune prune model.h5 -o small.keras --method saliency --plot curve.png
      prune with the paper's method and its automatic cut-off, and draw the saliency curves
  keras-dfprune search model.keras -o pruned.keras --evaluate rows.npz --max-drop 0.005
      find the smallest model that loses at most 0.5 points of accuracy
  keras-dfprune prune model.keras -o pruned.tflite --quantize int8 --representative-data \
      rows.npy --max-bytes 100kB
      write a file of at most 100,000 bytes
  keras-dfprune profile pruned.tflite
      show parameters, arithmetic, bytes, memory and time as far as they can be known
  keras-dfprune compare model.keras pruned.tflite --data rows.npz
      show how far the outputs are apart; with labels in the array y, the accuracy, too
  keras-dfprune demo
      train and prune a small net on real data, without a download
"""
_ANY_FILE = "a .keras or .tflite file, or a SavedModel folder"


class _Parser(argparse.ArgumentParser):
    """Parser whose errors are one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def build_parser() -> argparse.ArgumentParser:
    """Build the parser; its namespace names the command as `command`."""
    parser = _Parser(
        prog=COMMAND,
        description="Prune a trained Keras model without data: its layers become narrower, and "
        "nothing else changes.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--version", action="version", version=f"{COMMAND} {keras_dfprune.__version__}"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    inspect = commands.add_parser(
        "inspect",
        help="show what would be removed, and what can't be pruned",
        description="Print the plan for MODEL (layers, units before and after, parameters) and "
        "the layers that can't be pruned, with the reasons. Write nothing.",
    )
    add_plan_options(inspect)
    prune = commands.add_parser(
        "prune",
        help="write the pruned model to a file",
        description="Prune MODEL and write the result to OUT. The suffix of OUT chooses the "
        "format.",
    )
    budget = add_plan_options(prune)
    budget.add_argument(
        "--max-bytes",
        metavar="SIZE",
        help="size of OUT: a fraction of the unpruned model's file, or bytes, such as 100kB",
    )
    budget.add_argument(
        "--plan", metavar="FILE", help="carry out a plan that --save-plan wrote, and nothing else"
    )
    add_output_options(prune)
    search = commands.add_parser(
        "search",
        help="find the smallest model that keeps a score",
        description="Find the smallest form of MODEL whose first compiled metric on labelled rows "
        "stays within a drop, and write it to OUT.",
    )
    add_search_options(search)
    add_output_options(search)
    demo = commands.add_parser(
        "demo",
        help="train and prune a small net on data that comes with scikit-learn",
        description="Train a net of 64-256-256-10 units on scikit-learn's digits, prune it in "
        "several ways, print accuracies and sizes, and write the net of half the size.",
    )
    add_demo_options(demo)
    measuring = _add_measuring(commands)
    for command in (inspect, prune, search, demo, *measuring):
        command.add_argument(
            "-v",
            "--verbose",
            action="store_const",
            const=1,
            default=0,
            help="show progress, and TensorFlow's own messages",
        )
    return parser


def _add_measuring(commands: Any) -> list[argparse.ArgumentParser]:
    """Add the commands that measure model files, and return their parsers."""
    profile = commands.add_parser(
        "profile",
        help="show what a model file costs",
        description="Print the parameters, multiply-adds, bytes, peak activation memory and "
        "LiteRT latency of FILE, as far as they can be known.",
    )
    profile.add_argument("file", metavar="FILE", help=_ANY_FILE)
    profile.add_argument(
        "--latency",
        action="store_true",
        default=None,
        help="convert a .keras file to LiteRT and time it, too; .tflite files always are",
    )
    compare = commands.add_parser(
        "compare",
        help="show how far the outputs of two model files are apart",
        description="Run A and B on the same rows; print the differences of their outputs, and "
        "both sizes.",
    )
    compare.add_argument("before", metavar="A", help=_ANY_FILE)
    compare.add_argument("after", metavar="B", help="the same; with the inputs and outputs of A")
    compare.add_argument(
        "--data",
        required=True,
        metavar="FILE",
        help="rows of the inputs: .npy, .csv, or .npz with an array for each input by its name, "
        "and perhaps labels as y or labels",
    )
    for parser in (profile, compare):
        add_custom_objects(parser)
        parser.add_argument("--json", action="store_true", help="print JSON in place of a table")
    return [profile, compare]
