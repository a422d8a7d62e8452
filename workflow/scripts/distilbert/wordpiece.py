"""WordPiece tokenizers (Devlin et al. 2019): learnt from a corpus or read, and text turned into ids with them.

The special tokens keep their meaning to the model alone: the letters "[SEP]" in an article are read as text.
"""

import re
import string
from array import array
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer
from tokenizers.decoders import WordPiece as WordPieceDecoder
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import BertProcessing
from tokenizers.trainers import WordPieceTrainer

from distilbert.files import write_json, write_text
from distilbert.tokens import Vocabulary

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
TOKENIZER_FILE = "tokenizer.json"

ID_BYTES = 2  # of a uint16
# What BERT's tokenizer splits a chunk of printable ASCII into: every sign of punctuation is a word of its own.
WORDS = re.compile("[{0}]|[^{0}]+".format(re.escape(string.punctuation)))
# Distinct chunks whose ids are kept, and the letters of the longest: about 80 MB.
MAX_CHUNKS = 2**19
MAX_CHUNK_LETTERS = 40


def learn(read_texts: Callable[[], Iterable[str]], *, vocab_size: int, lowercase: bool) -> Tokenizer:
    """Learn a vocabulary of at most `vocab_size` word pieces; the special tokens come first, then the letters.

    read_texts: called twice. `tokenizers` numbers the letters inside words in the order of a hash map and breaks
        ties by these numbers, so that two runs would differ; a first pass finds the letters, the second is told
        their order.
    """
    letters = sorted(_trained(read_texts(), vocab_size=1, lowercase=lowercase).get_vocab())
    known = [*SPECIAL_TOKENS, *(letter for letter in letters if letter not in SPECIAL_TOKENS)]
    vocab = _trained(read_texts(), vocab_size=vocab_size, lowercase=lowercase, known=known).get_vocab()
    return prepare(_untrained(vocab, lowercase=lowercase), "learn")


def _trained(
    texts: Iterable[str], *, vocab_size: int, lowercase: bool, known: Sequence[str] = SPECIAL_TOKENS
) -> Tokenizer:
    tokenizer = _untrained({}, lowercase=lowercase)
    trainer = WordPieceTrainer(
        vocab_size=vocab_size, special_tokens=list(known), show_progress=False, limit_alphabet=1000
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _untrained(vocab: dict[str, int], *, lowercase: bool) -> Tokenizer:
    """Return BERT's tokenizer over a vocabulary, its special tokens marked as such."""
    tokenizer = Tokenizer(WordPiece(vocab, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.decoder = WordPieceDecoder()
    if vocab:
        tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return tokenizer


def load(path: Path) -> Tokenizer:
    """Read a tokenizer.json.

    Raises:
        FileNotFoundError, ValueError: the file is absent, is no tokenizer, or lacks a special token of BERT.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises the bare class
        raise ValueError(f"{path}: not a tokenizer: {error}") from error
    return prepare(tokenizer, path)


def prepare(tokenizer: Tokenizer, source: object) -> Tokenizer:
    """Set a tokenizer to what BERT expects: [CLS] a [SEP] b [SEP], no padding, no truncation."""
    if missing := [token for token in SPECIAL_TOKENS if tokenizer.token_to_id(token) is None]:
        raise ValueError(f"{source}: the vocabulary has no {', '.join(missing)}")
    tokenizer.no_padding()
    tokenizer.no_truncation()
    cls, sep = ((token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]"))
    tokenizer.post_processor = BertProcessing(sep, cls)
    tokenizer.encode_special_tokens = True
    return tokenizer


def save(tokenizer: Tokenizer, folder: Path, *, max_length: int, token_types: bool) -> None:
    """Write tokenizer.json and the tokenizer_config.json with which `transformers.AutoTokenizer` loads it.

    max_length: positions of the model in tokens. token_types: whether the model takes token types.
    """
    write_text(Path(folder) / TOKENIZER_FILE, tokenizer.to_str(pretty=True))
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_length,
        "model_input_names": ["input_ids", *["token_type_ids"] * token_types, "attention_mask"],
        **dict(zip(names, SPECIAL_TOKENS, strict=True)),
    }
    write_json(Path(folder) / "tokenizer_config.json", config)


def require_same_words(tokenizer: Tokenizer, folder: Path) -> None:
    """Refuse a model folder whose own tokenizer.json, if it has one, gives another id to a word.

    Raises:
        ValueError: the message names the folder and the first such word.
    """
    path = Path(folder) / TOKENIZER_FILE
    if not path.exists():
        return
    ours, theirs = tokenizer.get_vocab(), load(path).get_vocab()
    for word in sorted(ours.keys() | theirs.keys()):
        if ours.get(word) != theirs.get(word):
            raise ValueError(f"{path}: {word!r} has id {theirs.get(word)}, in the corpus's tokenizer {ours.get(word)}")


def vocabulary_of(tokenizer: Tokenizer) -> Vocabulary:
    """Return the size and the special ids of a tokenizer's vocabulary."""
    pad, unk, cls, sep, mask = (tokenizer.token_to_id(token) for token in SPECIAL_TOKENS)
    return Vocabulary(tokenizer.get_vocab_size(), pad=pad, unk=unk, cls=cls, sep=sep, mask=mask)


class DocumentEncoder:
    """Texts turned into windows of at most `max_length` ids, each as [CLS] ... [SEP].

    chunking: "first" keeps a text's first window, "all" cuts the whole text into windows side by side (the
        paper). A text without a word has no window.

    The ids are those that the tokenizer gives to whole texts. BERT's own tokenizer never looks across a space, so
    texts are cut at their spaces and it is asked once for each distinct chunk; any other kind gets whole texts.
    """

    def __init__(self, tokenizer: Tokenizer, *, max_length: int, chunking: str):
        vocabulary = vocabulary_of(tokenizer)
        self._cls, self._sep = _to_bytes([vocabulary.cls]), _to_bytes([vocabulary.sep])
        self._room = max_length - 2
        self._only_first = chunking == "first"
        self._tokenizer = tokenizer
        self._chunks = _ChunkIds(tokenizer) if _cuts_at_spaces(tokenizer) else None

    def windows(self, text: str) -> list[np.ndarray]:
        """Return the windows of a text, each (T,) uint16."""
        ids, size = self._ids(text), self._room * ID_BYTES
        end = min(size, len(ids)) if self._only_first else len(ids)
        return [
            np.frombuffer(self._cls + ids[start : start + size] + self._sep, np.uint16) for start in range(0, end, size)
        ]

    def _ids(self, text: str) -> bytes:
        """Return the ids of a text, uint16 side by side, or at least those of its first window if no other is kept."""
        if self._chunks is None:
            return _encode(self._tokenizer, text)
        # A chunk has at least one id, mostly, so the first window lies in as many chunks: the rest is left alone.
        chunks = text.replace("\n", " ").split(" ", self._room if self._only_first else -1)
        rest = chunks.pop() if self._only_first and len(chunks) > self._room else ""
        ids = b"".join(map(self._chunks.__getitem__, chunks))
        if rest and len(ids) < self._room * ID_BYTES:
            ids += b"".join(map(self._chunks.__getitem__, rest.split(" ")))
        return ids


def _cuts_at_spaces(tokenizer: Tokenizer) -> bool:
    """Return whether a tokenizer is BERT's, without words of its own that it looks for in the raw text."""
    return (
        isinstance(tokenizer.normalizer, BertNormalizer)
        and isinstance(tokenizer.pre_tokenizer, BertPreTokenizer)
        and isinstance(tokenizer.model, WordPiece)
        and all(token.special for token in tokenizer.get_added_tokens_decoder().values())
    )


class _ChunkIds(dict[str, bytes]):
    """The ids of what stands between two spaces, uint16 side by side; those not met before are found out."""

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        # Each access to these two makes a new object, which costs more than to use it.
        self._model, self._lowercase = tokenizer.model, tokenizer.normalizer.lowercase

    def __missing__(self, chunk: str) -> bytes:
        """Find the ids of a chunk, and keep them if it is short: a long one is rarely met again."""
        if not (chunk.isascii() and chunk.isprintable()):
            ids = _encode(self._tokenizer, chunk)
        elif len(words := WORDS.findall(chunk)) == 1:
            # What the normalizer does to such a word is known, and it takes longer than the rest.
            ids = _to_bytes([token.id for token in self._model.tokenize(chunk.lower() if self._lowercase else chunk)])
        else:
            ids = b"".join([self[word] for word in words])
        if len(self) >= MAX_CHUNKS:
            self.clear()
        if len(chunk) <= MAX_CHUNK_LETTERS:
            self[chunk] = ids
        return ids


def _encode(tokenizer: Tokenizer, text: str) -> bytes:
    return _to_bytes(tokenizer.encode_batch_fast([text], add_special_tokens=False)[0].ids)


def _to_bytes(ids: list[int]) -> bytes:
    return array("H", ids).tobytes()


def encode_examples(tokenizer: Tokenizer, texts: list[tuple[str, ...]], *, max_length: int) -> list[list[int]]:
    """Return the ids of sentences (1-tuples) or pairs: [CLS] a [SEP] or [CLS] a [SEP] b [SEP].

    Longer ones lose tokens from the end of the longer sentence until they have `max_length`.
    """
    tokenizer.enable_truncation(max_length, strategy="longest_first")
    inputs = [text[0] if len(text) == 1 else text for text in texts]
    encoded = [item.ids for item in tokenizer.encode_batch_fast(inputs)]
    tokenizer.no_truncation()
    return encoded
