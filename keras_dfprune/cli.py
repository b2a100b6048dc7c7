"""`python -m keras_dfprune.cli` is the command `keras-dfprune`; see `keras_dfprune_cli`."""

import sys

from keras_dfprune_cli import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
