"""Plain text: whatever has characters."""

from llmgateway.documents.readers.content import Content


def is_text(content: Content) -> bool:  # noqa: ARG001  the table asks all of them alike
    """Whatever no other reader recognises: bytes that are no text are refused when they are decoded."""
    return True


def text_of(content: Content) -> str:
    """Give it as it is."""
    return content.text
