"""HTTP/1.1 towards providers: connections of our own on asyncio and httptools (docs/decisions/0027)."""
