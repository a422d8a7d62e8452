"""WordPiece tokenizers (Devlin et al. 2019): learnt from a corpus or read, and text turned into ids with them.

The special tokens keep their meaning to the model alone: the letters "[SEP]" in an article are read as text.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

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


def encode_documents(
    tokenizer: Tokenizer, texts: list[str], *, max_length: int, chunking: str
) -> list[list[list[int]]]:
    """Return for each text its windows of at most `max_length` ids, each as [CLS] ... [SEP].

    chunking: "first" keeps a text's first window, "all" cuts the whole text into windows side by side (the
        paper). A text without a word has no window.
    """
    vocabulary, room = vocabulary_of(tokenizer), max_length - 2
    encoded = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    documents = []
    for ids in (item.ids for item in encoded):
        end = len(ids) if chunking == "all" else min(room, len(ids))
        documents.append(
            [[vocabulary.cls, *ids[start : start + room], vocabulary.sep] for start in range(0, end, room)]
        )
    return documents


def encode_examples(tokenizer: Tokenizer, texts: list[tuple[str, ...]], *, max_length: int) -> list[list[int]]:
    """Return the ids of sentences (1-tuples) or pairs: [CLS] a [SEP] or [CLS] a [SEP] b [SEP].

    Longer ones lose tokens from the end of the longer sentence until they have `max_length`.
    """
    tokenizer.enable_truncation(max_length, strategy="longest_first")
    inputs = [text[0] if len(text) == 1 else text for text in texts]
    encoded = [item.ids for item in tokenizer.encode_batch_fast(inputs)]
    tokenizer.no_truncation()
    return encoded
