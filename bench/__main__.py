"""`python -m bench`: see README.md beside this file."""

import sys

from bench.run import main

sys.exit(main())
