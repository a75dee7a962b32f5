"""Speaks Dramatiq: the stage actors."""
