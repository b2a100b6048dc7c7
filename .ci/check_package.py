"""Check a built package, whose wheel is installed without extras: `check_package.py dist`.

`make release` runs this in an environment that holds the wheel and its requirements alone.
"""

import importlib.metadata
import importlib.util
import os
import pathlib
import subprocess
import sys
import tarfile
import tempfile

dist = pathlib.Path(sys.argv[1]).resolve()
os.environ.update(CUDA_VISIBLE_DEVICES="-1", TF_CPP_MIN_LOG_LEVEL="2")
os.chdir(tempfile.mkdtemp())  # not beside the sources

import keras  # noqa: E402
import numpy as np  # noqa: E402

import keras_dfprune as dfprune  # noqa: E402


def check(holds: object, what: str) -> None:
    """Print what holds, or end with it."""
    if not holds:
        raise SystemExit(f"failed: {what}")
    print(f"ok: {what}")


version = importlib.metadata.version("keras_dfprune")
check(version == dfprune.__version__, f"one version, {version}")
check("site-packages" in dfprune.__file__, "the installed wheel is imported")
extras = ("matplotlib", "jinja2", "tf2onnx", "sklearn", "ai_edge_litert")
check(not any(map(importlib.util.find_spec, extras)), "no extras are installed")

(archive,) = dist.glob(f"*-{version}.tar.gz")
with tarfile.open(archive) as file:
    names = {name.partition("/")[2] for name in file.getnames()}
needed = {
    "docs/index.md", "docs/images/size.png", "examples/quickstart.py", "tests/conftest.py",
    "benchmarks/coverage.py", "mkdocs.yml", "Makefile", ".ci/run", "LICENSE", "CHANGELOG.md",
    "CITATION.cff", "keras_dfprune/py.typed", "keras_dfprune/report/templates",
}  # fmt: skip
check(needed <= names, f"the sdist is complete (missing: {sorted(needed - names)})")
check(
    not any(name.startswith(("site/", "dist/", ".venv")) for name in names), "nothing is built in"
)

keras.utils.set_random_seed(0)
model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(20, "relu"), keras.layers.Dense(3)])
x = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
plan = dfprune.plan(model, max_params=0.5, data=x)
pruned = plan.apply(model)
check(pruned.count_params() <= 0.5 * model.count_params(), "a model is halved")
dfprune.export(pruned, "pruned.keras")
again = keras.saving.load_model("pruned.keras")
check(np.array_equal(again.predict(x), pruned.predict(x)), "it is exported to .keras and loaded")
check(dfprune.export(pruned, "pruned.tflite").bytes > 0, "it is exported to .tflite")
plan.save("plan.npz")
check(dfprune.PruningPlan.load("plan.npz").parameters == plan.parameters, "a plan is saved")


def tells_of(extra: str, function, *arguments) -> None:  # noqa: ANN001
    """Check that an error about a missing package names the extra to install."""
    try:
        function(*arguments)
    except ImportError as error:
        check(f'pip install "keras_dfprune[{extra}]"' in str(error), f"the extra {extra} is named")
    else:
        check(False, f"an error without the extra {extra}")


tells_of("plots", plan.plot, "costs.png")
tells_of("report", plan.report, "report.html")
tells_of("onnx", dfprune.export, pruned, "pruned.onnx")

command = [pathlib.Path(sys.executable).parent / "keras-dfprune"]
shown = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
check(version in shown.stdout, "keras-dfprune --version")
model.save("model.keras")
inspected = [*command, "inspect", "model.keras", "--max-params", "0.5"]
shown = subprocess.run(inspected, capture_output=True, text=True, check=True)
check("Left whole" in shown.stdout, "keras-dfprune inspect")
demo = subprocess.run([*command, "demo"], capture_output=True, text=True)
named = 'pip install "keras_dfprune[plots]"'
check(demo.returncode == 2 and named in demo.stderr, "keras-dfprune demo names an extra")
