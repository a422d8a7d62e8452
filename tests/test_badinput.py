"""Bad input: what a user sees, through Snakemake itself, when a file of theirs is wrong."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_workflow import snakemake

from distilbert import wordpiece

REASON = (
    "glue/cola/train-00000-of-00001.parquet: row 3: label 7 is not a class of cola: 0 (unacceptable), 1 (acceptable)"
)
LOG = "logs/prepare_task/cola.log"


@pytest.fixture(scope="module")
def failed(tmp_path_factory):
    """Prepare CoLA, whose training file has label 7 in row 3; return (folder, what Snakemake gave)."""
    folder = tmp_path_factory.mktemp("bad")
    learnt = wordpiece.learn(lambda: ["a sentence of the river"] * 9, vocab_size=100, lowercase=True)
    for name in ("model/tokenizer.json", "results/tokenizer/tokenizer.json"):  # as if it had been imported
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text(learnt.to_str())
    (folder / "glue" / "cola").mkdir(parents=True)
    for split, third in (("train", 7), ("validation", 1)):
        columns = {"sentence": [f"Sentence {i}." for i in range(40)], "label": [0, 1, third, *[1] * 37]}
        pq.write_table(pa.table(columns), folder / "glue" / "cola" / f"{split}-00000-of-00001.parquet")
    overlay = {
        "tokenizer": {"source": "folder", "folder": "model"},
        "tasks": {"names": ["cola"], "source": "folder", "folder": "glue"},
    }
    return folder, snakemake(folder, "results/tasks/cola/manifest.json", overlays=[overlay])


def test_the_run_fails(failed):
    """Snakemake's exit code is not zero, and the step that failed is named."""
    _, done = failed
    assert done.returncode != 0
    assert "Error in rule prepare_task" in done.stdout


def test_one_line_names_file_and_row(failed):
    """The terminal shows one line with rule, file, row, reason and where to read more, and no traceback of the step."""
    _, done = failed
    assert done.stdout.splitlines().count(f"prepare_task: {REASON} (more in {LOG})") == 1
    assert "Traceback" not in done.stdout


def test_no_output_is_left(failed):
    """Neither a shard nor a manifest of the task exists, and no temporary file."""
    folder, _ = failed
    assert [path for path in (folder / "results" / "tasks").rglob("*") if path.is_file()] == []


def test_the_log_has_the_line_and_the_traceback(failed):
    """The step's own log tells the same line, and the traceback for whoever wants it."""
    folder, _ = failed
    log = (folder / LOG).read_text()
    assert f"prepare_task: {REASON}" in log
    assert "Traceback" in log
