"""GLUE's files: found in each layout, the official TSV and zip read as they are, and a subset told from the whole."""

import csv
import os
import zipfile
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from test_text import label_of, refused, tsv
from test_workflow import snakemake

from distilbert import wordpiece
from distilbert.examples import read_examples
from distilbert.files import read_json
from distilbert.glue import OFFICIAL, task_files
from distilbert.tasks import OFFICIAL_ROWS, TASKS

ROOT = Path(__file__).parent.parent
REAL = Path(os.environ.get("DISTILBERT_DATA", ROOT / "data")) / "glue"
COLA = TASKS["cola"]

LAYOUTS = {
    "parquet": ("cola/train-00000-of-00001.parquet", "cola/validation-00000-of-00001.parquet"),
    "tsv": ("CoLA/train.tsv", "CoLA/dev.tsv"),
    "zip": ("CoLA.zip", "CoLA.zip"),
}


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def found(folder: Path, task: str) -> tuple[str, str]:
    files = task_files(folder, TASKS[task])
    assert list(files) == ["train", "validation"]
    return tuple(path.relative_to(folder).as_posix() for path in files.values())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_is_found(tmp_path, layout):
    """Parquet, TSV and zip: the two files that are there, and a zip for both."""
    touch(tmp_path, *LAYOUTS[layout])
    assert found(tmp_path, "cola") == LAYOUTS[layout]


@pytest.mark.parametrize("task", TASKS)
def test_each_task_is_found_by_its_official_name(tmp_path, task):
    """CoLA, SST-2, MRPC, QQP and RTE: the folder's name is GLUE's, not ours, beside a folder of another task."""
    folder = {"cola": "CoLA", "sst2": "SST-2", "mrpc": "MRPC", "qqp": "QQP", "rte": "RTE"}[task]
    touch(tmp_path, f"{folder}/train.tsv", f"{folder}/dev.tsv", "WNLI/train.tsv")
    assert found(tmp_path, task) == (f"{folder}/train.tsv", f"{folder}/dev.tsv")


@pytest.mark.parametrize("name", ["QQP.zip", "QQP-clean.zip"])
def test_the_zip_of_qqp_has_two_names(tmp_path, name):
    """GLUE's newest release of QQP is downloaded as QQP-clean.zip."""
    touch(tmp_path, name)
    assert found(tmp_path, "qqp") == (name, name)


def test_mrpc_is_read_from_microsofts_files_where_there_are_no_others(tmp_path):
    """GLUE's script leaves its sources beside the TSVs that it writes: the TSVs count, else the sources."""
    sources = ("MRPC/msr_paraphrase_train.txt", "MRPC/msr_paraphrase_test.txt")
    touch(tmp_path, *sources)
    assert found(tmp_path, "mrpc") == sources
    touch(tmp_path, "MRPC/train.tsv", "MRPC/dev.tsv")
    assert found(tmp_path, "mrpc") == ("MRPC/train.tsv", "MRPC/dev.tsv")


@pytest.mark.parametrize("first,second", [("parquet", "tsv"), ("parquet", "zip"), ("tsv", "zip")])
def test_two_layouts_of_a_task_are_refused(tmp_path, first, second):
    """Nobody can tell which was meant: one line with the key, the task and both files."""
    touch(tmp_path, *LAYOUTS[first], *LAYOUTS[second])
    with pytest.raises(ValueError) as caught:
        task_files(tmp_path, COLA)
    names = f"{tmp_path}/{LAYOUTS[first][0]}, {tmp_path}/{LAYOUTS[second][0]}"
    assert str(caught.value) == f"tasks.folder: cola is there more than once, keep one of {names}"


def test_a_task_that_is_not_there_is_refused(tmp_path):
    """One line with the key, the task and every file that would have done."""
    with pytest.raises(ValueError) as caught:
        task_files(tmp_path, COLA)
    names = ", ".join(f"{tmp_path}/{files[0]}" for files in LAYOUTS.values())
    assert str(caught.value) == f"tasks.folder: no file of cola; looked for {names}"


def test_a_layout_that_lacks_a_file_is_the_one_that_is_meant(tmp_path):
    """With a training file alone the answer names the other too: Snakemake then says that it is missing."""
    touch(tmp_path, "CoLA/train.tsv")
    assert found(tmp_path, "cola") == LAYOUTS["tsv"]


# --- Zips ---------------------------------------------------------------------------------------------------


def cola(count: int) -> bytes:
    return tsv("cola", [([f"Sentence {i}."], str(i % 2)) for i in range(count)])


def write_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_a_zip_gives_the_split_that_is_asked_for(tmp_path):
    """One zip is both files; nothing is unpacked, not even what names a path outside."""
    members = {"../evil.tsv": b"x", "/tmp/evil.tsv": b"x", "CoLA/train.tsv": cola(30), "CoLA/dev.tsv": cola(20)}
    path = write_zip(tmp_path / "CoLA.zip", members)
    assert len(read_examples(path, COLA, "train")) == 30
    assert len(read_examples(path, COLA, "validation")) == 20
    assert list(tmp_path.iterdir()) == [path]
    assert not (tmp_path.parent / "evil.tsv").exists()


def test_a_fault_inside_a_zip_is_found_by_file_member_and_line(tmp_path):
    """Two members have a line 3 each, so the message names the member."""
    path = write_zip(tmp_path / "CoLA.zip", {"CoLA/dev.tsv": cola(2) + b"short\n"})
    reason = refused(path, lambda path: read_examples(path, COLA, "validation"))
    assert reason == "CoLA/dev.tsv line 3: 1 columns, not 4"


def test_a_zip_without_the_file_is_refused(tmp_path):
    """A zip of something else, or of files at another depth: the message names the member that is looked for."""
    path = write_zip(tmp_path / "CoLA.zip", {"train.tsv": cola(9), "glue/CoLA/train.tsv": cola(9)})
    assert refused(path, lambda path: read_examples(path, COLA, "train")) == "the archive has no CoLA/train.tsv"


@pytest.mark.parametrize("fault", ["cut", "damaged", "none"])
def test_a_damaged_zip_is_refused(tmp_path, fault):
    """A zip that was cut, or in which a byte changed, gives one line and no shorter list of examples."""
    path = tmp_path / "CoLA.zip"
    with zipfile.ZipFile(path, "w") as archive:  # stored, so that a changed letter is a changed letter
        archive.writestr("CoLA/train.tsv", cola(50))
    content = path.read_bytes()
    if fault == "none":
        assert len(read_examples(path, COLA, "train")) == 50
        return
    path.write_bytes(content[:-30] if fault == "cut" else content.replace(b"Sentence 7.", b"Sentence 8."))
    reason = refused(path, lambda path: read_examples(path, COLA, "train"))
    assert reason.startswith("File is not a zip file" if fault == "cut" else "Bad CRC-32 for file 'CoLA/train.tsv'")


# --- Counts -------------------------------------------------------------------------------------------------


def warnings_of(caplog, path: Path, task: str, split: str) -> list[str]:
    caplog.clear()
    read_examples(path, TASKS[task], split)
    return [record.getMessage() for record in caplog.records]


def test_a_subset_is_read_with_one_warning(tmp_path, caplog):
    """Fewer rows than GLUE has are legitimate: all are read, and one line tells both numbers."""
    path = tmp_path / "dev.tsv"
    path.write_bytes(cola(20))
    assert warnings_of(caplog, path, "cola", "validation") == [
        f"{path}: 20 rows of validation, GLUE's own file has 1043"
    ]


def test_the_whole_file_is_read_without_a_warning(tmp_path, caplog):
    """As many rows as GLUE has: nothing to say; one row less is said."""
    path = tmp_path / "dev.tsv"
    for count, warned in ((1043, 0), (1042, 1)):
        path.write_bytes(cola(count))
        assert len(warnings_of(caplog, path, "cola", "validation")) == warned


def test_broken_questions_of_qqp_are_counted(tmp_path, caplog):
    """What is left out is told: how many rows, and the line of the first."""
    path = tmp_path / "train.tsv"
    path.write_bytes(tsv("qqp", [(["a", "b"], "1")]) + b'1\t2\t3\t"Was it?\nIt was.\t0\n')
    first, second = warnings_of(caplog, path, "qqp", "train")
    assert first == f"{path}: 2 rows that have not 6 columns are left out, the first in line 3"
    assert second == f"{path}: 1 rows of train, GLUE's own file has 363846"


# --- Real files ---------------------------------------------------------------------------------------------


@pytest.fixture(params=TASKS)
def real(request, tmp_path):
    """Return (task, split -> parquet, split -> TSV of the same rows) of a real task."""
    task, folder = request.param, REAL / request.param
    if not folder.exists():
        pytest.skip(f"no real GLUE in {REAL}; DISTILBERT_DATA names another folder of data")
    parquet = {split: folder / f"{split}-00000-of-00001.parquet" for split in ("train", "validation")}
    written = {}
    for split, path in parquet.items():
        table = pq.read_table(path).to_pylist()
        rows = [([row[column] for column in TASKS[task].columns], label_of(task, row["label"])) for row in table]
        written[split] = tmp_path / f"{split}.tsv"
        written[split].write_bytes(tsv(task, rows))
    return task, parquet, written


@pytest.mark.real_data
def test_real_glue_is_the_same_as_tsv_and_as_parquet(real, caplog):
    """All real examples of the five tasks, in both files: equal from the two layouts; whole files bring no warning."""
    task, parquet, written = real
    for split in parquet:
        from_tsv = read_examples(written[split], TASKS[task], split)
        assert from_tsv == read_examples(parquet[split], TASKS[task], split)
        is_whole = len(from_tsv) == OFFICIAL_ROWS[task][split]
        assert len(warnings_of(caplog, written[split], task, split)) == (0 if is_whole else 1)
        assert is_whole == (task != "qqp")  # the QQP at hand is a subset


@pytest.mark.real_data
def test_a_reader_of_csv_loses_rows_of_real_mrpc(tmp_path):
    """Why no CSV reader is used: of MRPC's training file `csv` gives 98 rows fewer without a word; pandas gives up."""
    path = REAL / "mrpc" / "train-00000-of-00001.parquet"
    if not path.exists():
        pytest.skip(f"no real GLUE in {REAL}; DISTILBERT_DATA names another folder of data")
    rows = [([row["sentence1"], row["sentence2"]], str(row["label"])) for row in pq.read_table(path).to_pylist()]
    (tmp_path / "train.tsv").write_bytes(tsv("mrpc", rows))
    with open(tmp_path / "train.tsv", encoding="utf-8", newline="") as file:
        assert sum(1 for _ in csv.reader(file, delimiter="\t")) - 1 == 3570
    with pytest.raises(pd.errors.ParserError):
        pd.read_csv(tmp_path / "train.tsv", sep="\t")
    assert len(read_examples(tmp_path / "train.tsv", TASKS["mrpc"], "train")) == 3668


# --- Through Snakemake --------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """Return a folder to run in, with a tokenizer as if it had been imported."""
    learnt = wordpiece.learn(lambda: ["a sentence of the river"] * 9, vocab_size=100, lowercase=True)
    for name in ("model/tokenizer.json", "results/tokenizer/tokenizer.json"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(learnt.to_str())
    return tmp_path


OVERLAY = {
    "tokenizer": {"source": "folder", "folder": "model"},
    "tasks": {"names": ["cola"], "source": "folder", "folder": "glue"},
}


def test_a_zip_is_the_input_of_the_step(folder):
    """Snakemake knows the zip as the input, the step reads both splits of it, and the terminal shows the warning."""
    (folder / "glue").mkdir()
    write_zip(folder / "glue" / "CoLA.zip", {"CoLA/train.tsv": cola(400), "CoLA/dev.tsv": cola(50)})
    done = snakemake(folder, "results/tasks/cola/manifest.json", overlays=[OVERLAY])
    assert done.returncode == 0, done.stdout
    assert "input: glue/CoLA.zip" in done.stdout
    assert "glue/CoLA.zip: 400 rows of train, GLUE's own file has 8551" in done.stdout.splitlines()
    files = read_json(folder / "results" / "tasks" / "cola" / "manifest.json")["files"]
    assert files["test"]["rows"] == 50
    again = snakemake(folder, "results/tasks/cola/manifest.json", overlays=[OVERLAY])
    assert "Nothing to be done" in again.stdout


def test_two_layouts_are_refused_before_any_job(folder):
    """The line that names key and files stands alone in the output, and no job runs."""
    touch(folder / "glue", *LAYOUTS["tsv"], "CoLA.zip")
    done = snakemake(folder, "results/tasks/cola/manifest.json", overlays=[OVERLAY])
    assert done.returncode != 0
    line = "tasks.folder: cola is there more than once, keep one of glue/CoLA/train.tsv, glue/CoLA.zip"
    assert line in done.stdout.splitlines()
    assert not (folder / "results" / "tasks").exists()


def test_every_official_layout_reads_what_the_tasks_need():
    """Each table has the task's own columns and its label once, and as many columns as its header."""
    for name, official in OFFICIAL.items():
        assert set(TASKS[name].columns) | {"label"} <= set(official.columns)
        assert len(set(official.columns)) == len(official.columns)
        assert official.header is None or len(official.header) == len(official.columns)
