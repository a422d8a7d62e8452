"""Examples: read with their faults named, and dealt so that no test example is ever trained on."""

import gzip
import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distilbert.examples import Example, read_examples, split_examples
from distilbert.tasks import TASKS, TaskData

MRPC = TASKS["mrpc"]
PROTOCOLS = ["official", "coursework"]


def pairs(count: int, *, start: int = 0) -> list[Example]:
    return [Example((f"Left text {i}", f"Right text {i}"), i % 2, i - start) for i in range(start, start + count)]


def repeated(examples: list[Example], seed: int) -> list[Example]:
    """Return examples with their texts again in other words' order: same, swapped, upper case, more spaces."""
    changes = (
        lambda texts: texts,
        lambda texts: texts[::-1],
        lambda texts: tuple(text.upper() for text in texts),
        lambda texts: tuple(f" {text.replace(' ', '  ')} " for text in texts),
    )
    rng = random.Random(seed)
    return [Example(rng.choice(changes)(e.texts), e.label, 1000 + e.idx) for e in examples]


def key(example: Example) -> tuple[str, ...]:
    return tuple(sorted(" ".join(text.split()).lower() for text in example.texts))


def split(train: list[Example], validation: list[Example], protocol: str, *, seed: int = 1, max_train=None) -> dict:
    return split_examples(train, validation, split=protocol, seed=seed, max_train_examples=max_train)


def write(path, columns: dict) -> None:
    pq.write_table(pa.table(columns), path)


def test_examples_are_read_with_texts_label_and_row(tmp_path):
    """The task's columns in their order, the label, and the row in the file; other columns are not needed."""
    path = tmp_path / "train.parquet"
    write(path, {"label": [1, 0], "sentence2": ["b", "d"], "sentence1": ["a", "c"], "other": [None, None]})
    assert read_examples(path, MRPC, "train") == [Example(("a", "b"), 1, 0), Example(("c", "d"), 0, 1)]


def test_the_official_split_tests_on_the_validation_file():
    """Test is the validation file, whole and in order; a tenth of training is held out; nothing is lost."""
    train, validation = pairs(4000), pairs(300, start=4000)
    parts = split(train, validation, "official")
    assert list(parts) == ["train", "validation", "test"]
    assert parts["test"] == validation
    assert len(parts["validation"]) == pytest.approx(400, abs=60)
    assert sorted(parts["train"] + parts["validation"], key=lambda e: e.idx) == train


def test_the_coursework_split_is_80_10_10_of_both_files():
    """Both files merged: a tenth each for validation and test, the rest for training; nothing is lost."""
    parts = split(pairs(3700), pairs(300, start=3700), "coursework")
    assert len(parts["test"]) == pytest.approx(400, abs=60)
    assert len(parts["validation"]) == pytest.approx(400, abs=60)
    assert sum(map(len, parts.values())) == 4000
    assert len({key(example) for part in parts.values() for example in part}) == 4000


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_no_test_example_is_trained_on(protocol):
    """Texts that repeat, swapped, in other case or with other spaces, are never on both sides of the test set."""
    train, validation = pairs(600), pairs(200, start=600)
    train += repeated(train[:300], 1) + repeated(validation[:100], 2)
    validation += repeated(validation[100:], 3) + repeated(train[300:400], 4)
    parts = split(train, validation, protocol)
    tested = {key(example) for example in parts["test"]}
    for name in ("train", "validation"):
        assert not tested & {key(example) for example in parts[name]}
    assert not {key(e) for e in parts["train"]} & {key(e) for e in parts["validation"]}
    assert len(parts["train"]) > 400


def test_pairs_that_share_one_sentence_are_not_the_same():
    """Only a pair whose two texts both stand in the test set is left out of training."""
    validation = [Example(("shared", f"other {i}"), 0, i) for i in range(50)]
    train = [Example(("shared", f"text {i}"), 1, i) for i in range(200)]
    parts = split(train, validation, "official")
    assert len(parts["train"]) + len(parts["validation"]) == 200


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_split_depends_on_seed_and_text_alone(protocol):
    """The same seed gives the same split, in any order of the file; another seed gives another."""
    train, validation = pairs(500), pairs(100, start=500)
    first = split(train, validation, protocol)
    assert split(train, validation, protocol) == first
    backwards = split(train[::-1], validation, protocol)
    assert set(map(key, backwards["train"])) == set(map(key, first["train"]))
    other = split(train, validation, protocol, seed=2)
    assert set(map(key, other["train"])) != set(map(key, first["train"]))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_max_train_examples_cuts_training_alone(protocol):
    """So many training examples, a repeatable choice from everywhere in the file; the other splits stay whole."""
    train, validation = pairs(500), pairs(100, start=500)
    whole, cut = split(train, validation, protocol), split(train, validation, protocol, max_train=50)
    assert len(cut["train"]) == 50
    assert set(cut["train"]) <= set(whole["train"])
    assert max(whole["train"].index(example) for example in cut["train"]) > 200
    assert cut["train"] == split(train, validation, protocol, max_train=50)["train"]
    for name in ("validation", "test"):
        assert cut[name] == whole[name]


def test_max_train_examples_beyond_the_file_keeps_all():
    """A limit that is larger than the training set changes nothing."""
    train, validation = pairs(300), pairs(50, start=300)
    assert split(train, validation, "official", max_train=10_000) == split(train, validation, "official")


@pytest.mark.parametrize(
    "train,validation,name",
    [(pairs(100), [], "test"), ([], pairs(100), "train"), (pairs(100), pairs(100), "train"), (pairs(1), pairs(9), "")],
    ids=["no validation file", "no training file", "all of training is tested", "one training example"],
)
def test_an_empty_split_is_refused(train, validation, name):
    """A split without an example is named, where a training would fail far from the cause."""
    with pytest.raises(ValueError, match=f"the {name}.* split has no example"):
        split(train, validation, "official")


def test_an_unknown_protocol_is_refused():
    """The message names key, value and choices."""
    with pytest.raises(ValueError, match="tasks.split: 'random' is neither 'official' nor 'coursework'"):
        split(pairs(10), pairs(10), "random")


GOOD = {"sentence1": ["a", "b", "c"], "sentence2": ["d", "e", "f"], "label": [0, 1, 0]}


@pytest.mark.parametrize(
    "changes,reason",
    [
        ({"label": [0, 7, 0]}, "row 2: label 7 is not a class of mrpc: 0 (not_equivalent), 1 (equivalent)"),
        ({"label": [0, 1, -1]}, "row 3: label -1 is not a class"),
        ({"label": [None, 1, 0]}, "row 1: label None is not a class"),
        ({"label": ["0", "1", "0"]}, "row 1: label '0' is not a class"),
        ({"label": None}, "row 1: no column label"),
        ({"sentence2": None}, "row 1: no column sentence2; it has sentence1, label"),
        ({"sentence2": ["d", None, "f"]}, "row 2: sentence2 is None, not text"),
        ({"sentence1": [1, 2, 3]}, "row 1: sentence1 is 1, not text"),
    ],
)
def test_a_wrong_row_is_refused_in_one_line(tmp_path, changes, reason):
    """A label that is no class, a missing column or a text that is none: one line with file, row and value."""
    path = tmp_path / "train.parquet"
    write(path, {name: values for name, values in (GOOD | changes).items() if values is not None})
    with pytest.raises(ValueError) as caught:
        read_examples(path, MRPC, "train")
    assert str(caught.value).startswith(f"{path}: {reason}")
    assert "\n" not in str(caught.value)


# --- Tables of the user's own --------------------------------------------------------------------------------------

OWN = TaskData(name="mine", columns=("text",), label_names=("bad", "good"), label_column="class")
CSV = b'id,text,class\n1,"He said ""no"", twice",good\n2,"two\nlines",0\n\n3,plain,1\n'
TSV = b'text\tclass\nHe said "no", twice\tgood\nplain\tbad\n'


def own(tmp_path, name: str, content: bytes) -> list[tuple[str, int]]:
    """Return text and label of each example of a file of the user's own."""
    path = tmp_path / name
    path.write_bytes(content)
    return [(example.texts[0], example.label) for example in read_examples(path, OWN, "train")]


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_a_csv_is_read_as_spreadsheets_write_it(tmp_path, end, bom):
    """Commas, doubled quotation marks and lines inside a field are text; an empty line is no row; labels as names."""
    expected = [('He said "no", twice', 1), ("two\nlines", 0), ("plain", 1)]
    assert own(tmp_path, "a.csv", bom + CSV.replace(b"\n", end)) == expected


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_in_a_tsv_a_quotation_mark_is_a_letter(tmp_path, end):
    """Only tabs part the columns."""
    expected = [('He said "no", twice', 1), ("plain", 0)]
    assert own(tmp_path, "a.tsv", TSV.replace(b"\n", end)) == expected
    assert own(tmp_path, "b.tsv", b'text\tclass\n"open\t1\n') == [('"open', 1)]


def test_the_other_formats_of_a_table_are_read(tmp_path):
    """JSON lines, a JSON list, parquet, and packed files: labels as numbers, as text or by name."""
    rows = [{"text": "a", "class": 1}, {"text": "b", "class": "0"}, {"text": "c", "class": "good"}]
    expected = [("a", 1), ("b", 0), ("c", 1)]
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    assert own(tmp_path, "a.jsonl", lines) == expected
    assert own(tmp_path, "a.json", json.dumps(rows).encode()) == expected
    assert own(tmp_path, "a.jsonl.gz", gzip.compress(lines)) == expected
    assert own(tmp_path, "a.csv.gz", gzip.compress(CSV))[2] == ("plain", 1)
    write(tmp_path / "a.parquet", {"text": ["a", "b"], "class": ["bad", "good"]})
    assert [example.label for example in read_examples(tmp_path / "a.parquet", OWN, "train")] == [0, 1]


@pytest.mark.parametrize(
    "name,content,reason",
    [
        ("a.csv", b"text,class\na,1\nb,maybe\n", "line 3: label 'maybe' is not a class of mine: 0 (bad), 1 (good)"),
        ("a.csv", b'text,class\n"a\nb",1\nc,2\n', "line 4: label '2' is not a class of mine"),
        ("a.csv", b"text,label\na,1\n", "line 2: no column class; it has text, label"),
        ("a.csv", b"text,class\na,b,1\n", "line 2: 3 columns, not 2"),
        ("a.csv", b"text,text,class\na,b,1\n", "line 1: a column stands twice in text, text, class"),
        ("a.csv", b'text,class\na,1\n"never closed,1\n', "line 3: unexpected end of data"),
        ("a.csv", b'text,class\n"' + b"x\n" * 70_000, "line 2: field larger than field limit"),
        ("a.csv", b'text,class\n"a"b,1\n', "line 2: "),
        ("a.csv", b"text,class\ncaf\xe9,1\n", "line 2: not UTF-8"),
        ("a.csv", b"text,class\n", "no example of mine"),
        ("a.csv", b"", "the file is empty"),
        ("a.tsv", b"text\tclass\na\n", "line 2: 1 columns, not 2"),
        ("a.tsv", b"text,class\na,1\n", "line 2: no column text, class; it has text,class"),
        ("a.jsonl", b'{"text": "a", "class": 2}\n', "line 1: label 2 is not a class of mine"),
        ("a.jsonl", b'{"text": 5, "class": 1}\n', "line 1: text is 5, not text"),
        ("a.txt", b"text\n", "not a format that is read (.parquet, .jsonl, .json, .csv, .tsv)"),
    ],
)
def test_a_wrong_own_table_is_refused_in_one_line(tmp_path, name, content, reason):
    """A label, a column, a row or a file that cannot be meant: one line with file, line and reason."""
    with pytest.raises(ValueError) as caught:
        own(tmp_path, name, content)
    assert str(caught.value).startswith(f"{tmp_path / name}: {reason}")
    assert "\n" not in str(caught.value)


def test_the_name_of_a_class_is_no_label_of_glue(tmp_path):
    """GLUE's files have one spelling: a name or a number as text is refused there."""
    for label in ("equivalent", "1"):
        write(tmp_path / "mrpc.parquet", GOOD | {"label": [label] * 3})
        with pytest.raises(ValueError, match="is not a class of mrpc"):
            read_examples(tmp_path / "mrpc.parquet", MRPC, "train")
