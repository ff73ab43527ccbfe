"""For all tests."""

import os
import signal

# Workers side by side share the cores: threads of one that wait for each other would wait for the other worker too.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell starts background jobs, and some CI systems start everything, with SIGINT ignored; tests of Ctrl-C and the
# processes they start would inherit that and never be interrupted.
signal.signal(signal.SIGINT, signal.default_int_handler)
