"""The `jobcard` command, one module per group of commands."""
