"""Small tokenizers, made where they are needed: none has to be downloaded."""

from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

LINES = (
    "The quick brown fox jumps over the lazy dog.",
    "Grüße aus Köln: überall schöne Straßen und Brücken.",
    "def count(text): return len(tokenize(text))",
)
TEXTS = (*LINES, "", "hello  world\n\n", "нечто другое 123", "早上好", "<|end|>", "a" * 500)


def train_bpe(path: Path, *, max_length: int | None = None) -> Tokenizer:
    """Write a tokenizer of bytes, as GPT's and Llama's are; `max_length` is what it cuts and fills its texts to."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(LINES, trainers.BpeTrainer(vocab_size=400, show_progress=False, initial_alphabet=alphabet))
    if max_length is not None:
        made.enable_truncation(max_length)
        made.enable_padding(length=max_length)
    made.save(str(path))
    return made


def train_words(path: Path) -> Tokenizer:
    """Write a tokenizer of whole words."""
    made = Tokenizer(models.WordLevel(unk_token="[UNK]"))  # noqa: S106  a token of another kind
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.train_from_iterator(LINES, trainers.WordLevelTrainer(special_tokens=["[UNK]"], show_progress=False))
    made.save(str(path))
    return made
