"""Messages of other libraries are shortened behind a sentence or a word, never inside one."""

import pytest

from keras_dfprune.report.short_message import short_message


@pytest.mark.parametrize(
    "text, expected",
    [
        ("Could not interpret\nidentifier:\n  'reul'", "Could not interpret identifier: 'reul'"),
        ("First paragraph.\n\nSecond one.", "First paragraph."),
        (
            "Exception encountered when calling Dense.call().\n\n\x1b[1mIt is odd.\x1b[0m\n\nMore",
            "It is odd.",
        ),
        ("{{function_node x}} Too small", "Too small"),
        ("A sentence. " + "word " * 100, "A sentence."),
        ("", "ValueError"),
    ],
)
def test_the_first_paragraph_is_shown(text, expected):
    assert short_message(ValueError(text)) == expected


def test_a_long_sentence_ends_behind_a_word():
    assert short_message(ValueError("words " * 100)) == "words " * 39 + "words ..."
