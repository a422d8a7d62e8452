"""WordPiece: a vocabulary that is learnt, and text that becomes ids as `transformers` would have them."""

import json

import pytest

from distilbert import wordpiece
from distilbert.wordpiece import SPECIAL_TOKENS, TOKENIZER_FILE

WORDS = "the river bridge bird stone winter market singer quickly under because nobody old red".split()
TEXTS = [" ".join(WORDS[(i * k) % len(WORDS)] for k in range(1, 12)) + ", said No. 7!" for i in range(60)]
SPECIAL_IDS = {0, 1, 2, 3, 4}
CLS, SEP = 2, 3


@pytest.fixture(scope="module")
def learnt() -> str:
    """Return a tokenizer that was learnt from the texts, as JSON."""
    return wordpiece.learn(lambda: TEXTS, vocab_size=150, lowercase=True).to_str()


@pytest.fixture
def tokenizer(learnt, tmp_path):
    """Return that tokenizer, loaded anew for each test."""
    path = tmp_path / TOKENIZER_FILE
    path.write_text(learnt, encoding="utf-8")
    return wordpiece.load(path)


def ids_of(tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False).ids


def test_the_special_tokens_come_first(tokenizer):
    """[PAD] is 0, then [UNK], [CLS], [SEP], [MASK]; the vocabulary is no larger than asked for."""
    assert [tokenizer.token_to_id(token) for token in SPECIAL_TOKENS] == [0, 1, 2, 3, 4]
    vocabulary = wordpiece.vocabulary_of(tokenizer)
    assert vocabulary.special_ids == (0, 1, 2, 3, 4)
    assert 50 < vocabulary.size <= 150


def test_learning_is_repeatable(learnt):
    """The same texts give the same vocabulary, token for token."""
    assert wordpiece.learn(lambda: TEXTS, vocab_size=150, lowercase=True).to_str() == learnt


def test_lowercase_is_a_choice():
    """With it, "River" is "river" and accents fall; without it they are different words."""
    texts = ["River river café"] * 30
    lower = wordpiece.learn(lambda: texts, vocab_size=100, lowercase=True)
    cased = wordpiece.learn(lambda: texts, vocab_size=100, lowercase=False)
    assert ids_of(lower, "River CAFÉ") == ids_of(lower, "river cafe")
    assert ids_of(cased, "River") != ids_of(cased, "river")
    assert 1 not in ids_of(cased, "River café")


def test_a_word_that_was_never_seen_is_unknown(tokenizer):
    """Letters outside the vocabulary become [UNK], not nothing."""
    assert ids_of(tokenizer, "漢") == [1]


@pytest.mark.parametrize("chunking", ["first", "all"])
@pytest.mark.parametrize("max_length", [8, 9, 64])
def test_windows_are_framed_and_bounded(tokenizer, chunking, max_length):
    """Each window is [CLS] ... [SEP] of at most max_length ids, with no special token inside."""
    documents = wordpiece.encode_documents(tokenizer, TEXTS, max_length=max_length, chunking=chunking)
    assert len(documents) == len(TEXTS)
    for window in (window for windows in documents for window in windows):
        assert (window[0], window[-1]) == (CLS, SEP)
        assert 2 < len(window) <= max_length
        assert not {CLS, SEP, 0, 4} & set(window[1:-1])


def test_all_windows_together_are_the_whole_text(tokenizer):
    """Chunking "all" loses no id and repeats none; all windows but the last are full."""
    for text, windows in zip(
        TEXTS, wordpiece.encode_documents(tokenizer, TEXTS, max_length=8, chunking="all"), strict=True
    ):
        assert [i for window in windows for i in window[1:-1]] == ids_of(tokenizer, text)
        assert all(len(window) == 8 for window in windows[:-1])


def test_the_first_window_is_the_beginning_of_the_text(tokenizer):
    """Chunking "first" keeps one window, the first of those of "all"."""
    first = wordpiece.encode_documents(tokenizer, TEXTS, max_length=8, chunking="first")
    every = wordpiece.encode_documents(tokenizer, TEXTS, max_length=8, chunking="all")
    assert first == [windows[:1] for windows in every]


def test_an_exact_fit_is_one_window(tokenizer):
    """A text that fills a window leaves no empty second one, and a text without a word has none."""
    ids = ids_of(tokenizer, TEXTS[0])
    for chunking in ("first", "all"):
        windows = wordpiece.encode_documents(
            tokenizer, [TEXTS[0], "", "  "], max_length=len(ids) + 2, chunking=chunking
        )
        assert windows == [[[CLS, *ids, SEP]], [], []]


def test_special_tokens_in_a_text_are_read_as_text(tokenizer):
    """The letters "[SEP]" or "[MASK]" in an article or an example never become the special token."""
    text = "the [SEP] river [MASK] bridge [CLS] bird [PAD]"
    (window,) = wordpiece.encode_documents(tokenizer, [text], max_length=64, chunking="all")[0]
    assert not (SPECIAL_IDS - {1}) & set(window[1:-1])
    (pair,) = wordpiece.encode_examples(tokenizer, [(text, text)], max_length=200)
    assert pair.count(SEP) == 2
    assert pair.count(CLS) == 1
    assert not {0, 4} & set(pair)


def test_examples_are_framed_as_bert_expects(tokenizer):
    """[CLS] a [SEP] for a sentence and [CLS] a [SEP] b [SEP] for a pair."""
    a, b = ids_of(tokenizer, "the old river"), ids_of(tokenizer, "a bird")
    encoded = wordpiece.encode_examples(tokenizer, [("the old river",), ("the old river", "a bird")], max_length=40)
    assert encoded == [[CLS, *a, SEP], [CLS, *a, SEP, *b, SEP]]


def test_the_longer_sentence_is_cut_first(tokenizer):
    """A pair that is too long loses the end of its longer sentence until it has exactly max_length ids."""
    long, short = ids_of(tokenizer, TEXTS[0]), ids_of(tokenizer, "old bird")
    (pair,) = wordpiece.encode_examples(tokenizer, [(TEXTS[0], "old bird")], max_length=16)
    assert pair == [CLS, *long[: 13 - len(short)], SEP, *short, SEP]
    (swapped,) = wordpiece.encode_examples(tokenizer, [("old bird", TEXTS[0])], max_length=16)
    assert swapped == [CLS, *short, SEP, *long[: 13 - len(short)], SEP]
    (single,) = wordpiece.encode_examples(tokenizer, [(TEXTS[0],)], max_length=8)
    assert single == [CLS, *long[:6], SEP]


def test_truncation_of_examples_does_not_stay_on(tokenizer):
    """Documents encoded after examples are not cut by the examples' length."""
    wordpiece.encode_examples(tokenizer, [(TEXTS[0],)], max_length=8)
    (window,) = wordpiece.encode_documents(tokenizer, [TEXTS[0]], max_length=100, chunking="all")[0]
    assert len(window) > 8


@pytest.mark.parametrize("token", SPECIAL_TOKENS)
def test_a_tokenizer_without_a_special_token_is_refused(tmp_path, learnt, token):
    """A tokenizer that lacks [MASK], or any token that BERT needs, is refused by file and token."""
    values = json.loads(learnt)
    values["model"]["vocab"]["replaced"] = values["model"]["vocab"].pop(token)
    values["added_tokens"] = [added for added in values["added_tokens"] if added["content"] != token]
    values["model"]["unk_token"] = "replaced" if token == "[UNK]" else "[UNK]"
    path = tmp_path / TOKENIZER_FILE
    path.write_text(json.dumps(values))
    with pytest.raises(ValueError) as caught:
        wordpiece.load(path)
    assert str(caught.value) == f"{path}: the vocabulary has no {token}"


def test_an_absent_or_broken_tokenizer_is_refused_by_name(tmp_path):
    """No file, and a file that is no tokenizer: one error that names it."""
    path = tmp_path / TOKENIZER_FILE
    with pytest.raises(FileNotFoundError, match=TOKENIZER_FILE):
        wordpiece.load(path)
    path.write_text('{"model": 3}')
    with pytest.raises(ValueError, match="not a tokenizer") as caught:
        wordpiece.load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("token_types", [True, False])
def test_transformers_reads_the_saved_tokenizer_alike(tmp_path, tokenizer, token_types):
    """AutoTokenizer gives the same ids, with token types only for a model that takes them."""
    from transformers import AutoTokenizer

    wordpiece.save(tokenizer, tmp_path / "model", max_length=40, token_types=token_types)
    theirs = AutoTokenizer.from_pretrained(tmp_path / "model")
    pairs = [(TEXTS[0], TEXTS[1]), ("The River, UNDER 漢!", "nobody"), (TEXTS[2], "old")]
    encoded = theirs([a for a, _ in pairs], [b for _, b in pairs], truncation="longest_first", max_length=20)
    assert encoded["input_ids"] == wordpiece.encode_examples(tokenizer, pairs, max_length=20)
    assert ("token_type_ids" in encoded) == token_types
    assert theirs.model_max_length == 40
    assert (theirs.pad_token_id, theirs.mask_token_id) == (0, 4)


def test_a_model_folder_of_other_words_is_refused(tmp_path):
    """A checkpoint whose own tokenizer has as many words, but others, is refused with the folder and a word."""
    ours = wordpiece.learn(lambda: TEXTS, vocab_size=150, lowercase=True)
    wordpiece.save(ours, tmp_path / "same", max_length=20, token_types=True)
    wordpiece.require_same_words(ours, tmp_path / "same")
    wordpiece.require_same_words(ours, tmp_path)  # no tokenizer there: nothing to compare
    text = (tmp_path / "same" / "tokenizer.json").read_text().replace('"[UNK]": 1', '"[UNK]": 4')
    (tmp_path / "tokenizer.json").write_text(text.replace('"[MASK]": 4', '"[MASK]": 1'))
    with pytest.raises(ValueError, match=r"tokenizer.json: '\[MASK\]' has id 1"):
        wordpiece.require_same_words(ours, tmp_path)
