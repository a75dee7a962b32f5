"""The dashboard: every part of the system and every order's way, for those who run it."""
