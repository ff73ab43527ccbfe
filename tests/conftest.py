"""For all tests."""

import signal

# A shell starts background jobs, and some CI systems start everything, with SIGINT ignored; tests of Ctrl-C and the
# processes they start would inherit that and never be interrupted.
signal.signal(signal.SIGINT, signal.default_int_handler)
