"""Builds shim.c at first use and mirrors its structures for ctypes."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from ctypes import POINTER, Structure, c_int32, c_int64, c_uint32, c_uint64, c_void_p
from functools import cache
from pathlib import Path

from tvm_mpq.files import cached, sha256, temporary_folder

PriceCallback = ctypes.CFUNCTYPE(c_int64, c_uint32)


class EdgeStruct(Structure):
    """``edge_t`` of shim.c."""

    _fields_ = [
        ("from_", c_uint32),
        ("to", c_uint32),
        ("size", c_uint32),
        ("instructions", c_uint32),
        ("conditional", c_uint32),
        ("words", c_uint32),
        ("irregular", c_uint32),
        ("spare", c_uint32),
        ("count", c_uint64),
        ("next_review", c_uint64),
        ("cost", c_int64),
        ("spent", c_int64),
        ("mispredicts", c_uint64),
        ("flash_data", c_uint64),
        ("flash_code", c_uint64),
        ("sram_data", c_uint64),
        ("sram_code", c_uint64),
        ("unaligned", c_uint64),
        ("narrow_tcm", c_uint64),
        ("narrow_cached", c_uint64),
        ("flash_stall", c_int64),
        ("sram_stall", c_int64),
        ("timed", c_uint64),
        ("same", POINTER(c_uint64)),
    ]


class CacheStruct(Structure):
    """``cache_t`` of shim.c."""

    _fields_ = [
        ("sets", c_uint32),
        ("ways", c_uint32),
        ("enabled", c_uint32),
        ("spare", c_uint32),
        ("tag", c_uint32 * 1024),
        ("next", c_uint32 * 512),
    ]


class BoardStruct(Structure):
    """``board_t`` of shim.c."""

    _fields_ = [
        ("engine", c_void_p),
        ("stop", c_void_p),
        ("read_memory", c_void_p),
        ("read_register", c_void_p),
        ("write_register", c_void_p),
        ("price", PriceCallback),
        ("counting", c_uint64),
        ("cycles", c_uint64),
        ("stop_requested", c_uint64),
        ("stopped", c_uint64),
        ("timed_out", c_uint64),
        ("failed", c_uint64),
        ("blocks", c_uint64),
        ("host_deadline", c_int64),
        ("instructions", c_uint64),
        ("instruction_limit", c_uint64),
        ("time", c_int64),
        ("deadline", c_int64),
        ("mispredict_cost", c_int64),
        ("unaligned_cost", c_int64),
        ("flash_data_cost", c_int64),
        ("flash_code_cost", c_int64),
        ("flash_busy_cost", c_int64),
        ("sram_cost", c_int64),
        ("flash_free", c_int64),
        ("lost_mispredict", c_int64),
        ("lost_unaligned", c_int64),
        ("lost_flash", c_int64),
        ("lost_sram", c_int64),
        ("stack_limit", c_uint64),
        ("faulty_guard", c_uint64),
        ("fault_address", c_uint64),
        ("control_register", c_uint64),
        ("status_register", c_uint64),
        ("previous", c_uint32),
        ("current_edge", c_uint32),
        ("last_line", c_uint32),
        ("word", c_uint32),
        ("last_address", c_uint32),
        ("edges", POINTER(EdgeStruct)),
        ("edge_count", c_uint64),
        ("edge_capacity", c_uint64),
        ("slots", c_void_p),
        ("slot_mask", c_uint64),
        ("regions", POINTER(ctypes.c_uint8)),
        ("predictor", c_void_p),
        ("code", CacheStruct),
        ("data", CacheStruct),
    ]


class GuardStruct(Structure):
    """``guard_t`` of shim.c."""

    _fields_ = [
        ("board", c_void_p),
        ("register_id", c_int32),
        ("subtracted_id", c_int32),
        ("offset", c_int32),
        ("is_stack", c_int32),
        ("address", c_uint64),
    ]


@cache
def load_shim() -> ctypes.CDLL | None:
    """The compiled shim, or None where there is no working C compiler (Python is used instead).

    ``TVM_MPQ_EMULATOR_SHIM=0`` in the environment asks for the Python counters.
    """
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or os.environ.get("TVM_MPQ_EMULATOR_SHIM") == "0":
        return None
    source = Path(__file__).with_name("shim.c")
    name = f"emulator-{sha256(source.read_bytes())[:16]}.so"
    try:
        _, library = cached(name, lambda: _compile(compiler, source))
        if library is None:
            return None
        shim = ctypes.CDLL(str(library))
    except (OSError, subprocess.SubprocessError):
        return None
    shim.board_new.restype = POINTER(BoardStruct)
    shim.host_time.restype = c_int64
    shim.board_free.argtypes = [POINTER(BoardStruct)]
    return shim


def _compile(compiler: str, source: Path) -> bytes:
    with temporary_folder("shim") as work:
        built = Path(work) / "shim.so"
        command = [compiler, "-O2", "-shared", "-fPIC", str(source), "-o", str(built)]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        return built.read_bytes()
