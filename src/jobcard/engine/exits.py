"""The exit codes of an engine, its keeper and the command line; imports nothing, for the keeper reads it too."""

OK = 0
FAILED = 1
USAGE = 2  # a wrong argument or setting, or an application that cannot be imported
STORE = 3  # the store or its schema
NOT_FOUND = 4
INTERRUPTED = 130  # told to stop a second time
