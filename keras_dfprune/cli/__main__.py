"""`python -m keras_dfprune_cli` is the command `keras-dfprune`."""

import sys

from keras_dfprune.cli.main import main

sys.exit(main())
