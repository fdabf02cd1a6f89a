"""Cohort generators: synthetic data whose truth is known, a package a cohort.

Each package has `cohort` (writes it), `plan` (decides who is scanned when, and how ill) and `render` (makes voxels and
numbers). They share `folder`, `planning`, `shapes`, `waves` and `pose`, and know nothing of each other.
"""
