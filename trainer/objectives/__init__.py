"""The objectives that recipes name, a file for each method; their formulas, functions of tensors, are in `losses`."""
