"""Evaluation: measures runs on held-out subjects, with probes and controls, and cross-validates recipes."""
