"""`python -m keras_dfprune` is the command `keras-dfprune`, which starts faster."""

import sys

from keras_dfprune.cli.main import main

sys.exit(main())
