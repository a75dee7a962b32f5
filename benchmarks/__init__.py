"""Measures SlimTrack on private servers: ``scripts/bench``."""
