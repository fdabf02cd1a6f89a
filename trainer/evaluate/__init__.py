"""Evaluation: numbers with intervals, controls beside them, figures, and one page that says what they mean."""
