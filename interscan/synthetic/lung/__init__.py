"""The lung cohort: ultrasound clips of several zones a day, with S/F ratios."""
