"""Sampling responses: one protocol, and the ways to do it."""

from rlhf_engine.rollout.backend import Response, RolloutBackend, draw
from rlhf_engine.rollout.cached import CachedRollout
from rlhf_engine.rollout.choice import make_backend

__all__ = ["CachedRollout", "Response", "RolloutBackend", "draw", "make_backend"]
