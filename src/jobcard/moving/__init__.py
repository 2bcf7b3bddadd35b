"""Moving and keeping data: whole jobs from one store into another, or into a file and back."""
