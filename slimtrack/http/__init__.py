"""Speaks Falcon: the REST API."""
