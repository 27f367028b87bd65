"""`python -m tentacle`, which is the program `tentacle`.

Until the interpreter is an isolated one, nothing is imported that it has not imported by itself: the current directory
and PYTHONPATH may lead to anything.
"""

import os
import sys

if not (sys.flags.isolated and sys.flags.utf8_mode):
    os.execv(sys.executable, [sys.executable, "-I", "-X", "utf8", __file__, *sys.argv[1:]])  # noqa: S606

# An isolated interpreter does not look where PYTHONPATH has led.
sys.path.append(os.path.dirname(os.path.dirname(__file__)))  # noqa: PTH120

from tentacle.cli.entry import enter

sys.exit(enter())
