"""Parameter counts and bytes of weights, and how they shard."""

from kvcalc.weights.count import ParameterCount, parameter_count
from kvcalc.weights.inventory import Inventory, inventory

__all__ = ["Inventory", "ParameterCount", "inventory", "parameter_count"]
