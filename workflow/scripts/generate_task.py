"""Write one of the demo's generated tasks, in the layout of its GLUE parquet files.

Reads nothing; writes a training and a validation file with GLUE's columns.
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from distilbert import runlog, synthetic
from distilbert.files import atomic_path


def main(*, train: Path, validation: Path, settings: dict) -> None:
    """Generate task `settings["task"]` with `num_train` and `num_validation` examples."""
    rows = synthetic.generate_task(
        settings["task"],
        seed=settings["seed"],
        num_train=settings["num_train"],
        num_validation=settings["num_validation"],
    )
    for name, path in (("train", train), ("validation", validation)):
        with atomic_path(path) as temporary:
            pq.write_table(pa.Table.from_pylist(rows[name]), temporary)


if "snakemake" in globals():
    runlog.run(main, snakemake)  # noqa: F821
