"""From a store to batches: subject splits, pairs of visits, the order of an epoch, and the stream that reads it."""
