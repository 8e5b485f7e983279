"""A worker whose engine is its own memory, for tests of what workers have in common without one: being processes.

`triocast serve` has no such workers: they would have groups of their own.
"""

from __future__ import annotations

import sys

from triocast.engines.memory import MemoryEngine
from triocast.serve.worker import main

if __name__ == "__main__":
    sys.exit(main(MemoryEngine))
