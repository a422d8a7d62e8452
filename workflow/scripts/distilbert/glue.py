"""GLUE's files in a folder, in any of the layouts in which people have them, and how its official TSV is read.

    parquet       <folder>/cola/{train,validation}-00000-of-00001.parquet   as nyu-mll/glue on the Hub
    official      <folder>/CoLA/{train,dev}.tsv                             as unzipped
    official zip  <folder>/CoLA.zip                                         read where it is, never unpacked to disk

Of each task exactly one must be there. MRPC without these TSVs is read from Microsoft's own files,
msr_paraphrase_{train,test}.txt, which are not GLUE's split (its dev set is part of the first): the log warns of their
other sizes.

The official files are tables of tabs and newlines and nothing else: a quotation mark is a letter. A reader of CSV takes
it for the start of a quoted field and loses rows without a word.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO
from zipfile import ZipFile

from distilbert.sources import naming, read_lines
from distilbert.tasks import OFFICIAL_ROWS, Task, TaskData

# Our names of the splits -> GLUE's, and Microsoft's of MRPC.
TSV_FILES = {"train": "train.tsv", "validation": "dev.tsv"}
MSR_FILES = {"train": "msr_paraphrase_train.txt", "validation": "msr_paraphrase_test.txt"}
# Rows of another width that an official file may have and that are left out, as everybody's readers do. The first
# release of QQP has a few questions that run over two lines (nyu-mll/GLUE-baselines#5); no other task has any.
MAX_BROKEN_ROWS = {"qqp": 100}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OfficialFiles:
    """A task's folder in the official layout, its zips, and what stands in the first line and in each column.

    `header`: the first line, None where the file begins with an example. `columns`: our names of the columns.
    """

    folder: str
    zips: tuple[str, ...]
    header: tuple[str, ...] | None
    columns: tuple[str, ...]


OFFICIAL = {
    "sst2": OfficialFiles("SST-2", ("SST-2.zip",), ("sentence", "label"), ("sentence", "label")),
    "mrpc": OfficialFiles(
        "MRPC",
        ("MRPC.zip",),
        ("Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"),
        ("label", "id1", "id2", "sentence1", "sentence2"),
    ),
    "qqp": OfficialFiles(
        "QQP",
        ("QQP.zip", "QQP-clean.zip"),
        ("id", "qid1", "qid2", "question1", "question2", "is_duplicate"),
        ("id", "qid1", "qid2", "question1", "question2", "label"),
    ),
    "cola": OfficialFiles("CoLA", ("CoLA.zip",), None, ("source", "label", "star", "sentence")),
    "rte": OfficialFiles(
        "RTE",
        ("RTE.zip",),
        ("index", "sentence1", "sentence2", "label"),
        ("index", "sentence1", "sentence2", "label"),
    ),
}


def task_files(folder: Path, task: Task) -> dict[str, Path]:
    """Return {"train": file, "validation": file} of a task in a folder; of a zip, both are the zip.

    Raises:
        ValueError: the task is there in no layout, or in two; the message names the files.
    """
    layouts = _layouts(Path(folder), task)
    found = [files for files in layouts if any(path.exists() for path in files.values())]
    if len(found) == 1:
        return found[0]
    named = ", ".join(str(files["train"]) for files in found or layouts)
    if found:
        raise ValueError(f"tasks.folder: {task.name} is there more than once, keep one of {named}")
    raise ValueError(f"tasks.folder: no file of {task.name}; looked for {named}")


def _layouts(folder: Path, task: Task) -> list[dict[str, Path]]:
    official = OFFICIAL[task.name]
    tsv = {split: folder / official.folder / name for split, name in TSV_FILES.items()}
    # GLUE's own script writes MRPC's TSVs beside the files that it makes them of.
    if task.name == "mrpc" and not any(path.exists() for path in tsv.values()):
        msr = {split: folder / official.folder / name for split, name in MSR_FILES.items()}
        tsv = msr if any(path.exists() for path in msr.values()) else tsv
    parquet = {split: folder / task.name / f"{split}-00000-of-00001.parquet" for split in TSV_FILES}
    return [parquet, tsv, *(dict.fromkeys(TSV_FILES, folder / name) for name in official.zips)]


def is_glue(task: TaskData) -> bool:
    """Tell whether a task is one of GLUE's, and not the user's own."""
    return task.name in OFFICIAL


def is_official(path: Path) -> bool:
    """Tell whether the file of a task of GLUE is in the official layout, and not parquet."""
    return Path(path).suffix in (".tsv", ".txt", ".zip")


def read_official_rows(path: Path, task: TaskData, split: str) -> Iterator[tuple[str, dict]]:
    """Yield (place, row) of an official file: the place such as "line 3", texts as they stand, known labels as 0 or 1.

    The log warns where the file has not as many rows as GLUE's, which a subset may.

    Raises:
        ValueError: the file cannot be read, is not UTF-8, or has another header or a row of another width; the
            message names file and line (from 1).
    """
    official = OFFICIAL[task.name]
    classes = {"0": 0, "1": 1} if task.name != "rte" else {name: i for i, name in enumerate(task.label_names)}
    num_rows, broken = 0, []
    with naming(path), _opened(path, official, split) as (file, name):
        lines = read_lines(file, name=name)
        if official.header:
            place, line = next(lines, (f"{name} 1", ""))
            if tuple(line.split("\t")) != official.header:
                raise ValueError(f"{place}: the header is {line!r:.80}, not {', '.join(official.header)}")
        for place, line in lines:
            fields = line.split("\t")
            if len(fields) != len(official.columns):
                broken.append(place)
                if len(broken) > MAX_BROKEN_ROWS.get(task.name, 0):
                    raise ValueError(f"{place}: {len(fields)} columns, not {len(official.columns)}")
                continue
            num_rows += 1
            row = dict(zip(official.columns, fields, strict=True))
            yield place, row | {"label": classes.get(row["label"], row["label"])}
    if broken:
        log.warning(
            "%s: %d rows that have not %d columns are left out, the first in %s",
            path,
            len(broken),
            len(official.columns),
            broken[0],
        )
    if num_rows != (expected := OFFICIAL_ROWS[task.name][split]):
        log.warning("%s: %d rows of %s, GLUE's own file has %d", path, num_rows, split, expected)


@contextmanager
def _opened(path: Path, official: OfficialFiles, split: str) -> Iterator[tuple[BinaryIO, str]]:
    """Open a TSV, or the one of a split inside a zip; give it with what to call its lines."""
    if Path(path).suffix != ".zip":
        with Path(path).open("rb") as file:
            yield file, "line"
        return
    member = f"{official.folder}/{TSV_FILES[split]}"
    with ZipFile(path) as archive:
        if member not in archive.namelist():
            raise ValueError(f"the archive has no {member}")
        # Read through the archive: a name inside it is looked up, and never becomes a path.
        with archive.open(member) as packed, BufferedReader(packed) as file:
            yield file, f"{member} line"
