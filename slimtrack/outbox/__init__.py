"""Publishes outbox rows and makes lost ones due again."""
