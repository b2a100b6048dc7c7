"""The smallest model that a measure allows, from a measure whose answer is known."""

import json

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune
from keras_dfprune.api import trial_file
from tests.support.models import dense_chain


def by_widths(needed):
    """Return a measure: 1 for models that keep enough units in each layer, less for others."""

    def score(model):
        kept = {layer.name: layer.units for layer in model.layers}
        return 1.0 - sum(max(0, least - kept[name]) for name, least in needed.items()) / 100

    return score


def test_the_smallest_model_within_the_limit_is_found():
    model = dense_chain([40, 30, 4])
    result = dfprune.search(model, by_widths({"fc1": 25, "fc2": 10}), max_drop=0.0, steps=30)
    widths = [layer.units for layer in result.model.layers[:2]]
    assert 25 <= widths[0] <= 27 and 10 <= widths[1] <= 12
    assert result.score == result.baseline == 1.0
    assert result.plan.parameters == (model.count_params(), result.model.count_params())
    assert len(result.trials) <= 30
    within = [trial.parameters for trial in result.trials if trial.within]
    assert min(within) == result.model.count_params()
    assert "chosen" in str(result) and "beyond" in str(result)


@pytest.mark.parametrize("objective", ["flops", "bytes", lambda model: model.layers[1].units])
def test_other_objectives(objective):
    model = dense_chain([40, 30, 4])
    result = dfprune.search(
        model, by_widths({"fc1": 25, "fc2": 10}), max_drop=0.0, steps=8, objective=objective
    )
    chosen = min((trial for trial in result.trials if trial.within), key=lambda trial: trial.size)
    assert chosen.kept == {group.layer: len(group.kept) for group in result.plan.groups}
    assert chosen.size < result.size


def test_labelled_rows_use_the_compiled_metric():
    model = dense_chain([20, 12, 3])
    x = np.random.default_rng(0).normal(size=(60, *model.input_shape[1:])).astype("float32")
    y = np.argmax(model.predict(x, verbose=0), axis=1)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(True), metrics=["accuracy"])
    model.evaluate(x[:7], y[:7], verbose=0)
    state = [variable.numpy() for variable in model.metrics_variables]
    result = dfprune.search(model, (x, y), max_drop=0.1, data=x, steps=6)
    assert result.measure == "accuracy" and result.baseline == 1.0 and result.score >= 0.9
    assert result.model.evaluate(x, y, verbose=0)[1] == pytest.approx(result.score)
    for before, variable in zip(state, model.metrics_variables, strict=True):
        np.testing.assert_array_equal(before, variable.numpy())
    model = dense_chain([20, 12, 3])
    model.compile("adam", "mse")
    loss = dfprune.search(model, (x, np.eye(3)[y]), max_drop=0.5, steps=3)
    assert loss.measure == "loss" and loss.limit > loss.baseline


def test_it_goes_on_from_a_checkpoint_without_repeating(tmp_path, monkeypatch):
    model, needed = dense_chain([40, 30, 4]), by_widths({"fc1": 25, "fc2": 10})
    whole = dfprune.search(model, needed, max_drop=0.0, steps=9)
    calls = []

    def interrupted(candidate):
        calls.append(candidate.count_params())
        if len(calls) == 6:
            raise KeyboardInterrupt
        return needed(candidate)

    interrupted.__name__ = needed.__name__
    path = tmp_path / "search.json"
    with pytest.warns(UserWarning, match="interrupted: this is the best"):
        part = dfprune.search(model, interrupted, max_drop=0.0, steps=9, checkpoint=path)
    assert part.interrupted and len(part.trials) == 3
    result = dfprune.search(model, interrupted, max_drop=0.0, steps=9, checkpoint=path)
    scored = [trial.parameters for trial in result.trials]
    assert scored == [trial.parameters for trial in whole.trials]
    # The base twice, three trials, the one that was interrupted, and the other six.
    assert calls == [model.count_params()] * 2 + scored[:4] + scored[3:]
    with pytest.warns(UserWarning, match="The code of `evaluate` has changed"):
        again = dfprune.search(model, needed, max_drop=0.0, steps=9, checkpoint=path)
    assert again.trials == result.trials
    with pytest.raises(ValueError, match="of another search: max_drop is 0.0 there and 0.1 here"):
        dfprune.search(model, needed, max_drop=0.1, steps=9, checkpoint=path)
    with pytest.raises(ValueError, match="the model's weights are others"):
        dfprune.search(dense_chain([40, 31, 4]), needed, max_drop=0.0, checkpoint=path)
    path.write_text(json.dumps({"format": 1}))
    with pytest.raises(ValueError, match="is no checkpoint of a search"):
        dfprune.search(model, needed, max_drop=0.0, checkpoint=path)


def test_a_checkpoint_of_other_rows_is_refused(tmp_path):
    model, path = dense_chain([10, 3]), tmp_path / "search.json"
    x, other = np.random.default_rng(0).normal(size=(2, 20, 6))
    rows = (batch for batch in (x[:10], x[10:]))
    arguments = {"max_drop": 0.1, "steps": 1, "checkpoint": path}
    dfprune.search(model, lambda m: 1.0, data=rows, **arguments)
    dfprune.search(model, lambda m: 1.0, data=x, **arguments)
    with pytest.raises(ValueError, match="of another search: `data` has other rows"):
        dfprune.search(model, lambda m: 1.0, data=other, **arguments)
    path.unlink()
    model.compile(loss="mse")
    dfprune.search(model, (x, np.ones((20, 3))), **arguments)
    with pytest.raises(ValueError, match="of another search: `evaluate` has other rows"):
        dfprune.search(model, (other, np.ones((20, 3))), **arguments)


def test_a_noisy_measure_is_noticed():
    random = np.random.default_rng(0)
    with pytest.warns(UserWarning, match="`evaluate` is noisy: it gave the original"):
        dfprune.search(dense_chain([10, 3]), lambda _: random.normal(), max_drop=9.0, steps=1)


def test_a_limit_that_nothing_meets_is_a_warning():
    def whole(model):
        return float(model.layers[0].units == 10)

    with pytest.warns(UserWarning, match="No narrow model has a whole within 1"):
        result = dfprune.search(dense_chain([10, 3]), whole, max_drop=0.0, steps=4)
    assert result.model.layers[0].units == 10 and result.score == 1.0


def raising(model):
    raise KeyError("labels")


@pytest.mark.parametrize(
    ("evaluate", "arguments", "error", "words"),
    [
        (raising, {"max_drop": 0.1}, ValueError, "failed on a model of .* parameters: KeyError"),
        (lambda m: float("nan"), {"max_drop": 0.1}, ValueError, "NaN for the original"),
        (lambda m: np.ones(3), {"max_drop": 0.1}, ValueError, r"ndarray of shape \(3,\)"),
        (lambda m: {"a": 1.0}, {"max_drop": 0.1}, ValueError, "a dict with the keys a"),
        (lambda m: None, {"max_drop": 0.1}, ValueError, "Received: a NoneType"),
        (3, {"max_drop": 0.1}, TypeError, "must be a function from a model to a number"),
        ((1, 2), {"max_drop": 0.1}, ValueError, "the model isn't compiled"),
        (len, {}, ValueError, "Give `max_drop`"),
        (len, {"max_drop": 0.1, "min_score": 1.0}, ValueError, "Give `max_drop`"),
        (len, {"max_drop": -0.1}, ValueError, "`max_drop` must be a finite number of at least 0"),
        (len, {"max_drop": 0.1, "steps": 0}, ValueError, "`steps` must be an integer"),
        (len, {"max_drop": 0.1, "objective": "ms"}, ValueError, "`objective` must be one of"),
        (len, {"max_drop": 0.1, "max_params": 0.5}, TypeError, "finds the budget itself"),
        (len, {"max_drop": 0.1, "color": 3}, TypeError, "Unknown argument 'color'"),
        (len, {"max_drop": 0.1, "checkpoint": "/no/such/a.json"}, ValueError, "folder that exists"),
    ],
)
def test_bad_arguments(evaluate, arguments, error, words):
    with pytest.raises(error, match=words):
        dfprune.search(dense_chain([10, 3]), evaluate, **arguments)


def test_a_checkpoint_is_never_half_written(tmp_path, monkeypatch):
    path = tmp_path / "search.json"
    model = dense_chain([10, 3])
    dfprune.search(model, lambda m: 1.0, max_drop=0.1, steps=1, checkpoint=path)
    before = path.read_text()

    def fails(*arguments):
        raise OSError("disk is full")

    monkeypatch.setattr(trial_file.os, "replace", fails)
    with pytest.raises(OSError, match="disk is full"):
        dfprune.search(model, lambda m: 1.0, max_drop=0.1, steps=3, checkpoint=path)
    assert path.read_text() == before and list(tmp_path.iterdir()) == [path]


def test_the_plot_marks_what_was_chosen(tmp_path):
    pytest.importorskip("matplotlib")
    model = dense_chain([40, 30, 4])
    result = dfprune.search(model, by_widths({"fc1": 25}), max_drop=0.0, steps=5)
    result.plot(tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    pytest.importorskip("jinja2")
    result.report(tmp_path / "a.html")
    text = (tmp_path / "a.html").read_text()
    assert "Models that were scored" in text and text.count("chosen") >= 2
    assert all(f'<td class="number">{trial.parameters:,}</td>' in text for trial in result.trials)


def test_a_sweep_scores_each_method_at_each_size(tmp_path):
    model = dense_chain([40, 30, 4])
    result = dfprune.sweep(
        model, lambda m: m.count_params(), sizes=(0.6, 0.3, 0.001), methods=("moments", "saliency")
    )
    scores = [(trial.method, trial.score) for trial in result.trials]
    assert [name for name, _ in scores] == ["moments", "moments", "saliency", "saliency"]
    for (_, score), share in zip(scores, (0.6, 0.3, 0.6, 0.3), strict=True):
        assert 0.9 * share * model.count_params() <= score <= share * model.count_params()
    assert "saliency" in str(result) and "original" in str(result)
    with pytest.raises(ValueError, match="fractions in"):
        dfprune.sweep(model, len, sizes=(1.5,))
    pytest.importorskip("matplotlib")
    result.plot(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 0


def test_sensitivity_cuts_each_layer_alone(tmp_path):
    model = dense_chain([40, 30, 4])
    result = dfprune.sensitivity(model, lambda m: m.count_params(), sparsity=0.5)
    kept = [(layer.layer, layer.kept) for layer in result.layers]
    assert kept == [("fc1", 20), ("fc2", 15)]
    for layer in result.layers:
        assert layer.value == result.baseline - layer.saved
    model.layers[1].set_weights([np.repeat(w, 2, axis=-1)[..., :30] for w in
                                 (w[..., :15] for w in model.layers[1].get_weights())])  # fmt: skip
    unmeasured = dfprune.sensitivity(model, data=np.random.default_rng(0).normal(size=(50, 6)))
    assert unmeasured.layers[1].value < 1e-6 < unmeasured.layers[0].value
    with pytest.raises(ValueError, match="a fraction in"):
        dfprune.sensitivity(model, sparsity=0.0)
    pytest.importorskip("matplotlib")
    result.plot(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 0
