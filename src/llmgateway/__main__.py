"""`python -m llmgateway` is the command `llmgateway`."""

import sys

from llmgateway.cli import main

sys.exit(main())
