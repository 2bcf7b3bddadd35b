"""Background jobs for Python, kept in the database you already run."""
