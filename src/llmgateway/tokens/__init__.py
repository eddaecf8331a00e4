"""Counts tokens, offline: with tables that are on disk, and never with a download."""

from llmgateway.tokens.counter import Counted, TokenCounter
from llmgateway.tokens.files import tokenizer_fault

__all__ = ["Counted", "TokenCounter", "tokenizer_fault"]
