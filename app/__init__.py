"""The service: artefact in, answers out. It imports preprocess and never trainer."""
