"""Metrics: numbers from arrays, each with its interval and chance level; nothing here reads, trains or draws."""
