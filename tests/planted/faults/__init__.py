"""One fault a file; its docstring says what it breaks, BREAKS how."""
