"""WordPiece: a vocabulary that is learnt, and text that becomes ids as `transformers` would have them."""

import json
import random

import pytest
from tokenizers.normalizers import Replace

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


def windows_of(tokenizer, texts: list[str], *, max_length: int, chunking: str) -> list[list[list[int]]]:
    encoder = wordpiece.DocumentEncoder(tokenizer, max_length=max_length, chunking=chunking)
    return [[window.tolist() for window in encoder.windows(text)] for text in texts]


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
    documents = windows_of(tokenizer, TEXTS, max_length=max_length, chunking=chunking)
    assert len(documents) == len(TEXTS)
    for window in (window for windows in documents for window in windows):
        assert (window[0], window[-1]) == (CLS, SEP)
        assert 2 < len(window) <= max_length
        assert not {CLS, SEP, 0, 4} & set(window[1:-1])


def test_all_windows_together_are_the_whole_text(tokenizer):
    """Chunking "all" loses no id and repeats none; all windows but the last are full."""
    for text, windows in zip(TEXTS, windows_of(tokenizer, TEXTS, max_length=8, chunking="all"), strict=True):
        assert [i for window in windows for i in window[1:-1]] == ids_of(tokenizer, text)
        assert all(len(window) == 8 for window in windows[:-1])


def test_the_first_window_is_the_beginning_of_the_text(tokenizer):
    """Chunking "first" keeps one window, the first of those of "all"."""
    first = windows_of(tokenizer, TEXTS, max_length=8, chunking="first")
    every = windows_of(tokenizer, TEXTS, max_length=8, chunking="all")
    assert first == [windows[:1] for windows in every]


def test_an_exact_fit_is_one_window(tokenizer):
    """A text that fills a window leaves no empty second one, and a text without a word has none."""
    ids = ids_of(tokenizer, TEXTS[0])
    for chunking in ("first", "all"):
        windows = windows_of(tokenizer, [TEXTS[0], "", "  "], max_length=len(ids) + 2, chunking=chunking)
        assert windows == [[[CLS, *ids, SEP]], [], []]


# Letters with which something goes wrong where texts are cut, cleaned or lowered carelessly.
NASTY_LETTERS = [
    *(chr(code) for code in range(0x80)),  # controls, punctuation, letters
    *"   ,.-'abcABC",  # more of what is common, so that there are words at all
    *"\x85\xa0\xad\u1680\u2003\u2028\u2029\u200b\u200d\u202e\u2060\u3000\ufeff\ufffd\ue000\U0010ffff",
    *"éÉñÅßİıΣσςﬁǆ½²٣≠≮\u037e\u1fef\u0301\u0308\u030a\u0338\u20e3\ufe0f",  # accents, cases, what NFD changes
    *"漢字かな한국שלוםمی，。！？“”—…«»¿·€№",  # of other writings, and their punctuation
    *"😀🇫🇷👩🏽𝒜𠀀",  # beyond the first plane
]
NASTY_TEXTS = [
    "Ångström's café, naïve\u0301 re\u0301sume\u0301!  (A)\tB\n\nC\r\nD",
    "漢字かな交じり文 mixed漢字words 한국어 文章，。",
    "family 👨\u200d👩\u200d👧 grin😀flag🇫🇷 e=mc² ½ №5 €3.50 10%-20% don't... [SEP] [MASK]ed",
    "zero\u200bwidth soft\xadhyphen nbsp\xa0here one\u2028two\x85three\0four\x1cfive \x01 \ufffd \u0301 end",
    "a word of " + "x" * 100 + " " + "y" * 101 + " " + "é" * 150 + "," + "z" * 5000 + " letters",
    " \n\t\r  ",
    "\x00" * 300 + " behind " + "\x01 " * 300 + " chunks without an id",
    "a" + " " * 1000 + "b" + "\n" * 1000 + "c" + "\t" * 1000 + "d",
    "!" * 500,
]


def nasty_texts() -> list[str]:
    """Return the texts above and 400 of random letters, from no letter to 600."""
    draw = random.Random(0)
    return NASTY_TEXTS + ["".join(draw.choices(NASTY_LETTERS, k=draw.randrange(600))) for _ in range(400)]


@pytest.fixture(scope="module")
def nasty() -> dict[str, str]:
    """Return tokenizers whose vocabularies hold most of the nasty letters, as JSON: of lower case, and cased."""
    texts = nasty_texts() + TEXTS
    return {
        name: wordpiece.learn(lambda: texts, vocab_size=1500, lowercase=name == "lower").to_str()
        for name in ("lower", "cased")
    }


NORMALIZERS = {
    "lower": {},
    "cased": {},
    "accents kept in lower case": {"strip_accents": False},
    "not cleaned": {"clean_text": False, "handle_chinese_chars": False},
}


@pytest.mark.parametrize("normalizer", NORMALIZERS)
@pytest.mark.parametrize("max_length", [3, 16, 128])
def test_the_ids_are_those_of_whole_texts(tmp_path, nasty, normalizer, max_length):
    """Cut at spaces and remembered, a text has exactly the ids that the tokenizer gives to it as a whole."""
    path, texts, room = tmp_path / TOKENIZER_FILE, nasty_texts(), max_length - 2
    values = json.loads(nasty["cased" if normalizer == "cased" else "lower"])
    values["normalizer"] |= NORMALIZERS[normalizer]
    path.write_text(json.dumps(values))
    tokenizer = wordpiece.load(path)
    whole = [ids_of(tokenizer, text) for text in texts]
    assert len({i for ids in whole for i in ids}) > 500
    every = windows_of(tokenizer, texts, max_length=max_length, chunking="all")
    first = windows_of(tokenizer, texts, max_length=max_length, chunking="first")
    for text, ids, windows, beginning in zip(texts, whole, every, first, strict=True):
        assert windows == [[CLS, *ids[i : i + room], SEP] for i in range(0, len(ids), room)], text[:50]
        assert beginning == windows[:1], text[:50]


def test_the_ids_are_those_of_transformers(tmp_path, nasty):
    """The windows are those of a BertTokenizerFast that truncates, or that returns what overflows as well."""
    from transformers import BertTokenizerFast

    (tmp_path / TOKENIZER_FILE).write_text(nasty["lower"])
    tokenizer = wordpiece.load(tmp_path / TOKENIZER_FILE)
    theirs = BertTokenizerFast.from_pretrained(tmp_path, do_lower_case=True)
    # They read the letters "[SEP]" as the special token, and give one empty window to a text without a word.
    texts = [text for text in nasty_texts() if "[" not in text and ids_of(tokenizer, text)]
    for chunking, options in {"first": {}, "all": {"return_overflowing_tokens": True}}.items():
        expected = theirs(texts, truncation=True, max_length=16, **options)["input_ids"]
        documents = windows_of(tokenizer, texts, max_length=16, chunking=chunking)
        assert [window for windows in documents for window in windows] == expected


def test_forgetting_changes_no_id(tokenizer, monkeypatch):
    """A text of more distinct chunks than are remembered, or of longer ones, has the same ids."""
    expected = windows_of(tokenizer, TEXTS, max_length=64, chunking="all")
    monkeypatch.setattr(wordpiece, "MAX_CHUNKS", 3)
    monkeypatch.setattr(wordpiece, "MAX_CHUNK_LETTERS", 4)
    assert windows_of(tokenizer, TEXTS, max_length=64, chunking="all") == expected


def test_a_tokenizer_that_looks_across_spaces_gets_whole_texts(tokenizer):
    """A vocabulary with a word that holds a space, and one whose normalizer takes spaces away, keep their ids."""
    tokenizer.add_tokens(["old river"])
    text = "the old river under the old bridge"
    ids = ids_of(tokenizer, text)
    assert tokenizer.token_to_id("old river") in ids
    assert windows_of(tokenizer, [text], max_length=64, chunking="all") == [[[CLS, *ids, SEP]]]
    assert windows_of(tokenizer, [text], max_length=4, chunking="first") == [[[CLS, *ids[:2], SEP]]]
    tokenizer.normalizer = Replace(" ", "")
    ids = ids_of(tokenizer, "ol d ri ver")
    assert windows_of(tokenizer, ["ol d ri ver"], max_length=64, chunking="all") == [[[CLS, *ids, SEP]]]


def test_special_tokens_in_a_text_are_read_as_text(tokenizer):
    """The letters "[SEP]" or "[MASK]" in an article or an example never become the special token."""
    text = "the [SEP] river [MASK] bridge [CLS] bird [PAD]"
    (window,) = windows_of(tokenizer, [text], max_length=64, chunking="all")[0]
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
    (window,) = windows_of(tokenizer, [TEXTS[0]], max_length=100, chunking="all")[0]
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
