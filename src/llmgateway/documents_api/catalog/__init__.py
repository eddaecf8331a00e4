"""Providers, models and tokenizers as document services see them."""
