"""The report: plots of what was measured, a verdict in plain words, and one page that holds both."""
