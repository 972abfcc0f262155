"""The inverses: fewest GPUs for a workload and a speed, largest batch and longest context on given GPUs."""
