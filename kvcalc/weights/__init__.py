"""Parameter counts and bytes of weights, and how they shard."""

from kvcalc.weights.count import ParameterCount, parameter_count
from kvcalc.weights.formats import WEIGHT_FORMATS, WeightFormat, weight_format
from kvcalc.weights.inventory import Inventory, inventory
from kvcalc.weights.ledger import WeightLedger, WeightScheme, weight_bytes, weight_bytes_per_stage, weight_scheme
from kvcalc.weights.sharding import WeightSharding, even_stages

__all__ = [
    "WEIGHT_FORMATS",
    "Inventory",
    "ParameterCount",
    "WeightFormat",
    "WeightLedger",
    "WeightScheme",
    "WeightSharding",
    "even_stages",
    "inventory",
    "parameter_count",
    "weight_bytes",
    "weight_bytes_per_stage",
    "weight_format",
    "weight_scheme",
]
