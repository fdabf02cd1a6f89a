"""From batches to weights: the loop, precision, optimiser, checkpoints, tracking and the progression head."""
