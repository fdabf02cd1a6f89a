"""The severity cohort: colour pictures of both eyes of a person, graded 0 to 4."""
