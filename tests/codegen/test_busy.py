"""One inference at a time: whoever comes in the middle of one learns it, and changes nothing."""

from __future__ import annotations

import ctypes
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.codegen.linking import (
    c_bytes,
    expected,
    firmware,
    includes,
    network,
    run,
    shared_object,
    sources,
    write,
)
from tests.codegen.networks import Network

OK, INVALID, BUSY, NOT_BEGUN, CANCELLED = 0, -1, -2, -3, -4
# Gives other threads a turn in the middle of an inference.
FEED = "#include <sched.h>\nvoid feed(void);\nvoid feed(void) { sched_yield(); }\n"


@pytest.fixture(scope="module")
def by_rows() -> Network:
    return network(5)


@pytest.fixture(scope="module")
def rows_folder(by_rows: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("busy")
    write(by_rows, "cam", folder, by_rows=True)
    write(by_rows, "whole", folder)
    return folder


@pytest.fixture(scope="module")
def binary(rows_folder: Path) -> ctypes.CDLL:
    """Both kinds of library, with a hook after every kernel."""
    libraries = [rows_folder / "cam", rows_folder / "whole"]
    (rows_folder / "feed.c").write_text(FEED)
    files = [file for library in libraries for file in sources(library, False)]
    options = ["-DTVMGEN_FEED=feed", "-D_GNU_SOURCE", rows_folder / "feed.c"]
    return shared_object(rows_folder, *options, *includes(*libraries), *files)


class Rows:
    """An image that is pushed."""

    def __init__(self, binary: ctypes.CDLL, made: Network) -> None:
        self._binary, self._image = binary, np.ascontiguousarray(made.image)
        self.logits = np.zeros(7, np.int32)
        self._outputs = (ctypes.c_void_p * 1)(self.logits.ctypes.data)

    def begin(self) -> int:
        return self._binary.tvmgen_cam_begin(self._outputs)

    def push(self, row: int) -> int:
        return self._binary.tvmgen_cam_push_row(ctypes.c_void_p(self._image[row].ctypes.data))

    def cancel(self) -> int:
        return self._binary.tvmgen_cam_cancel()


@pytest.mark.cc
def test_begin_to_last_row_is_one_inference(binary: ctypes.CDLL, by_rows: Network) -> None:
    rows, count = Rows(binary, by_rows), len(by_rows.image)
    assert rows.push(0) == NOT_BEGUN and rows.cancel() == NOT_BEGUN
    assert rows.begin() == count
    for row in range(count):
        assert rows.begin() == BUSY and run(binary, "cam", by_rows)[0] == BUSY
        assert binary.tvmgen_cam_push_row(None) == INVALID
        assert rows.push(row) == count - row - 1
    assert rows.logits.tolist() == expected(by_rows)
    assert rows.push(0) == NOT_BEGUN and rows.cancel() == NOT_BEGUN
    assert run(binary, "cam", by_rows) == (OK, expected(by_rows))


@pytest.mark.cc
@pytest.mark.parametrize("pushed", [0, 1, 5, 9])
def test_cancel_ends_a_push(binary: ctypes.CDLL, by_rows: Network, pushed: int) -> None:
    rows = Rows(binary, by_rows)
    assert rows.begin() > 0
    for row in range(pushed):
        assert rows.push(row) > 0
    assert rows.cancel() == OK and rows.cancel() == NOT_BEGUN and rows.push(0) == NOT_BEGUN
    assert run(binary, "cam", by_rows) == (OK, expected(by_rows))


@pytest.mark.cc
@pytest.mark.parametrize("name", ["cam", "whole"])
def test_threads(binary: ctypes.CDLL, by_rows: Network, name: str) -> None:
    """Either the right logits, or BUSY and nothing: from four threads that never wait."""
    found: Counter[int] = Counter()
    wrong: list[tuple[int, list[int]]] = []
    right, nothing = expected(by_rows), [0] * 7

    def work() -> None:
        for _ in range(500):
            status, logits = run(binary, name, by_rows)
            found[status] += 1
            if (status, logits) not in ((OK, right), (BUSY, nothing)):
                wrong.append((status, logits))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert found[OK] > 0 and found[BUSY] > 0 and found.keys() == {OK, BUSY}
    assert run(binary, name, by_rows) == (OK, right)


@pytest.mark.cc
def test_another_thread_cancels(binary: ctypes.CDLL, by_rows: Network) -> None:
    """Whenever it comes, the inference ends whole or CANCELLED, and the next one is right."""
    rows, right = Rows(binary, by_rows), expected(by_rows)
    done = threading.Event()
    found: Counter[int] = Counter()

    def cancel() -> None:
        while not done.is_set():
            assert rows.cancel() in (OK, NOT_BEGUN)

    thread = threading.Thread(target=cancel)
    thread.start()
    for _ in range(500):
        status, logits = run(binary, "cam", by_rows)
        found[status] += 1
        assert status == CANCELLED or (status, logits) == (OK, right)
    done.set()
    thread.join()
    assert found[CANCELLED] > 0 and found.keys() <= {OK, CANCELLED}
    assert run(binary, "cam", by_rows) == (OK, right)


MAIN = """
#include "board.h"
#include "tvmgen_cam.h"
#include "tvmgen_whole.h"
static int32_t other[7];
int32_t logits[4][7], status[4], inside[3], times, cancels, cancelled, after;
static volatile int wants, cancelling;
/* After every kernel, in the middle of an inference. */
void feed(void);
void feed(void) { if (wants) REG(0xE000ED04) = 1u << 28; __asm volatile("dsb; isb"); }
void PendSV_Handler(void) {
  struct tvmgen_cam_inputs in = {(void *)image};
  struct tvmgen_cam_outputs out = {other};
  struct tvmgen_whole_inputs in2 = {(void *)image};
  struct tvmgen_whole_outputs out2 = {other};
  times++;
  if (cancelling) {
    cancels |= tvmgen_cam_cancel() != TVMGEN_CAM_OK;
    return;
  }
  inside[0] = wants == 1 ? tvmgen_whole_run(&in2, &out2) : tvmgen_cam_run(&in, &out);
  inside[1] = wants == 1 ? inside[0] : tvmgen_cam_begin(&out);
  inside[2] = wants == 1 ? inside[0] : tvmgen_cam_push_row(image);
  for (int i = 0; i < 3; i++) if (inside[i] != TVMGEN_CAM_BUSY) after = 1;
}
int main(void) {
  struct tvmgen_cam_inputs in = {(void *)image};
  struct tvmgen_whole_inputs in2 = {(void *)image};
  struct tvmgen_cam_outputs out = {logits[0]};
  struct tvmgen_whole_outputs out2 = {logits[1]};
  wants = 2;
  status[0] = tvmgen_cam_run(&in, &out);
  wants = 1;
  status[1] = tvmgen_whole_run(&in2, &out2);
  wants = 2;
  out.output = logits[2];
  int32_t left = tvmgen_cam_begin(&out);
  for (const uint8_t *row = image; left > 0; row += TVMGEN_CAM_ROW_SIZE)
    left = tvmgen_cam_push_row(row);
  status[2] = left;
  cancelling = 1;
  left = tvmgen_cam_begin(&out);
  for (const uint8_t *row = image; left > 0; row += TVMGEN_CAM_ROW_SIZE)
    left = tvmgen_cam_push_row(row);
  cancelled = left;
  wants = 0;
  out.output = logits[3];
  status[3] = tvmgen_cam_run(&in, &out);
  for (int i = 0; i < 7; i++) after |= other[i];
  return 0;
}
"""


@pytest.mark.emu
def test_interrupts_inside(rows_folder: Path, by_rows: Network, tmp_path: Path) -> None:
    """An interrupt after every kernel calls run, begin and push_row, then cancel."""
    from tvm_mpq.emulator import Board

    libraries = [rows_folder / "cam", rows_folder / "whole"]
    files = [file for library in libraries for file in sources(library, True)]
    main = "#include <stdint.h>\n" + c_bytes("image", by_rows) + MAIN
    options = ["-DTVMGEN_FEED=feed", "-Wl,--gc-sections", "-ffunction-sections"]
    board = Board(firmware(tmp_path, main, *options, *includes(*libraries), *files))
    assert board.run(timeout_seconds=120).stopped_by == "end of program"

    def words(name: str) -> list[int]:
        return np.frombuffer(board.read_symbol(name), np.int32).tolist()

    assert words("status") == [OK] * 4 and words("logits") == expected(by_rows) * 4
    assert words("inside") == [BUSY] * 3 and words("after") == [0] and words("times")[0] > 20
    assert words("cancelled") == [CANCELLED] and words("cancels") == [0]
