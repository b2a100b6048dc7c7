"""Run the command line: `python -m keras_dfprune` is the command `keras-dfprune`."""

import sys

from keras_dfprune.cli.main import main

sys.exit(main())
