"""One name for each GPU, however a provider spells it."""

from __future__ import annotations

import pytest

from arbiter.gpus import GPUS, RECORDED_ONLY, normalise


@pytest.mark.parametrize(
    ("spelt", "name"),
    [
        # AWS
        ("T4", "T4"),
        ("T4g", "T4G"),
        ("A10G", "A10G"),
        ("L4", "L4"),
        ("L40S", "L40S"),
        ("H100", "H100"),
        ("H200", "H200"),
        ("B200", "B200"),
        ("Radeon Pro V520", "V520"),
        ("Gaudi HL-205", "HL-205"),
        ("K80", "K80"),
        # GCP
        ("nvidia-tesla-t4", "T4"),
        ("nvidia-l4", "L4"),
        ("nvidia-tesla-p4", "P4"),
        ("nvidia-tesla-p100", "P100"),
        ("nvidia-a100-80gb", "A100-80GB"),
        ("nvidia-h100-80gb", "H100"),
        ("nvidia-h100-mega-80gb", "H100"),
        ("nvidia-h200-141gb", "H200"),
        ("nvidia-rtx-pro-6000", "RTXPRO6000"),
        # Azure
        ("Standard_NV36ads_A10_v5", "A10"),
        ("Standard_NC4as_T4_v3", "T4"),
        ("Standard_ND96isr_H100_v5", "H100"),
        ("Standard_ND96isr_MI300X_v5", "MI300X"),
        # Lambda
        ("gpu_1x_a10", "A10"),
        ("A100 (80 GB SXM4)", "A100-80GB"),
        ("A100 (40 GB PCIe)", "A100-40GB"),
        ("H100 (80 GB PCIe)", "H100-PCIe"),
        ("H100 (80 GB SXM5)", "H100"),
        ("GH200 (96 GB)", "GH200"),
        ("A6000 (48 GB)", "A6000"),
        ("Tesla V100 (16 GB)", "V100-16GB"),
        # RunPod and others
        ("NVIDIA GeForce RTX 4090", "RTX4090"),
        ("NVIDIA GeForce RTX 3090 Ti", "RTX3090"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX6000Ada"),
        ("NVIDIA RTX A6000", "A6000"),
        ("RTX 6000 96GB", "RTXPRO6000"),
        ("RTX 6000 48GB", "RTX6000Ada"),
        ("RTXA6000", "A6000"),
        ("NVIDIA A40", "A40"),
        ("NVIDIA L4 24GB", "L4"),
        ("NVIDIA A100-SXM4-80GB", "A100-80GB"),
        ("NVIDIA H100 NVL", "H100-NVL"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("Tesla V100-SXM2-32GB", "V100-32GB"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTXPRO6000"),
        ("AMD Instinct MI300X OAM", "MI300X"),
        ("8xH100", "H100"),
    ],
)
def test_spellings_of_the_providers(spelt: str, name: str) -> None:
    assert normalise(spelt) == name


@pytest.mark.parametrize(
    "spelt",
    [
        "",
        "none",
        "GPU",
        "NVIDIA RTX A4000",
        "NVIDIA RTX 4000 Ada Generation",
        "RTX A1000",
        "H1000",
        "MI3250X",
        "Quadro RTX 6000",
        "RTX 6000 24GB",
        "Quadro T400",
        "NVIDIA A30",
        "GB200",
        "tpu-v5p-4096",
        "NVIDIA A100",
        "Tesla V100",
        "V100S",
    ],
)
def test_what_is_not_certain_is_not_guessed(spelt: str) -> None:
    assert normalise(spelt) is None


@pytest.mark.parametrize(
    ("spelt", "memory", "name"),
    [
        ("A100", 40, "A100-40GB"),
        ("A100", 80, "A100-80GB"),
        ("A100", 79.15, "A100-80GB"),
        ("nvidia-tesla-a100", 40.0, "A100-40GB"),
        ("V100", 16, "V100-16GB"),
        ("V100S", 32, "V100-32GB"),
        ("A100", 60, None),
        ("A100 80GB", 40, "A100-40GB"),  # what the API counts outweighs what a name says
    ],
)
def test_memory_decides_between_sizes(spelt: str, memory: float, name: str | None) -> None:
    assert normalise(spelt, memory) == name


@pytest.mark.parametrize("name", sorted(GPUS))
def test_names_of_the_vocabulary_name_themselves(name: str) -> None:
    assert normalise(name) == name


@pytest.mark.parametrize("gpu", GPUS.values(), ids=lambda gpu: gpu.name)
def test_figures_are_of_one_gpu_in_the_stated_units(gpu) -> None:  # type: ignore[no-untyped-def]
    assert 14 < gpu.memory_gib < 300
    assert 300 <= gpu.bandwidth_gbs <= 8000
    assert 60 <= gpu.tflops_16 <= 2500
    assert gpu.tflops_8 is None or 1.9 < gpu.tflops_8 / gpu.tflops_16 < 2.1
    assert (gpu.tflops_8 is not None) == (gpu.capability == 0 or gpu.capability >= 89)
    assert gpu.source in ("A", "B", "U")


def test_no_gpu_is_both_sized_and_only_recorded() -> None:
    assert not RECORDED_ONLY & set(GPUS)
