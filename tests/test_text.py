"""Text as it comes: a file is read letter by letter, or refused in one line with its name, place and reason."""

import gzip
import io
import json
import lzma
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from distilbert.examples import read_examples
from distilbert.glue import OFFICIAL
from distilbert.sources import read_documents
from distilbert.tasks import TASKS

SCRIPTS = Path(__file__).parent.parent / "workflow" / "scripts"

# What it is -> a text that a careless reader changes, cuts, drops or takes for something else.
TEXTS = {
    "emoji beyond the first plane": "grin 😀 and flag 🇫🇷",
    "zero-width joiners": "family 👨\u200d👩\u200d👧 می\u200cخواهم",
    "precomposed letters, NFC": "caf\u00e9 \u00c5ngstr\u00f6m",
    "combining marks, NFD": "cafe\u0301 A\u030angstro\u0308m",
    "right to left, with bidi marks": "\u202eabc\u202c שלום \u200fعالم\u200e",
    "Chinese, Japanese, Korean": "漢字かな交じり文 한국어 文章",
    "U+2028 and U+2029, lines to str.splitlines": "one\u2028two\u2029three",
    "U+0085, a line to str.splitlines": "one\x85two",
    "vertical tab, form feed, file separators": "one\x0btwo\x0cthree\x1cfour\x1dfive\x1esix",
    "a lone carriage return, a line to universal newlines": "one\rtwo\r\rthree",
    "NUL": "one\0two",
    "a byte order mark inside": "one\ufefftwo",
    "the last code point": "one\U0010ffff two",
    "an opening quote that nothing closes": '"one two',
    "quotes inside and doubled": 'one "two" ""three"" \'four',
    "backslashes": r"C:\new\table \" \\ \u0041",
    "NA, a missing value to pandas": "NA",
    "None": "None",
    "nan": "nan",
    "null": "null",
    "NULL": "NULL",
    "n/a": "n/a",
    "true": "true",
    "a number with leading zeros": "007",
    "a number in exponent form": "1e5",
    "a date": "2020-01-01",
    "a JSON object": '{"text": "inner"}',
    "one word": "word",
    "a comment sign first": "# one",
    "a word of a million letters without a space": "x" * 1_000_000,
}
WITH_TABS = {"tabs": "one\ttwo\t\tthree", "a quoted field of CSV": 'one\t"two\tthree"'}


def parquet(texts: list) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": texts}), sink)
    return sink.getvalue()


def json_lines(texts: list, *, ascii_only: bool = False) -> bytes:
    return "".join(json.dumps({"text": text}, ensure_ascii=ascii_only) + "\n" for text in texts).encode()


def paragraphs(texts: list) -> bytes:
    return "\n\n".join(texts).encode()


def zst(content: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(content)


WRITE = {
    "a.parquet": parquet,
    "a.jsonl": json_lines,
    "escaped.jsonl": lambda texts: json_lines(texts, ascii_only=True),
    "crlf.jsonl": lambda texts: json_lines(texts).replace(b"\n", b"\r\n"),
    "list.json": lambda texts: json.dumps([{"text": text} for text in texts], indent=1).encode(),
    "a.txt": paragraphs,
    "crlf.txt": lambda texts: paragraphs(texts).replace(b"\n", b"\r\n"),
    "bom.txt": lambda texts: b"\xef\xbb\xbf" + paragraphs(texts),
    "a.txt.gz": lambda texts: gzip.compress(paragraphs(texts)),
    "a.jsonl.xz": lambda texts: lzma.compress(json_lines(texts)),
    "a.jsonl.zst": lambda texts: zst(json_lines(texts)),
}


@pytest.mark.parametrize("name", WRITE)
def test_a_corpus_gives_every_text_as_it_was_written(tmp_path, name):
    """In every format, each text of the list comes back letter by letter, in its place, and none is lost."""
    texts = TEXTS | WITH_TABS
    (tmp_path / name).write_bytes(WRITE[name](list(texts.values())))
    read = [text for _, text in read_documents(tmp_path / name)]
    assert len(read) == len(texts)
    for (what, text), found in zip(texts.items(), read, strict=True):
        assert found == text, what


def refused(path: Path, read) -> str:
    """Return why a file is refused, after checking that it is one line that begins with the file's name."""
    with pytest.raises(ValueError) as caught:
        list(read(path))
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert len(message.splitlines()) == 1
    return message.removeprefix(f"{path}: ")


# What it proves -> file, content, the texts that are read, or how the reason of its refusal begins.
CORPORA = {
    "malformed UTF-8 is refused, not replaced": ("a.txt", b"one\n\ntwo \xff", "line 3: not UTF-8"),
    "UTF-8 that ends within a letter": ("a.txt", "one\n\ncafé".encode()[:-1], "line 3: not UTF-8"),
    "malformed UTF-8 in JSON": ("a.jsonl", b'{"text": "a"}\n{"text": "caf\xe9"}\n', "line 2: not UTF-8"),
    "UTF-16": ("a.txt", "one".encode("utf-16"), "line 1: not UTF-8"),
    "malformed UTF-8 in parquet": (
        "a.parquet",
        parquet(
            pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff")])
        ),
        "not UTF-8",
    ),
    "a byte order mark is no text": ("a.jsonl", b'\xef\xbb\xbf{"text": "one"}\n', ["one"]),
    "CRLF blank lines end documents": ("a.txt", b"one\r\nmore\r\n\r\ntwo\r\n", ["one\nmore", "two"]),
    "a line of spaces and tabs is blank": ("a.txt", b"one\n \t\ntwo", ["one", "two"]),
    "many blank lines end one document": ("a.txt", b"\n\none\n\n\n\ntwo\n\n\n", ["one", "two"]),
    "no newline at the end": ("a.jsonl", b'{"text": "one"}\n{"text": "two"}', ["one", "two"]),
    "blank lines between JSON lines": ("a.jsonl", b'\n{"text": "one"}\n\n \r\n{"text": "two"}\n', ["one", "two"]),
    "half a surrogate pair": (
        "a.jsonl",
        b'{"text": "fine"}\n{"text": "a\\ud800b"}\n',
        "line 2: text has a lone surrogate at character 2",
    ),
    "half a surrogate pair in an id": (
        "a.jsonl",
        b'{"id": "\\udfff", "text": "fine"}\n',
        "line 1: id has a lone surrogate at character 1",
    ),
    "a whole surrogate pair is a letter": ("a.jsonl", b'{"text": "\\ud83d\\ude00"}\n', ["😀"]),
    "a trailing comma": (
        "a.jsonl",
        b'{"text": "a"},\n{"text": "b"}\n',
        "line 1: JSON parse error: Extra data (column 14)",
    ),
    "a line that is no JSON": ("a.jsonl", b'{"text": "a"}\noops\n', "line 2: JSON parse error: Expecting value"),
    "a line that was cut": ("a.jsonl", b'{"text": "a"}\n{"text": "b', "line 2: JSON parse error: Unterminated string"),
    "two objects on a line": ("a.jsonl", b'{"text": "a"}{"text": "b"}\n', "line 1: JSON parse error: Extra data"),
    "a key that stands twice": (
        "a.jsonl",
        b'{"text": "a", "text": "b"}\n',
        "line 1: JSON parse error: a key stands twice",
    ),
    "brackets too deep": ("a.jsonl", b'{"text": "a"}\n' + b"[" * 10**5, "line 2: JSON parse error: maximum recursion"),
    "a list among JSON lines": ("a.jsonl", b'{"text": "a"}\n["b"]\n', "line 2: ['b'] is not a JSON object"),
    "a list of strings": ("a.json", b'["one", "two"]', "item 1: 'one' is not a JSON object"),
    "a number for text": ("a.jsonl", b'{"text": "a"}\n{"text": 5}\n', "line 2: text is 5, not text"),
    "a number for text long after texts": (
        "a.jsonl",
        json_lines(["x" * 1000] * 12_000) + b'{"text": 5}\n',
        "line 12001: text is 5, not text",
    ),
    "a list for text": ("a.jsonl", b'{"text": ["a"]}\n', "line 1: text is ['a'], not text"),
    "a value far too long to print": ("a.jsonl", json_lines([[0] * 10**6]), "line 1: text is [0, 0, 0,"),
    "a row without text": ("a.jsonl", b'{"text": "a"}\n{"y": 1}\n', "line 2: no column text; it has y"),
    "null is no document": ("a.jsonl", json_lines(["a", None, "b"]), ["a", "b"]),
    "nulls in parquet are no documents": ("a.parquet", parquet(["a", None, "b"]), ["a", "b"]),
    "parquet of nulls only": ("a.parquet", parquet([None, None]), []),
    "parquet without a row": ("a.parquet", parquet(pa.array([], pa.string())), []),
    "large_string": ("a.parquet", parquet(pa.array(["a", "b"], pa.large_string())), ["a", "b"]),
    "string_view": ("a.parquet", parquet(pa.array(["a", "b"], pa.string_view())), ["a", "b"]),
    "dictionary": ("a.parquet", parquet(pa.array(["a", "b", "a"]).dictionary_encode()), ["a", "b", "a"]),
    "binary is not taken for text": ("a.parquet", parquet(pa.array([b"a"])), "row 1: text is b'a', not text"),
    "a float for text": ("a.parquet", parquet([1.5]), "row 1: text is 1.5, not text"),
    "a parquet file that was cut": ("a.parquet", parquet(["a"])[:-9], ""),
    "what only calls itself parquet": ("a.parquet", b"PAR1 not really", ""),
    "a gzip file that was cut": ("a.txt.gz", gzip.compress(b"one\n\ntwo" * 99)[:-9], "Compressed file ended before"),
    "an xz file that was cut": ("a.txt.xz", lzma.compress(b"one\n\ntwo" * 99)[:-9], "Compressed file ended before"),
    "a zstd file that was cut": ("a.txt.zst", zst(b"one\n\ntwo" * 99)[:-3], "the zstd file ends in the middle"),
    "a packed file of no byte, silently empty to gzip": ("a.txt.gz", b"", "the file is empty"),
    "a plain file of no byte": ("a.txt", b"", "the file is empty"),
    "duplicate ids are two documents": ("a.jsonl", b'{"id": 7, "text": "a"}\n{"id": 7, "text": "b"}\n', ["a", "b"]),
    "an article of one word": ("a.txt", b"word", ["word"]),
    "a paragraph that ends a chunk of 10 MB": (
        "a.txt",
        "é".encode() * (5 << 20) + b"\n\nb",
        ["é" * (5 << 20), "b"],
    ),
    "letters across all chunks of 10 MB": ("a.txt", ("x" + "漢" * (7 << 20)).encode(), ["x" + "漢" * (7 << 20)]),
}


@pytest.mark.parametrize("what", CORPORA)
def test_a_corpus_is_read_right_or_refused(tmp_path, what):
    """Each case of the table: exactly these texts, or one line with the file, where the fault is, and what it is."""
    name, content, expected = CORPORA[what]
    (tmp_path / name).write_bytes(content)
    if isinstance(expected, str):
        reason = refused(tmp_path / name, read_documents)
        assert reason.startswith(expected)
        assert len(reason) < 300
    else:
        assert [text for _, text in read_documents(tmp_path / name)] == expected


@pytest.mark.parametrize("name", ["a[1].parquet", "a*.parquet", "a::b.parquet", "a?.parquet"])
def test_a_file_name_is_no_pattern(tmp_path, name):
    """A name with signs of a pattern is that file: `datasets` read a1.parquet where a[1].parquet was asked for."""
    for other in ("a1.parquet", "ab.parquet"):
        (tmp_path / other).write_bytes(parquet(["of another file"]))
    (tmp_path / name).write_bytes(parquet(["right"]))
    assert [text for _, text in read_documents(tmp_path / name)] == ["right"]


@pytest.mark.parametrize("suffix", [".txt", ".jsonl", ".parquet"])
def test_an_article_of_100_megabytes_is_one_document(tmp_path, suffix):
    """100 MB without a newline: one document, whole, in seconds."""
    text, path = "word " * (20 << 20), tmp_path / f"big{suffix}"
    path.write_bytes(WRITE[f"a{suffix}"]([text]))
    started = time.monotonic()
    ((_, read),) = read_documents(path)
    assert read == text.strip()
    assert time.monotonic() - started < 30
    path.unlink()


@pytest.mark.parametrize(
    "name,content,limit",
    [
        ("a.txt", b" \n" * 1_000_000, 20),
        ("a.jsonl", b'{"text": ""}\n' * 200_000, 20),  # fewer, lest the test take half a minute
        ("a.parquet", parquet([""] * 200_000), 60),
    ],
    ids=["a million txt", "200,000 jsonl", "200,000 parquet"],
)
def test_very_many_empty_documents_take_no_memory(tmp_path, name, content, limit):
    """None is a document; a fresh process reads them in seconds and grows by less than `limit` MB meanwhile."""
    path = tmp_path / name
    path.write_bytes(content)
    program = (
        "import resource, sys; from pathlib import Path; from distilbert.sources import read_documents\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "small, path = map(Path, sys.argv[1:])\n"
        "list(read_documents(small)); before = peak()\n"
        "print(sum(1 for _ in read_documents(path)), peak() - before)"
    )
    small = tmp_path / f"small{path.suffix}"
    small.write_bytes(WRITE[f"a{path.suffix}"](["word"]))  # what importing takes is not counted
    command = [sys.executable, "-c", program, str(small), str(path)]
    done = subprocess.run(command, cwd=SCRIPTS, capture_output=True, text=True, check=True, timeout=60)
    documents, grown = map(int, done.stdout.split())
    assert documents == 0
    assert grown < limit * 1024  # ru_maxrss counts KB


# --- The tasks' files ---------------------------------------------------------------------------------------


def tsv(task: str, rows: list[tuple[list[str], str]], *, end: str = "\n", bom: bool = False) -> bytes:
    """Return an official TSV of a task from (texts, label as GLUE writes it)."""
    official = OFFICIAL[task]
    lines = ["\t".join(official.header)] if official.header else []
    for texts, label in rows:
        named = dict(zip(TASKS[task].columns, texts, strict=True)) | {"label": label}
        lines.append("\t".join(named.get(column, f"({column})") for column in official.columns))
    return b"\xef\xbb\xbf" * bom + "".join(line + end for line in lines).encode()


def label_of(task: str, label: int) -> str:
    return TASKS[task].label_names[label] if task == "rte" else str(label)


@pytest.mark.parametrize("form", ["tsv", "crlf", "bom", "zip", "parquet"])
@pytest.mark.parametrize("task", TASKS)
def test_a_task_gives_every_text_as_it_was_written(tmp_path, task, form):
    """Each text of the list, in each column of each task, in each layout: letter by letter, no row lost or cut."""
    columns = TASKS[task].columns
    texts = list((TEXTS | (WITH_TABS if form == "parquet" else {})).values())
    rows = [([texts[(i + shift) % len(texts)] for shift in range(len(columns))], i % 2) for i in range(len(texts))]
    labelled = [(row, label_of(task, label)) for row, label in rows]
    if form == "parquet":
        path = tmp_path / "train.parquet"
        table = {column: [row[i] for row, _ in rows] for i, column in enumerate(columns)}
        pq.write_table(pa.table(table | {"label": [label for _, label in rows]}), path)
    elif form == "zip":
        path = tmp_path / "x.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"{OFFICIAL[task].folder}/train.tsv", tsv(task, labelled))
    else:
        path = tmp_path / "train.tsv"
        path.write_bytes(tsv(task, labelled, end="\r\n" if form == "crlf" else "\n", bom=form == "bom"))
    examples = read_examples(path, TASKS[task], "train")
    assert [(list(example.texts), example.label) for example in examples] == rows
    assert [example.idx for example in examples] == list(range(len(rows)))


COLA = "gj04\t1\t\tIt is one.\ngj04\t0\t*\tIt are two.\n"
RTE = "index\tsentence1\tsentence2\tlabel\n0\tone\ttwo\tentailment\n"
QQP = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
# What it proves -> task, content, the labels that are read, or how the reason of its refusal begins.
TSVS = {
    "two good rows": ("cola", COLA, [1, 0]),
    "no newline at the end": ("cola", COLA.removesuffix("\n"), [1, 0]),
    "duplicate ids are two examples": ("rte", RTE + "0\tthree\tfour\tnot_entailment\n", [0, 1]),
    "a label as GLUE's RTE has it": ("rte", RTE, [0]),
    "an empty text is a text": ("sst2", "sentence\tlabel\n\t1\n", [1]),
    "a short row": ("cola", COLA + "gj04\t1\tIt is.\n", "line 3: 3 columns, not 4"),
    "a long row": ("cola", COLA + "gj04\t1\t\tIt is\ta tab.\n", "line 3: 5 columns, not 4"),
    "an empty line": ("cola", COLA + "\n" + COLA, "line 3: 1 columns, not 4"),
    "label 7": ("cola", COLA + "gj04\t7\t\tIt is.\n", "line 3: label '7' is not a class of cola: 0 (unacceptable), 1"),
    "a float label": ("cola", COLA + "gj04\t1.0\t\tIt is.\n", "line 3: label '1.0' is not a class of cola"),
    "a label of spaces": ("cola", COLA + "gj04\t 1\t\tIt is.\n", "line 3: label ' 1' is not a class of cola"),
    "no label": ("cola", COLA + "gj04\t\t\tIt is.\n", "line 3: label '' is not a class of cola"),
    "a number where RTE has names": ("rte", RTE + "1\tone\ttwo\t0\n", "line 3: label '0' is not a class of rte"),
    "a label of a million letters": ("cola", f"a\t{'1' * 10**6}\t\tb\n", "line 1: label '111"),
    "malformed UTF-8": ("cola", COLA.encode() + b"gj04\t1\t\tcaf\xe9\n", "line 3: not UTF-8"),
    "GLUE's test file, which has no labels": (
        "rte",
        "index\tsentence1\tsentence2\n0\ta\tb\n",
        "line 1: the header is 'index\\tsentence1\\tsentence2', not index, sentence1, sentence2, label",
    ),
    "a file of another task": ("sst2", RTE, "line 1: the header is"),
    "a header where none should be": (
        "cola",
        "source\tlabel\tstar\tsentence\n",
        "line 1: label 'label' is not a class",
    ),
    "an empty file": ("rte", "", "line 1: the header is ''"),
    "an empty file without a header": ("cola", "", "no example of cola"),
    "a header alone": ("rte", RTE.splitlines()[0] + "\n", "no example of rte"),
    "broken questions of QQP are left out": ("qqp", QQP + '1\t2\t3\t"What\nis it?\t0\n4\t5\t6\ta\tb\t1\n', [1]),
    "too many broken questions of QQP": ("qqp", QQP + "1\t2\n" * 101, "line 102: 2 columns, not 6"),
}


@pytest.mark.parametrize("what", TSVS)
def test_a_tsv_is_read_right_or_refused(tmp_path, what):
    """Each case of the table: exactly these examples, or one line with the file, the line and the reason."""
    task, content, expected = TSVS[what]
    path = tmp_path / "train.tsv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    if isinstance(expected, str):
        reason = refused(path, lambda path: read_examples(path, TASKS[task], "train"))
        assert reason.startswith(expected)
        assert len(reason) < 300
    else:
        assert [example.label for example in read_examples(path, TASKS[task], "train")] == expected


TABLES = {
    "float labels that are whole": ({"label": [1.0, 0.0]}, [1, 0]),
    "a float label that is not": ({"label": [1.0, 0.5]}, "row 2: label 0.5 is not a class of sst2"),
    "a label that pandas lost": ({"label": [1.0, float("nan")]}, "row 2: label nan is not a class of sst2"),
    "label 7": ({"label": [1, 7]}, "row 2: label 7 is not a class of sst2: 0 (negative), 1 (positive)"),
    "no label": ({"label": [1, None]}, "row 2: label None is not a class of sst2"),
    "no column of labels": ({}, "row 1: no column label; it has sentence"),
    "a null for text": ({"sentence": ["a", None], "label": [0, 1]}, "row 2: sentence is None, not text"),
    "binary for text": ({"sentence": [b"a", b"b"], "label": [0, 1]}, "row 1: sentence is b'a', not text"),
    "a table without a row": ({"sentence": pa.array([], pa.string()), "label": pa.array([], pa.int64())}, "no example"),
}


@pytest.mark.parametrize("what", TABLES)
def test_a_tasks_parquet_is_read_right_or_refused(tmp_path, what):
    """Each case of the table: exactly these examples, or one line with the file, the row and the reason."""
    changes, expected = TABLES[what]
    path = tmp_path / "train.parquet"
    pq.write_table(pa.table({"sentence": ["a", "b"]} | changes), path)
    if isinstance(expected, str):
        assert refused(path, lambda path: read_examples(path, TASKS["sst2"], "train")).startswith(expected)
    else:
        assert [example.label for example in read_examples(path, TASKS["sst2"], "train")] == expected


# --- Files that cannot be opened ----------------------------------------------------------------------------

READ = {
    "corpus.parquet": read_documents,
    "corpus.jsonl": read_documents,
    "corpus.txt": read_documents,
    "corpus.txt.zst": read_documents,
    "task.parquet": lambda path: read_examples(path, TASKS["cola"], "train"),
    "task.tsv": lambda path: read_examples(path, TASKS["cola"], "train"),
    "task.zip": lambda path: read_examples(path, TASKS["cola"], "train"),
}


@pytest.mark.parametrize("name", READ)
def test_a_file_that_vanished_is_named(tmp_path, name):
    """A file that was deleted after the jobs were planned: its name, and that it is not there."""
    assert refused(tmp_path / name, READ[name]) == "No such file or directory"


@pytest.mark.parametrize("name", READ)
def test_a_folder_where_a_file_should_be_is_named(tmp_path, name):
    """A folder of the file's name is not searched for something to read."""
    (tmp_path / name).mkdir()
    (tmp_path / name / "a.parquet").write_bytes(parquet(["inside"]))
    assert refused(tmp_path / name, READ[name]) == "Is a directory"


@pytest.fixture
def without_privileges():
    """Be nobody for a while where the tests run as root, who may read everything."""
    if os.geteuid() == 0:
        os.seteuid(65534)
        yield
        os.seteuid(0)
    else:
        yield


@pytest.mark.parametrize("name", READ)
def test_a_file_that_may_not_be_read_is_named(tmp_path, name, request):
    """A file without permission: its name, and that permission is denied."""
    (tmp_path / name).write_bytes(b"secret")
    (tmp_path / name).chmod(0)
    request.getfixturevalue("without_privileges")
    assert refused(tmp_path / name, READ[name]) == "Permission denied"
