"""The face for OpenAI clients: bytes in, bytes out; no decisions."""
