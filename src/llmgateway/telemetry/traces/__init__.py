"""Traces: where a request stands, what of it is kept, and how it leaves."""
