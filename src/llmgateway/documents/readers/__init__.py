"""Readers: from the bytes of a document to its text. One file a format, one row each; no reader knows another."""

from llmgateway.documents.readers import markdown, plain, subtitles
from llmgateway.documents.readers.content import Format

# Asked from top to bottom: the first that recognises a content reads it.
FORMATS: dict[str, Format] = {
    "vtt": Format("WebVTT", subtitles.is_webvtt, subtitles.text_of),
    "srt": Format("SRT", subtitles.is_subrip, subtitles.text_of),
    "markdown": Format("Markdown", markdown.is_markdown, markdown.text_of),
    "text": Format("plain text", plain.is_text, plain.text_of),
}
