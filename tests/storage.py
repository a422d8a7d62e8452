"""The workflow with its results in S3, as profiles/kubernetes keeps them: planned, run, compared with a run without.

    python tests/storage.py

A server on this machine speaks S3's protocol. What needs a cluster stays untried: pods, their image, their volume. So
the profile is planned as it is, and run without its lines for Kubernetes: the jobs of a tiny config on this machine.
"""

import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import boto3
import yaml
from moto.server import ThreadedMotoServer
from torture import contents

ROOT = Path(__file__).parent.parent
PROFILE = ROOT / "profiles" / "kubernetes" / "config.yaml"
BUCKET, PREFIX = "my-bucket", "distilbert/"  # as in the profile
ACCESS = {"SNAKEMAKE_STORAGE_S3_ACCESS_KEY": "any", "SNAKEMAKE_STORAGE_S3_SECRET_KEY": "any"}
# Results in which a measured time stands, and those that no rule names, which no storage keeps.
TIMED = ("efficiency", "summary.md", "summary.html", "provenance")
UNNAMED = "tensorboard"


def main() -> None:
    """Plan and run in S3, run without it, compare."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        logging.getLogger("werkzeug").setLevel(logging.WARNING)  # of the server: a line per request
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        run_in_s3(folder, "http://{}:{}".format(*server.get_host_and_port()))
        server.stop()
        snakemake("--cores", "2", "--configfile", ROOT / "tests" / "tiny.yaml", folder=folder / "local")
        there, here = contents(folder / "s3"), contents(folder / "local")
    compared = [name for name in here if UNNAMED not in name and not any(part in name for part in TIMED)]
    differing = [name for name in compared if here[name] != there.get(name)]
    print(f"{len(compared)} results compared, {len(differing)} differ: {differing}")
    if differing or not compared:
        sys.exit(1)


def run_in_s3(folder: Path, address: str) -> None:
    """Plan with the profile, run with what of it is not Kubernetes', plan again; fetch what lies in S3 then."""
    s3 = boto3.resource(
        "s3", endpoint_url=address, region_name="us-east-1", aws_access_key_id="any", aws_secret_access_key="any"
    )
    bucket = s3.create_bucket(Bucket=BUCKET)
    where = ("--storage-s3-endpoint-url", address)
    planned = snakemake("--dry-run", "--workflow-profile", PROFILE.parent, *where, folder=folder / "planned")
    assert "total " in planned, planned

    profile = yaml.safe_load(PROFILE.read_text(encoding="utf-8"))
    of_kubernetes = [key for key in profile if key.startswith(("executor", "jobs", "container", "kubernetes"))]
    profile = {key: value for key, value in profile.items() if key not in of_kubernetes}
    (folder / "profile").mkdir()
    (folder / "profile" / "config.yaml").write_text(yaml.safe_dump(profile))
    options = ("--workflow-profile", folder / "profile", *where, "--cores", "2")
    options += ("--configfile", ROOT / "tests" / "tiny.yaml")
    snakemake(*options, folder=folder / "work")
    assert "Nothing to be done" in snakemake("--dry-run", *options, folder=folder / "work")
    for item in bucket.objects.filter(Prefix=PREFIX):
        path = folder / "s3" / item.key.removeprefix(PREFIX)
        path.parent.mkdir(parents=True, exist_ok=True)
        bucket.download_file(item.key, str(path))


def snakemake(*arguments: object, folder: Path) -> str:
    """Run Snakemake in a folder and return all that it printed; end where it fails."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", folder]
    command = [str(word) for word in (*command, *arguments)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | ACCESS, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


if __name__ == "__main__":
    main()
