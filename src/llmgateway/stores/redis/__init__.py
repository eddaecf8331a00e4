"""State that all processes share, in one Redis (6.2 or later, no cluster).

Each of its keys begins with `llmgw:` and has a time to live.
"""
