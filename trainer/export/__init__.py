"""From a finished run to an artefact: programs, golden values, references and manifest, with parity proven."""
