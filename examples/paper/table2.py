"""Write Table 2: time, memory and parameters of pruning AlexNet's fc6 and fc7 at full size.

The paper removes 35 % of all 61 million parameters. With `--weights FILE` the trained network is
pruned, and with `--imagenet DIR` the table shows its errors on the validation images. Without
weights the dense layers are random.
"""

import resource
import time

import keras

import keras_dfprune as dfprune
from examples.paper.alexnet import CONVOLUTIONS, alexnet, head, imagenet, load_weights, top_errors
from examples.paper.results import write_table
from examples.paper.settings import Settings

_QUICK = 16  # divisor of every width with `--quick`
_SHARE = 0.35


def run(settings: Settings) -> list[list]:
    """Prune four selections of units, write `table2.csv` and return its rows."""
    keras.utils.set_random_seed(0)
    divide = _QUICK if settings.quick else 1
    if settings.weights is None:
        model, convolutions = head(divide), 0 if settings.quick else CONVOLUTIONS
    else:
        model, convolutions = alexnet(divide), 0  # it contains them
        load_weights(model, settings.weights)
    total = model.count_params() + convolutions
    budget = int((1 - _SHARE) * total) - convolutions
    selections: list[tuple[str, dict]] = [
        ("half of fc6", {"sparsity": {"fc6": 0.5}}),
        ("half of fc7", {"sparsity": {"fc7": 0.5}}),
        ("half of both", {"sparsity": {"fc6": 0.5, "fc7": 0.5}}),
        (f"{_SHARE:.0%} of all parameters", {"max_params": budget, "layers": ["fc6", "fc7"]}),
    ]
    rows, narrow = [["whole", *_widths(model), f"{total:,}", "0.0", "", "", _peak()]], [model]
    for label, arguments in selections:
        start = time.process_time()
        plan = dfprune.plan(model, method="saliency", **arguments)
        planned = time.process_time()
        pruned = plan.apply(model)
        times = (f"{planned - start:.1f}", f"{time.process_time() - planned:.1f}")
        left = pruned.count_params() + convolutions
        removed = f"{100 * (1 - left / total):.1f}"
        rows.append([label, *_widths(pruned), f"{left:,}", removed, *times, _peak()])
        print(f"{label}: {sum(map(float, times)):.0f} s of CPU time", flush=True)
        if settings.imagenet is not None:
            narrow.append(pruned)
    header = ["removed", "fc6", "fc7", "parameters of AlexNet", "removed [%]"]
    header += ["plan [CPU s]", "cut and verify [CPU s]", "peak memory so far [MB]"]
    if settings.imagenet is not None:
        header += ["top-1 error [%]", "top-5 error [%]"]
        images = 4 if settings.quick else None
        for row, errors in zip(rows, top_errors(narrow, imagenet(settings.imagenet, images)),
                               strict=True):  # fmt: skip
            row += [f"{error:.2f}" for error in errors]
    write_table(settings.output / "table2.csv", header, rows)
    return rows


def _widths(model: keras.Model) -> list[int]:
    return [model.get_layer(name).units for name in ("fc6", "fc7")]


def _peak() -> str:
    """Return the peak resident memory of this process, in megabytes."""
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f}"
