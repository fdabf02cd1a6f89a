"""The connectome cohort: five modalities a person, of which some may be missing, and a class."""
