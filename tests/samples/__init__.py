"""Stores as third parties write them."""
