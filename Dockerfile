# The GPU image: what requirements.txt locks, and what `snakemake onnx` needs besides. PyTorch's wheels bring CUDA's
# libraries, the host brings the driver.
#   docker build --tag distilbert . && apptainer build distilbert.sif docker-daemon:distilbert:latest
FROM python:3.11-slim-bookworm

# gcc: Triton compiles what launches its kernels. git: the commit in each result's provenance; the repository is mounted
# and belongs to another user than the container's. Debian keeps one version of each package, so there is none to pin.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc git libc6-dev \
    && rm -rf /var/lib/apt/lists/* \
    && git config --system --add safe.directory '*'

COPY requirements.txt requirements-onnx.txt /opt/distilbert/
RUN pip install --no-cache-dir --requirement /opt/distilbert/requirements.txt \
    --requirement /opt/distilbert/requirements-onnx.txt
