"""`python -m jobcard`: the `jobcard` command where no script of that name is on the path."""

from jobcard.cli.main import main

if __name__ == "__main__":
    main()
