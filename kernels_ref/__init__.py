"""The proof: real storages and real kernels that confirm kvcalc's numbers. Needs torch."""
