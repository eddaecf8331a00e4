"""OpenAI's protocol as bytes and JSON: what is read from a request, rewritten for an upstream, found in an answer."""
