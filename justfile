# `just --list` shows these recipes; each is a short command that can be typed by hand.

python := ".venv/bin/python"

# show this list
default:
    @just --list --unsorted

# an environment in .venv, with everything for development
setup:
    python3 -m venv .venv
    {{python}} -m pip install --quiet --editable '.[test]'

# before every commit: format, lint, types, fast tests; 5 minutes
check:
    scripts/test --quick

# everything that is tested; at most 20 minutes on two cores
check-all:
    scripts/test

# every kind of fault hundreds of times on each store; `just soak 60` for an hour of it
soak *arguments:
    scripts/soak {{arguments}}

# run some tests, for example `just test tests/core -k retry`
test *arguments:
    {{python}} -m pytest {{arguments}}

# put the code in shape: formatting, and what the linter can mend
format:
    {{python}} -m ruff format .
    {{python}} -m ruff check --fix .

# see it work: real files, and jobs that crash on purpose
demo *arguments:
    scripts/demo {{arguments}}

# how many jobs a second this machine does
bench *arguments:
    {{python}} -m jobcard bench {{arguments}}

# run every example of the README, docs/ and examples/
docs:
    {{python}} -m pytest tests/test_readme.py tests/test_docs.py tests/test_examples.py

# remove what tests and builds left behind
clean:
    rm -rf .venv-test .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
