"""The commands: what they print, the files they write, and their errors."""

import zipfile

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune
from keras_dfprune.cli.sizes import read_size
from keras_dfprune.exporting.litert_interpreter import open_interpreter
from tests.support.commands import fails, run


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((6,), name="x"),
            keras.layers.Dense(20, activation="relu", name="fc1"),
            keras.layers.Dense(12, activation="relu", name="fc2"),
            keras.layers.Dense(3, name="logits"),
        ]
    )


@pytest.fixture
def model_file(model, tmp_path):
    path = tmp_path / "model.keras"
    model.save(path)
    return path


def widths(path):
    model = keras.saving.load_model(path)
    return [model.get_layer(name).units for name in ("fc1", "fc2")]


def test_inspect_prints_the_plan_and_writes_nothing(model, model_file, tmp_path, capsys):
    assert run("inspect", model_file, "--sparsity", 0.5) == 0
    assert capsys.readouterr().out.strip() == str(dfprune.plan(model, sparsity=0.5))
    assert list(tmp_path.iterdir()) == [model_file]


def test_inspect_without_a_budget_shows_the_automatic_plan(model, model_file, capsys):
    assert run("inspect", model_file) == 0
    assert capsys.readouterr().out.strip() == str(dfprune.plan(model))


def test_prune_writes_what_apply_makes(model, model_file, tmp_path):
    out = tmp_path / "pruned.keras"
    assert run("prune", model_file, "-o", out, "--sparsity", 0.5, "--method", "moments") == 0
    x = np.random.default_rng(0).normal(size=(4, 6)).astype("float32")
    expected = dfprune.apply(model, sparsity=0.5, method="moments")
    np.testing.assert_allclose(keras.saving.load_model(out)(x), expected(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        (("--sparsity", "fc1=0.25"), [15, 12]),
        (("--sparsity", "fc1=0.25", "--sparsity", "fc2=0.5"), [15, 6]),
        (("--sparsity", "0.5", "--layers", "fc2"), [20, 6]),
        (("--sparsity", "0.5", "--layers", "fc1", "fc2"), [10, 6]),
        (("--tolerance", "0"), [20, 12]),
        (("--sparsity", "0.5", "--method", "saliency"), [10, 6]),
    ],
)
def test_budgets(model_file, tmp_path, budget, expected):
    out = tmp_path / "pruned.keras"
    assert run("prune", model_file, "-o", out, *budget) == 0
    assert widths(out) == expected


@pytest.mark.parametrize(("text", "most"), [("200", 200), ("0.5", 215), ("5e-1", 215)])
def test_max_params(model, model_file, tmp_path, text, most):
    out = tmp_path / "pruned.keras"
    assert model.count_params() == 431
    assert run("prune", model_file, "-o", out, "--max-params", text) == 0
    assert most - 30 < keras.saving.load_model(out).count_params() <= most


def test_rows_and_steps_of_recovery_are_handed_on(model, model_file, tmp_path, capsys):
    rows, out, plan = tmp_path / "rows.npy", tmp_path / "pruned.keras", tmp_path / "plan.npz"
    np.save(rows, np.random.default_rng(0).normal(size=(40, 6)))
    arguments = ("--max-params", 0.5, "--data", rows, "--refine-steps", 3, "--save-plan", plan)
    assert run("prune", model_file, "-o", out, *arguments) == 0
    assert "held-out part of 40 rows of `data`" in capsys.readouterr().out
    loaded = dfprune.PruningPlan.load(plan)
    assert loaded.refine_steps == 3
    expected = dfprune.plan(model, max_params=0.5, data=np.load(rows))
    assert loaded.measured == expected.measured


@pytest.mark.parametrize(("arguments", "shown"), [((), True), (("--sparsity", 0.5), False)])
def test_the_papers_cut_off_is_called_a_rule_of_thumb(model_file, capsys, arguments, shown):
    assert run("inspect", model_file, "--method", "saliency", *arguments) == 0
    assert ("is a rule of thumb" in capsys.readouterr().out) == shown


def test_an_h5_file(model, tmp_path):
    model.save(tmp_path / "model.h5")
    out = tmp_path / "pruned.keras"
    assert run("prune", tmp_path / "model.h5", "-o", out, "--sparsity", 0.5) == 0
    assert widths(out) == [10, 6]


def test_the_suffix_decides_the_format(model_file, tmp_path, capsys):
    plain, small, folder = tmp_path / "a.tflite", tmp_path / "b.tflite", tmp_path / "saved"
    assert run("prune", model_file, "-o", plain, "--sparsity", 0.5) == 0
    assert run("prune", model_file, "-o", small, "--sparsity", 0.5, "--quantize", "float16") == 0
    assert run("prune", model_file, "-o", folder, "--sparsity", 0.5) == 0
    assert plain.read_bytes() != small.read_bytes()
    assert (folder / "saved_model.pb").exists()
    assert f"{plain.stat().st_size:,} bytes" in capsys.readouterr().out


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_a_file_for_a_microcontroller(model_file, tmp_path, suffix):
    rows, out = tmp_path / f"rows{suffix}", tmp_path / "small.tflite"
    values = np.random.default_rng(0).normal(size=(20, 6)).astype("float32")
    if suffix == ".npy":
        np.save(rows, values)
    else:
        np.savez(rows, x=values)
    arguments = ("--quantize", "int8", "--representative-data", rows, "--io-dtype", "int8")
    assert run("prune", model_file, "-o", out, *arguments, "--batch-size", 1) == 0
    details = open_interpreter(out).get_input_details()[0]
    assert (details["shape"].tolist(), details["dtype"]) == ([1, 6], np.int8)


def test_plan_and_plot_are_written(model, model_file, tmp_path):
    plan, plot = tmp_path / "plan.npz", tmp_path / "curve.png"
    out = tmp_path / "pruned.keras"
    arguments = ("--sparsity", 0.5, "--save-plan", plan, "--plot", plot)
    assert run("prune", model_file, "-o", out, *arguments) == 0
    assert plot.read_bytes().startswith(b"\x89PNG")
    loaded = dfprune.PruningPlan.load(plan)
    assert loaded.apply(model).count_params() == keras.saving.load_model(out).count_params()


def test_a_missing_file(tmp_path, capsys):
    assert "no such file" in fails(capsys, "inspect", tmp_path / "missing.keras")


def test_files_that_hold_no_model(model_file, tmp_path, capsys):
    text = tmp_path / "notes.txt"
    text.write_text("not a model")
    assert "expected .keras or .h5" in fails(capsys, "inspect", text)
    assert "is a folder" in fails(capsys, "inspect", tmp_path)
    for name in ("text.keras", "text.h5"):
        (tmp_path / name).write_text("not a model")
        assert "can't read a Keras model" in fails(capsys, "inspect", tmp_path / name)
    cut = tmp_path / "cut.keras"
    cut.write_bytes(model_file.read_bytes()[:2000])
    assert "can't read a Keras model" in fails(capsys, "inspect", cut)
    with zipfile.ZipFile(tmp_path / "other.keras", "w") as archive:
        archive.writestr("readme.txt", "another archive")
    assert "can't read a Keras model" in fails(capsys, "inspect", tmp_path / "other.keras")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--sparsity", "1.5"), r"must be a number in [0, 1)"),
        (("--sparsity", "half"), "takes one number in [0, 1)"),
        (("--sparsity", "0.5", "--sparsity", "0.6"), "NAME=F for each layer"),
        (("--sparsity", "fc1=0.5", "--sparsity", "fc1=0.6"), "fc1 twice"),
        (("--sparsity", "fc7=0.5"), "fc7"),
        (("--layers", "fc7"), "fc7"),
        (("--sparsity", "0.5", "--tolerance", "0"), "not allowed with"),
        (("--tolerance", "-1"), "tolerance"),
        (("--max-params", "3"), "max_params"),
        (("--max-params", "half"), "a fraction such as 0.5 or 50%, or a number"),
        (("--max-params", "1.0"), "a float in (0, 1)"),
        (("--refine-steps", "-1"), "refine_steps"),
        (("--refine-steps", "many"), "invalid int value"),
        (("--data", "missing.npy"), "no such file: missing.npy"),
        (("--method", "magic"), "invalid choice"),
        (("--quantize", "dynamic"), "quantize"),
        (("--io-dtype", "int8"), "io_dtype='int8' is for quantize='int8' only"),
        (("--batch-size", "1"), "A .keras file holds the model itself"),
        (("--representative-data", "rows.npy"), "no such file: rows.npy"),
        (("--representative-data", __file__), "not a file of rows"),
    ],
)
def test_bad_arguments_leave_nothing_behind(model_file, tmp_path, capsys, arguments, message):
    out = tmp_path / "pruned.keras"
    assert message in fails(capsys, "prune", model_file, "-o", out, *arguments)
    assert list(tmp_path.iterdir()) == [model_file]


def test_targets_that_cannot_be_written(model_file, tmp_path, capsys):
    before = model_file.read_bytes()
    assert "end in .keras" in fails(capsys, "prune", model_file, "-o", tmp_path / "out.bin")
    assert "doesn't exist" in fails(capsys, "prune", model_file, "-o", tmp_path / "no" / "o.keras")
    assert "the model itself" in fails(capsys, "prune", model_file, "-o", model_file)
    arguments = ("-o", tmp_path / "out.keras", "--save-plan", tmp_path / "no" / "plan.npz")
    assert "no such folder" in fails(capsys, "prune", model_file, *arguments)
    assert list(tmp_path.iterdir()) == [model_file]
    assert model_file.read_bytes() == before


def test_warnings_are_one_line_each(tmp_path, capsys):
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save(tmp_path / "flat.keras")
    assert run("inspect", tmp_path / "flat.keras") == 0
    captured = capsys.readouterr()
    assert captured.err.startswith("keras-dfprune: warning: ")
    assert captured.err.count("\n") == 1


def test_ctrl_c_is_one_line(model_file, monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(dfprune, "plan", interrupted)
    assert run("inspect", model_file) == 130
    assert capsys.readouterr() == ("", "keras-dfprune: interrupted\n")


def test_a_verbose_command_prints_the_plan_once(model, model_file, tmp_path, capsys):
    arguments = ("--sparsity", 0.5, "--verbose")
    assert run("inspect", model_file, *arguments) == 0
    assert run("prune", model_file, "-o", tmp_path / "pruned.keras", *arguments) == 0
    plan = str(dfprune.plan(model, sparsity=0.5))
    shown = capsys.readouterr().out
    assert shown.count(plan) == 2 and shown.count("Pruning plan") == 2


@pytest.mark.parametrize(
    ("text", "size"),
    [("0.5", 0.5), ("50%", 0.5), ("5e-1", 0.5), ("100k", 100_000), ("1.5M", 1_500_000),
     ("100kB", 100_000), ("2KiB", 2048), ("12", 12), (" 300 B ", 300)],
)  # fmt: skip
def test_sizes_as_people_type_them(text, size):
    received = read_size("--max-params", text)
    assert received == size and type(received) is type(size)


def test_nothing_is_replaced_without_force(model_file, tmp_path, capsys):
    out = tmp_path / "pruned.keras"
    out.write_text("precious")
    assert "exists already. Give --force" in fails(capsys, "prune", model_file, "-o", out)
    assert out.read_text() == "precious"
    assert run("prune", model_file, "-o", out, "--sparsity", 0.5, "--force") == 0
    assert widths(out) == [10, 6]


def test_size_options(model_file, tmp_path):
    out, plan = tmp_path / "pruned.keras", tmp_path / "plan.npz"
    options = ("--max-flops", "50%", "--multiple-of", 4, "--save-plan", plan)
    assert run("prune", model_file, "-o", out, *options) == 0
    kept = widths(out)
    assert all(width % 4 == 0 for width in kept)
    assert 6 * kept[0] + kept[0] * kept[1] + 3 * kept[1] <= 0.5 * (6 * 20 + 20 * 12 + 3 * 12)
    again = tmp_path / "again.keras"
    assert run("prune", model_file, "-o", again, "--plan", plan) == 0
    assert widths(again) == kept
    assert run("prune", model_file, "-o", again, "--sparsity", 0.5, "--exclude", "fc1",
               "--force") == 0  # fmt: skip
    assert widths(again) == [20, 6]
    lite = tmp_path / "pruned.tflite"
    assert run("prune", model_file, "-o", lite, "--max-bytes", "3.5kB") == 0
    assert 3_000 <= lite.stat().st_size <= 3_500


def test_search_and_evaluate(model, tmp_path, capsys):
    x = np.random.default_rng(0).normal(size=(80, 6)).astype("float32")
    y = np.argmax(model.predict(x, verbose=0), axis=1)
    compiled = keras.models.clone_model(model)
    compiled.set_weights(model.get_weights())
    compiled.compile(
        "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"]
    )
    source, rows, out = (tmp_path / name for name in ("a.keras", "rows.npz", "b.keras"))
    compiled.save(source)
    np.savez(rows, x=x, y=y)
    pytest.importorskip("jinja2")
    report = tmp_path / "report.html"
    options = ("--evaluate", rows, "--max-drop", 0.2, "--steps", 4, "--report", report)
    assert run("search", source, "-o", out, *options) == 0
    shown = capsys.readouterr().out
    assert "Search for the fewest parameters: accuracy 1 ->" in shown and "chosen" in shown
    assert keras.saving.load_model(out).evaluate(x, y, verbose=0)[1] >= 0.8
    assert "fc1" in report.read_text()
    options = ("--sparsity", 0.2, "--evaluate", rows, "--force")
    assert run("prune", source, "-o", out, *options) == 0
    assert "accuracy" in capsys.readouterr().out
    np.save(tmp_path / "rows.npy", x)
    options = ("--evaluate", tmp_path / "rows.npy", "--max-drop", 0.2, "--force")
    assert "has no labels" in fails(capsys, "search", source, "-o", out, *options)
