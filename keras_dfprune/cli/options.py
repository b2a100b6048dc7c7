"""Declare the options that several commands share."""

import argparse
from typing import Any


def add_custom_objects(parser: argparse.ArgumentParser) -> None:
    """Add the option for classes and functions of the user's own."""
    parser.add_argument(
        "--custom-objects",
        action="append",
        default=[],
        metavar="MODULE:NAME",
        help="class or function that a model file needs, from a module of your own, which is "
        "imported and so run; repeatable",
    )


def add_plan_options(parser: argparse.ArgumentParser) -> Any:
    """Add the options of a plan, and return the group of its budgets."""
    parser.add_argument("model", metavar="MODEL", help="a .keras or .h5 file")
    add_custom_objects(parser)
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument(
        "--sparsity",
        action="append",
        metavar="[NAME=]F",
        help="fraction of the units to remove, in [0, 1); NAME=F for one layer, repeatable",
    )
    budget.add_argument(
        "--max-params",
        metavar="SIZE",
        help="size of the result: a fraction of the model's parameters, such as 0.5 or 50%%, or "
        "their largest number, such as 100k",
    )
    budget.add_argument(
        "--max-flops",
        metavar="SIZE",
        help="multiply-adds of one row, likewise",
    )
    budget.add_argument(
        "--tolerance",
        type=float,
        metavar="F",
        help="largest measured change of an output: squared, over its variance; 0: lossless "
        "removals only",
    )
    add_method_options(parser)
    return budget


def add_search_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a search."""
    parser.add_argument("model", metavar="MODEL", help="a .keras or .h5 file, saved compiled")
    add_custom_objects(parser)
    limit = parser.add_mutually_exclusive_group(required=True)
    limit.add_argument(
        "--max-drop",
        type=float,
        metavar="F",
        help="how much worse than the model's the score may be, such as 0.005",
    )
    limit.add_argument("--min-score", type=float, metavar="F", help="worst score that is allowed")
    parser.add_argument(
        "--objective",
        choices=("params", "flops", "bytes"),
        default="params",
        help="what is made small (default: params)",
    )
    parser.add_argument(
        "--steps", type=int, metavar="N", help="models to score at most (default: 20)"
    )
    parser.add_argument(
        "--checkpoint", metavar="FILE", help="remember every trial, to go on after an interruption"
    )
    add_method_options(parser)


def add_method_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of every way to prune: method, data and layers."""
    parser.add_argument(
        "--method",
        choices=("moments", "saliency"),
        default="moments",
        help="how units are chosen and replaced (default: moments)",
    )
    parser.add_argument(
        "--data",
        metavar="FILE",
        help="unlabelled rows of the inputs, a few dozen or more: .npy, .npz with an array for "
        "each input by its name, or .csv for a single input",
    )
    parser.add_argument(
        "--refine-steps",
        type=int,
        default=0,
        metavar="N",
        help="steps in which the result learns to follow the original (default: 0)",
    )
    parser.add_argument(
        "--layers",
        nargs="+",
        action="extend",
        metavar="NAME",
        help="prune these layers only; put MODEL first, or another option after the names",
    )
    parser.add_argument(
        "--exclude",
        nargs="+",
        action="extend",
        metavar="NAME",
        help="leave these layers whole: names, paths or patterns such as 'block*/conv1'",
    )
    parser.add_argument(
        "--trainable-only", action="store_true", help="leave frozen layers as they are"
    )
    parser.add_argument(
        "--multiple-of",
        type=int,
        default=1,
        metavar="N",
        help="widths that change become multiples of N (default: 1)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of random draws (default: 0)"
    )


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the file to write."""
    parser.add_argument(
        "-o",
        "--out",
        required=True,
        metavar="OUT",
        help="a file that ends in .keras, .tflite or .onnx, or a folder (SavedModel)",
    )
    parser.add_argument("--force", action="store_true", help="replace OUT if it exists")
    parser.add_argument(
        "--evaluate",
        metavar="FILE",
        help="labelled rows, an .npz with the labels as y or labels: show the metrics before and "
        "after; search goes by them",
    )
    parser.add_argument(
        "--quantize",
        choices=("dynamic", "float16", "int8"),
        help="for .tflite: store smaller weights; int8: compute in integers, too",
    )
    parser.add_argument(
        "--representative-data",
        "--representative",
        metavar="FILE",
        help="for --quantize int8: typical inputs, one .npy array or an .npz by input name",
    )
    parser.add_argument(
        "--io-dtype",
        choices=("float32", "int8"),
        default="float32",
        help="for --quantize int8: type of the inputs and outputs (default: float32)",
    )
    parser.add_argument(
        "--batch-size",
        type=int,
        metavar="N",
        help="rows that the file takes at once, so that its shapes are fixed (default: any)",
    )
    parser.add_argument(
        "--no-verify",
        dest="verify",
        action="store_false",
        help="don't compare the result with the original",
    )
    parser.add_argument(
        "--plot", metavar="FILE", help="draw the cost of each removal (needs matplotlib)"
    )
    parser.add_argument("--save-plan", metavar="FILE", help="write the plan (.npz)")
    parser.add_argument(
        "--report", metavar="FILE", help="write a report as one HTML file (needs jinja2)"
    )


def add_demo_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the demo."""
    parser.add_argument(
        "--output", default="results", metavar="DIR", help="folder to write to (default: results)"
    )
    parser.add_argument("--quick", action="store_true", help="train less, for a lower accuracy")
