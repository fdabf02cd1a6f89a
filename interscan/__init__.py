"""One command line over preprocess, trainer and app, and the demo that runs them all."""
