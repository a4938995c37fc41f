"""Results of nodes by content: tiers, budgets and eviction."""

from nodegraph.cache.budget import Budget
from nodegraph.cache.store import Cache, CacheStats
from nodegraph.cache.tier import Held, Tier, TierStats

__all__ = ["Budget", "Cache", "CacheStats", "Held", "Tier", "TierStats"]
