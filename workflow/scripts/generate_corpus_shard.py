"""Write one shard of the demo's generated encyclopedia, in the layout of a Wikipedia parquet file.

Reads nothing; writes a parquet file with the columns id, title, text.
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from distilbert import runlog, synthetic
from distilbert.files import atomic_path


def main(*, corpus: Path, settings: dict) -> None:
    """Generate `settings["num_documents"]` documents of shard `settings["shard"]`."""
    documents = synthetic.generate_documents(
        seed=settings["seed"], shard=settings["shard"], num_documents=settings["num_documents"]
    )
    with atomic_path(corpus) as temporary:
        pq.write_table(pa.Table.from_pylist(list(documents)), temporary)


if "snakemake" in globals():
    runlog.run(main, snakemake)  # noqa: F821
