"""Store in, artefact out: objectives, encoders, data, fitting, evaluation and export."""
