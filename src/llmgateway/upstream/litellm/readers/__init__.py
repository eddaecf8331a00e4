"""How each provider's answers are read: what is common here, event by event, and what is rare by LiteLLM.

LiteLLM's readers build its own objects of every event, which costs fifty to two hundred times what is read of most.
"""
