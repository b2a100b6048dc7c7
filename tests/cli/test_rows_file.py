"""Files of rows, and what is wrong with some of them."""

import numpy as np
import pytest

from keras_dfprune.cli.messages import CommandError
from keras_dfprune.cli.rows_file import read_rows_file

ROWS = np.array([[1.0, -0.5], [2.25, 3e-3], [0.0, 7.0]], np.float32)


def test_an_array(tmp_path):
    np.save(tmp_path / "rows.npy", ROWS)
    np.testing.assert_array_equal(read_rows_file(tmp_path / "rows.npy"), ROWS)


def test_an_array_for_each_input(tmp_path):
    np.savez(tmp_path / "rows.npz", age=ROWS, words=np.array([["a"], ["b"], ["c"]]))
    rows = read_rows_file(tmp_path / "rows.npz")
    assert set(rows) == {"age", "words"}
    np.testing.assert_array_equal(rows["age"], ROWS)
    assert rows["words"].tolist() == [["a"], ["b"], ["c"]]


@pytest.mark.parametrize(
    "text",
    [
        "1,-0.5\n2.25,3e-3\n0,7\n",
        "1,-0.5\r\n2.25,3e-3\r\n0,7",
        "height,weight\n1,-0.5\n2.25,3e-3\n0,7\n",
        '\ufeff"height","weight"\n1, -0.5\n2.25, 3e-3\n\n0, 7\n',
        "\ufeff1,-0.5\n2.25,3e-3\n0,7\n",
    ],
)
def test_numbers_between_commas(tmp_path, text):
    path = tmp_path / "rows.CSV"
    path.write_bytes(text.encode())
    np.testing.assert_array_equal(read_rows_file(path), ROWS)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.txt", b"1 2", r"not a file of rows: .*rows\.txt \(expected \.npy, \.npz, \.csv\)"),
        ("rows.npy", b"1,2\n", r"rows\.npy is no \.npy file of numbers"),
        ("rows.npz", b"1,2\n", r"rows\.npz is no \.npz file of numbers"),
        ("rows.csv", b"a,b\n1,2\n3,none\n", "must hold numbers between commas: .*'none'"),
        ("rows.csv", b"1,2\n3\n", "must hold numbers between commas"),
        ("rows.csv", b"1;2\n3;4\n", "must hold numbers between commas"),
        ("rows.csv", b"", "no rows"),
        ("rows.csv", b"height,weight\n", "no rows"),
    ],
)
def test_what_is_wrong_with_a_file(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CommandError, match=message):
        read_rows_file(tmp_path / name)


def test_pickled_objects_are_not_read(tmp_path):
    np.save(tmp_path / "rows.npy", np.array([{}], object), allow_pickle=True)
    np.savez(tmp_path / "rows.npz", rows=np.array([{}], object))
    for name in ("rows.npy", "rows.npz"):
        with pytest.raises(CommandError, match="file of numbers"):
            read_rows_file(tmp_path / name)


def test_a_missing_file_and_a_folder(tmp_path):
    for path in (tmp_path / "rows.npy", tmp_path):
        with pytest.raises(CommandError, match="no such file"):
            read_rows_file(path)
