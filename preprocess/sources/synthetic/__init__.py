"""Cohort generators: synthetic longitudinal data whose truth is known.

`brain` writes a BIDS cohort of T1w heads with atrophy per visit; `brain_plan` decides who is scanned when, `phantom`
holds the anatomy, `shapes` its geometry, `layers_head` and `layers_brain` what is painted,
`render` turns anatomy into voxels and `scanner` turns those into what a machine would store.
"""
