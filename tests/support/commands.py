"""Run the command line inside the tests' own process."""

from keras_dfprune.cli.main import main


def run(*arguments):
    return main([str(argument) for argument in arguments])


def fails(capsys, *arguments):
    """Run a command that fails, and return its one line on standard error."""
    try:
        code = run(*arguments)
    except SystemExit as stopped:  # argparse
        code = stopped.code
    captured = capsys.readouterr()
    assert code == 2
    assert captured.err.count("\n") == 1, captured.err
    assert "error: " in captured.err
    return captured.err
