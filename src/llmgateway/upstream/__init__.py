"""Providers: the only room that knows their protocols."""
