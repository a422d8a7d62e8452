"""The benchmark of a GPU runs, in miniature, on the CPU that the tests have; no speed is asserted."""

import dataclasses
import os
import sys

import gpu
import pytest
import torch

CPU = torch.device("cpu")


def test_the_limits_are_measured():
    """A product of matrices and a copy have a speed."""
    limits = gpu.limits_of(CPU, gpu.SMOKE)
    assert limits["matmul_teraflops"] > 0
    assert limits["gigabytes_per_second"] > 0


def test_the_head_has_a_row_for_each_way():
    """All logits at once and plain torch run on a CPU; the kernel's ways are for a GPU."""
    limits = {"matmul_teraflops": 1.0}
    assert [row["way"] for row in gpu.head_rows(CPU, gpu.SMOKE, limits)] == [
        gpu.AT_ONCE,
        "plain torch, chunks of 131,072",
    ]


@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") != "1", reason="TRITON_INTERPRET=1 is not set")
def test_the_kernel_has_a_row_for_each_shape():
    """Each shape of the kernel's blocks is measured."""
    pytest.importorskip("triton", reason="Triton is not installed: pip install triton")
    limits = {"gigabytes_per_second": 1.0}
    two_positions = dataclasses.replace(gpu.SMOKE, head_tokens=2)
    assert len(gpu.kernel_rows(CPU, two_positions, limits)) == len(gpu.KERNEL_SHAPES)


def test_our_ways_do_what_they_say():
    """A turn returns how many windows, or examples, its steps had."""
    assert gpu.build_pretraining("demo", 2, 512, 2, False)(2) == 4
    assert (
        gpu.build_finetuning("demo", ["sst2"], 1)("sst2", 1)
        == gpu.workload.size_of("demo").settings["finetune"]["batch_size"]
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(monkeypatch, capsys):
    """Figures of a CPU never pass for those of a GPU."""
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    with pytest.raises(SystemExit):
        gpu.main()
    assert "there is no GPU here" in capsys.readouterr().err
