"""The server's side of HTTP/1.1: from the bytes of a socket to an ASGI call, and back. uvicorn runs it.

uvicorn's own protocol makes five objects, an event and a timer for each request, writes a head by itself, and looks at
each header alone: a fifth of what a relayed call costs (docs/performance.md, docs/decisions/0014).
"""

from llmgateway.answering.connection import Protocol

__all__ = ["Protocol"]
