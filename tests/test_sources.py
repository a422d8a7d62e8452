"""Sources: every format gives the same documents, and what cannot be read right is refused in one line."""

import gzip
import json
import lzma

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from distilbert.sources import corpus_files, read_documents, split_of

TEXTS = [f"Document {i}: naïve café 漢字.\nIts second line says {i * i}." for i in range(60)]
COMPRESS = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress, ".zst": zstandard.ZstdCompressor().compress}
FRACTIONS = {"validation_fraction": 0.05, "test_fraction": 0.1}


def to_parquet(texts: list) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"text": texts}), sink)
    return sink.getvalue().to_pybytes()


def to_json_lines(texts: list) -> bytes:
    return "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()


def to_text(texts: list) -> bytes:
    return ("\n\n".join(texts) + "\n").encode()


ENCODE = {".parquet": to_parquet, ".jsonl": to_json_lines, ".txt": to_text}
# A parquet file packs itself.
READ = [(".parquet", ""), *((suffix, compression) for suffix in (".jsonl", ".txt") for compression in COMPRESS)]


def refusal(path, content: bytes) -> str:
    """Return the message with which a file is refused, after checking that it is one line that names the file."""
    path.write_bytes(content)
    with pytest.raises(ValueError) as caught:
        list(read_documents(path))
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("suffix,compression", READ)
def test_every_format_gives_the_same_documents(tmp_path, suffix, compression):
    """Parquet, JSON lines and plain text (a blank line between documents), packed or not: same texts, same ids."""
    path = tmp_path / f"corpus{suffix}{compression}"
    path.write_bytes(COMPRESS[compression](ENCODE[suffix](TEXTS)))
    reference = tmp_path / "reference.jsonl"
    reference.write_bytes(to_json_lines(TEXTS))
    documents = list(read_documents(path))
    assert [text for _, text in documents] == TEXTS
    assert documents == list(read_documents(reference))


@pytest.mark.parametrize("compression", [".gz", ".xz", ".zst"])
def test_a_packed_parquet_file_is_read_or_refused_by_name(tmp_path, compression):
    """A parquet file that was packed once more gives its documents or one line with its name, never nothing."""
    path = tmp_path / f"corpus.parquet{compression}"
    path.write_bytes(COMPRESS[compression](to_parquet(TEXTS)))
    try:
        assert [text for _, text in read_documents(path)] == TEXTS
    except ValueError as error:
        assert str(error).startswith(f"{path}: ")


def test_documents_keep_their_id(tmp_path):
    """The `id` column is the identity where there is one, as text."""
    path = tmp_path / "corpus.jsonl"
    path.write_text('{"id": 12, "text": "a"}\n{"id": 13, "text": "b"}\n')
    assert list(read_documents(path)) == [("12", "a"), ("13", "b")]


def test_documents_without_an_id_are_known_by_their_content(tmp_path):
    """Without ids, equal texts have equal ids wherever they stand, and different texts different ones."""
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    first.write_bytes(to_json_lines(["one", "two"]))
    second.write_bytes(to_json_lines(["zero", "two"]))
    ids = {path: {text: identity for identity, text in read_documents(path)} for path in (first, second)}
    assert ids[first]["two"] == ids[second]["two"]
    assert len({ids[first]["one"], ids[first]["two"], ids[second]["zero"]}) == 3


def test_documents_without_text_are_left_out(tmp_path):
    """Null, empty and blank texts are no documents; the others are stripped."""
    path = tmp_path / "corpus.jsonl"
    path.write_bytes(to_json_lines([None, "", " \n ", "  kept \n"]))
    assert [text for _, text in read_documents(path)] == ["kept"]


@pytest.mark.parametrize(
    "name,content,reason",
    [
        ("a.txt", "fine\n\ncafé".encode("latin-1"), "not UTF-8"),
        ("a.jsonl", b'{"text": "caf\xe9"}\n', "not UTF-8"),
        ("a.jsonl", b'{"text": "fine"}\n{"text": \n', "JSON parse error"),
        ("a.jsonl", b'{"title": "fine"}\n', "line 1: no column text; it has title"),
        ("a.jsonl", b'{"text": "fine"}\n{"text": 5}\n', "line 2: text is 5, not text"),
        ("a.parquet", to_parquet([3, 4]), "row 1: text is 3, not text"),
        ("a.parquet", to_parquet(TEXTS)[:-20], "arquet"),
        ("a.parquet", b"", "arquet"),
        ("a.csv", b"text\nfine\n", "not a format that is read (.parquet, .jsonl, .json, .txt)"),
        ("a.csv.gz", b"text\nfine\n", "not a format that is read"),
        ("a.txt.gz", to_text(TEXTS), "Not a gzipped file"),
        ("a.txt.gz", gzip.compress(to_text(TEXTS))[:-20], "ended before"),
        ("a.txt.xz", lzma.compress(to_text(TEXTS))[:-20], "ended before"),
    ],
)
def test_a_file_that_cannot_be_read_right_is_refused_in_one_line(tmp_path, name, content, reason):
    """Wrong encoding, broken JSON, a missing or wrong column, a truncated or unknown file: file, place, reason."""
    assert reason in refusal(tmp_path / name, content)


def flipped(content: bytes) -> bytes:
    return content[:40] + bytes([content[40] ^ 255]) + content[41:]


BIG = "\n\n".join(TEXTS * 200).encode()


@pytest.mark.parametrize(
    "name,content",
    [
        pytest.param("a.txt.zst", COMPRESS[".zst"](BIG)[:-20], id="truncated zst: read silently short"),
        pytest.param("a.txt.zst", flipped(COMPRESS[".zst"](BIG)), id="damaged zst"),
        pytest.param("a.txt.xz", flipped(COMPRESS[".xz"](BIG)), id="damaged xz"),
        pytest.param("a.txt.gz", flipped(COMPRESS[".gz"](BIG)), id="damaged gz"),
        pytest.param("a.jsonl", b"", id="empty jsonl"),
    ],
)
def test_a_damaged_packed_file_is_refused_by_name(tmp_path, name, content):
    """A damaged or truncated packed file raises one line with its name; it is never silently shorter."""
    refusal(tmp_path / name, content)


def test_a_folder_is_read_at_any_depth(tmp_path):
    """Files at any depth become shards named by their path, sorted; other files are passed over."""
    for name in ("b.parquet", "a/x.jsonl.gz", "a/y z.txt", "README.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("text")
    assert {name: path.relative_to(tmp_path).as_posix() for name, path in corpus_files(tmp_path).items()} == {
        "a--x": "a/x.jsonl.gz",
        "a--y--z": "a/y z.txt",
        "b": "b.parquet",
    }


@pytest.mark.parametrize("files", [[], ["notes.md"]])
def test_a_folder_without_documents_is_refused(tmp_path, files):
    """No readable file: the message names key, folder and the endings that are read."""
    for name in files:
        (tmp_path / name).write_text("text")
    with pytest.raises(ValueError, match=r"corpus\.folder: no document in .*\.parquet, \.jsonl") as caught:
        corpus_files(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_a_folder_that_does_not_exist_is_refused(tmp_path):
    """A misspelt folder is refused by its name."""
    with pytest.raises(ValueError, match=r"corpus\.folder: .*/absent: No such file or directory"):
        corpus_files(tmp_path / "absent")


@pytest.mark.parametrize("first,second", [("a.jsonl", "a.txt"), ("a.txt", "a.txt.gz"), ("a b.txt", "a--b.txt")])
def test_two_files_with_one_shard_name_are_refused(tmp_path, first, second):
    """Two files whose shards would overwrite each other are refused; the message names both."""
    for name in (first, second):
        (tmp_path / name).write_text("text")
    with pytest.raises(ValueError, match="would share the shard name") as caught:
        corpus_files(tmp_path)
    assert str(tmp_path / first) in str(caught.value)
    assert str(tmp_path / second) in str(caught.value)


def test_hidden_files_are_no_documents(tmp_path):
    """What `hf download` leaves in .cache, and any hidden file, is passed over."""
    for name in ("a.txt", ".hidden.txt", ".cache/huggingface/download/a.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("text")
    assert list(corpus_files(tmp_path)) == ["a"]


def test_the_folder_itself_may_be_hidden(tmp_path):
    """Only names inside the folder count: a corpus below a hidden folder is read."""
    folder = tmp_path / ".data"
    folder.mkdir()
    (folder / "a.txt").write_text("text")
    assert list(corpus_files(folder)) == ["a"]


def test_the_splits_have_the_asked_sizes():
    """20,000 ids fall to test, validation and training within a point of their fractions."""
    found = [split_of(str(i), **FRACTIONS) for i in range(20_000)]
    assert found.count("test") / 20_000 == pytest.approx(0.10, abs=0.01)
    assert found.count("validation") / 20_000 == pytest.approx(0.05, abs=0.01)
    assert found.count("train") / 20_000 == pytest.approx(0.85, abs=0.01)


def test_a_documents_split_depends_on_its_id_alone():
    """The split is a fixed function of the id (pinned here), so documents that are added move none."""
    found: dict[str, list[int]] = {"train": [], "validation": [], "test": []}
    for i in range(60):
        found[split_of(str(i), **FRACTIONS)].append(i)
    assert found["validation"] == [2, 6, 17, 50, 56]
    assert found["test"] == [18, 29, 47, 55]
    assert len(found["train"]) == 51


def test_growing_the_validation_set_moves_no_test_document():
    """The test set is cut first: another validation fraction leaves it as it is."""
    larger = FRACTIONS | {"validation_fraction": 0.3}
    for i in range(2000):
        assert (split_of(str(i), **FRACTIONS) == "test") == (split_of(str(i), **larger) == "test")
