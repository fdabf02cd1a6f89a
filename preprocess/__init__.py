"""Scans in, store out; and the nouns, the store contract and the transforms that trainer and app share."""
