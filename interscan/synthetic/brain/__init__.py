"""The brain cohort: a BIDS folder of T1w heads with atrophy, scores, two scanners and rescans."""
