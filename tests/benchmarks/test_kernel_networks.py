"""What all kernels of one network take of the flash."""

from __future__ import annotations

import pytest

from benchmarks.kernel_networks import MODES, NETWORKS, Network, built, kernel_bytes
from tvm_mpq.deployment import Deployment

# Every kernel and micro-kernel of one network together.
LIMIT = 48 * 1024


@pytest.mark.emu
def test_kernels_are_counted_and_small(deployment: Deployment) -> None:
    symbols = {s.name: s.size for s in deployment.firmware.symbols}
    kernels = {layer["symbol"] for layer in deployment.description["layers"]}
    assert sum(symbols[name] for name in kernels) < kernel_bytes(deployment) < LIMIT
    assert kernel_bytes(deployment) < deployment.firmware.sections[".text"]


@pytest.mark.emu
@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: n.name)
def test_all_kernels_of_a_network_stay_small(network: Network, mode: str) -> None:
    assert kernel_bytes(built(network, mode)) < LIMIT
