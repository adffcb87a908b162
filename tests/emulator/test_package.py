"""What works without the optional packages, and the counters' table beyond its first size."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from tvm_mpq.emulator import MODEL_ERROR


def _without_unicorn(code):
    program = f"import sys; sys.modules['unicorn'] = None\n{code}"
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )


@pytest.mark.null
def test_a_missing_emulator_names_the_remedy():
    done = _without_unicorn("from tvm_mpq.emulator import Board")
    assert done.returncode != 0
    assert "needs the package 'unicorn': pip install unicorn==" in done.stderr


@pytest.mark.null
def test_the_command_says_so_too():
    arguments = f"sys.argv = ['emulator', 'run', {sys.executable!r}]"
    done = _without_unicorn(
        f"import runpy; {arguments}; runpy.run_module('tvm_mpq.emulator', run_name='__main__')"
    )
    assert done.returncode == 2
    assert "pip install unicorn==" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.null
def test_unknown_names_and_the_error_of_the_model():
    import tvm_mpq.emulator

    with pytest.raises(AttributeError, match="no attribute 'Bord'"):
        _ = tvm_mpq.emulator.Bord
    assert "+-3 %" in MODEL_ERROR


@pytest.mark.emu
def test_more_edges_than_the_first_table_holds(build):
    pytest.importorskip("unicorn", reason="pip install tvm_mpq[emulator]")
    from tvm_mpq.emulator import Board
    from tvm_mpq.emulator.counter import NativeCounter
    from tvm_mpq.emulator.native import load_shim

    if load_shim() is None:
        pytest.skip("no C compiler: no table in C")
    counter = Board(build("int main(void) { return 0; }"))._counter
    assert isinstance(counter, NativeCounter)
    counter.state.counting = 1
    counter.start(60)
    shim, blocks = load_shim(), 40_000
    for _ in range(2):
        counter.state.previous = 0
        for number in range(blocks):
            address = ctypes.c_uint64(0x08000000 + 4 * number)
            shim.on_block(None, address, ctypes.c_uint32(2), counter._pointer)
    edges = counter.edges()
    assert len(edges) == blocks
    assert {edge.count for edge in edges} == {2}
    assert [edge.to for edge in edges[1:4]] == [0x08000004, 0x08000008, 0x0800000C]
