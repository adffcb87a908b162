"""Libraries link in any number: equal micro-kernels are shared, versions never mix."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.codegen.linking import (
    ARM,
    ARM_LINK,
    STRICT,
    c_bytes,
    call,
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
from tvm_mpq.codegen import library as codegen
from tvm_mpq.codegen.micro_export import micro_kernel_files
from tvm_mpq.kernels.micro import (
    _DEFINED,
    MicroKernels,
    micro_kernel_sources,
    micro_kernels,
)

Three = tuple[dict[str, Network], Path]


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Three:
    """Two networks of one architecture, and one that takes its image by rows."""
    folder = tmp_path_factory.mktemp("three")
    networks = {"kws": network(1), "vww": network(2), "cam": network(3, (4, 2, 8))}
    for name, made in networks.items():
        write(made, name, folder, by_rows=name == "cam")
    return networks, folder


def together(way: str, folder: Path, libraries: list[Path], arm: bool) -> list[str]:
    """What a linker is given: all sources, all in one folder, or an archive of each."""
    if way == "folders":
        return [file for library in libraries for file in sources(library, arm)]
    if way == "one folder":
        flat = folder / "flat"
        flat.mkdir()
        for library in libraries:
            for file in library.glob("src/*"):
                assert not (flat / file.name).exists()
                shutil.copy(file, flat)
        return sorted(map(str, flat.glob("*.[cS]" if arm else "*.c")))
    archives = []
    for library in libraries:
        objects = folder / f"{library.name}-objects"
        objects.mkdir()
        compiler = [*ARM, "-ffunction-sections"] if arm else ["cc", "-fPIC"]
        call(*compiler, *STRICT, *includes(library), "-c", *sources(library, arm), cwd=objects)
        archives.append(folder / f"lib{library.name}.a")
        call("arm-none-eabi-ar" if arm else "ar", "rcs", archives[-1], *objects.glob("*.o"))
    wanted = [] if arm else [f"-Wl,-u,tvmgen_{library.name}_run" for library in libraries]
    return [*wanted, *map(str, archives)]


WAYS = pytest.mark.parametrize("way", ["folders", "one folder", "archives"])


@pytest.mark.cc
@WAYS
@pytest.mark.parametrize("order", [("kws", "vww", "cam"), ("cam", "vww", "kws")])
def test_three_networks_on_the_host(
    three: Three, way: str, order: tuple[str, ...], tmp_path: Path
) -> None:
    networks, folder = three
    libraries = [folder / name for name in order]
    given = together(way, tmp_path, libraries, arm=False)
    binary = shared_object(tmp_path, *includes(*libraries), *given)
    for name in (*order, *reversed(order)):
        assert run(binary, name, networks[name]) == (0, expected(networks[name]))


MAIN = """
#include "board.h"
#include "tvmgen_kws.h"
#include "tvmgen_vww.h"
#include "tvmgen_cam.h"
int32_t kws[7], vww[7], cam[7], bad;
#define RUN(name) \\
  do { \\
    struct tvmgen_##name##_inputs in = {.x = (void *)name##_image}; \\
    struct tvmgen_##name##_outputs out = {.output = name}; \\
    bad |= tvmgen_##name##_run(&in, &out); \\
  } while (0)
int main(void) {
  for (int turn = 0; turn < 2; turn++) {
    RUN(kws);
    RUN(vww);
    RUN(cam);
  }
  return 0;
}
"""


@pytest.mark.emu
@WAYS
def test_three_networks_in_one_firmware(three: Three, way: str, tmp_path: Path) -> None:
    from tvm_mpq.emulator import Board

    networks, folder = three
    libraries = [folder / name for name in networks]
    images = "".join(c_bytes(f"{name}_image", made) for name, made in networks.items())
    main = "#include <stdint.h>\n" + images + MAIN
    given = together(way, tmp_path, libraries, arm=True)
    elf = firmware(tmp_path, main, *includes(*libraries), *given, "-Wl,--gc-sections")
    board = Board(elf)
    assert board.run(timeout_seconds=120, cycles=True).stopped_by == "end of program"
    assert board.read_symbol("bad") == bytes(4)
    for name, made in networks.items():
        assert np.frombuffer(board.read_symbol(name), np.int32).tolist() == expected(made), name
    # One of each micro-kernel, whoever brought it; nothing of the arenas is in the image.
    micro = re.findall(r" [Ww] (mpq_\w+)", call("arm-none-eabi-nm", elf))
    assert micro and len(micro) == len({name.rsplit("_", 1)[0] for name in micro})
    sections = call("arm-none-eabi-readelf", "-SW", elf)
    assert re.search(r" \.bss +NOBITS", sections) and ".tvm" not in sections


@pytest.mark.cc
def test_shared_memory_and_its_limits(three: Three, tmp_path: Path) -> None:
    """One arena for all, sized by the largest; one number too small is an error with the number."""
    networks, folder = three
    libraries = [folder / name for name in networks]
    texts = [(library / f"include/tvmgen_{library.name}.h").read_text() for library in libraries]
    arena, scratch = (
        max(int(re.search(rf"_{kind}_SIZE (\d+)", text)[1]) for text in texts)  # type: ignore[index]
        for kind in ("WORKSPACE", "SCRATCH")
    )
    shared = [f"-DTVMGEN_SHARED_ARENA={arena}", f"-DTVMGEN_SHARED_SCRATCH={scratch}"]
    files = [file for library in libraries for file in sources(library, False)]
    binary = shared_object(tmp_path, *shared, *includes(*libraries), *files)
    for name, made in networks.items():
        assert run(binary, name, made) == (0, expected(made))
    names = call("nm", tmp_path / "all.so")
    assert re.findall(r"tvmgen_\w+_arena\w*", names) == [f"tvmgen_shared_arena_{arena}"]
    # While one of them is between two rows, none of the others may run.
    from ctypes import c_void_p

    logits = np.zeros(7, np.int32)
    outputs = (c_void_p * 1)(logits.ctypes.data)
    assert binary.tvmgen_cam_begin(outputs) == len(networks["cam"].image)
    assert run(binary, "kws", networks["kws"])[0] == -2
    assert binary.tvmgen_cam_cancel() == 0
    assert run(binary, "kws", networks["kws"])[0] == 0
    small = [f"-DTVMGEN_SHARED_ARENA={arena - 1}", shared[1]]
    with pytest.raises(AssertionError, match=f"needs TVMGEN_SHARED_ARENA={arena} and"):
        shared_object(tmp_path, *small, *includes(*libraries), *files)


@pytest.mark.cc
def test_headers_in_cpp(three: Three, tmp_path: Path) -> None:
    """All headers in one C++ file, which calls C."""
    networks, folder = three
    libraries = [folder / name for name in networks]
    objects = tmp_path / "objects"
    objects.mkdir()
    files = [file for library in libraries for file in sources(library, False)]
    call("cc", *STRICT, *includes(*libraries), "-c", *files, cwd=objects)
    calls = "".join(
        f"  {{ tvmgen_{name}_inputs in{{{name}_image}}; tvmgen_{name}_outputs out{{logits}};\n"
        f"    const int32_t right[] = {{{', '.join(map(str, expected(made)))}}};\n"
        f"    if (tvmgen_{name}_run(&in, &out) != TVMGEN_{name.upper()}_OK) return 1;\n"
        "    if (std::memcmp(logits, right, sizeof right) != 0) return 2; }\n"
        for name, made in networks.items()
    )
    text = "".join(f'#include "tvmgen_{name}.h"\n' for name in networks) + "#include <cstring>\n"
    text += "".join(
        c_bytes(f"{name}_image", made).replace("const ", "") for name, made in networks.items()
    )
    (tmp_path / "main.cpp").write_text(
        f"{text}int main() {{\n  int32_t logits[7];\n{calls}  return 0;\n}}\n"
    )
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-pedantic"]
    program = tmp_path / "program"
    command = ["g++", *flags, *includes(*libraries), tmp_path / "main.cpp"]
    call(*command, *objects.glob("*.o"), "-o", program)
    call(program)


def altered(file: str, before: str, after: str) -> MicroKernels:
    """Another version of this package."""
    texts = micro_kernel_sources()
    assert before in texts[file]
    return MicroKernels(texts | {file: texts[file].replace(before, after)})


@pytest.mark.cc
@pytest.mark.parametrize("order", [("old", "new"), ("new", "old")])
@pytest.mark.parametrize(
    "change",
    [
        ("mpq_pool.c", "- base", "- base + 4000"),
        ("mpq_core_smlad.c", "low(x[j]) * low(w[0])", "low(x[j]) * low(w[1])"),
    ],
)
def test_two_versions_never_mix(
    order: tuple[str, str],
    change: tuple[str, str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each library calls its own micro-kernels, whichever comes first."""
    made = network(1, (8,))
    write(made, "old", tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(codegen, "micro_kernels", lambda: altered(*change))
        new = write(made, "new", tmp_path)
    libraries = [tmp_path / name for name in order]
    files = [file for library in libraries for file in sources(library, False)]
    both = shared_object(tmp_path, *includes(*libraries), *files)
    alone = tmp_path / "alone"
    alone.mkdir()
    _, wrong = run(shared_object(alone, *includes(new), *sources(new, False)), "new", made)
    assert run(both, "old", made) == (0, expected(made))
    assert run(both, "new", made) == (0, wrong) and wrong != expected(made)


@pytest.mark.null
def test_the_hash_is_that_of_all_the_code() -> None:
    """Of the function, of what it calls, of assembly only where assembly stands in for C."""
    old = micro_kernels()
    new = altered("mpq_store_y8.S", "@ ", "@  ")
    caller, other = "mpq_store8", "mpq_store4"
    assert old.versioned(caller, True) != new.versioned(caller, True)
    assert old.versioned(caller, False) == new.versioned(caller, False)
    assert old.versioned(other, True) == new.versioned(other, True)
    assert old.versioned(caller, True) != old.versioned(caller, False)


@pytest.mark.null
def test_what_is_called_is_found_through_macros_and_callees() -> None:
    source = "MPQ_DW_LANES_APART_OF_M16(2, 8, 4, 8, 16, 1, 2, 1, 8, 9, 9, 3, 5, 2, 0, 0, a, b);"
    assert micro_kernels().called_by(f"{source} mpq_store4(x);") == {
        *("mpq_depthwise", "mpq_lines_x8_l1_apart_of2", "mpq_lines_x8_l1_of2"),
        *("mpq_planar_taps_w4_m16", "mpq_lane_taps_w4_m16", "mpq_halves_taps_w4_m16"),
        *("mpq_dwlanes3x3s2_y8_16", "mpq_store4", "mpq_store4_m16"),
        *("mpq_store_y4", "mpq_store_y4_low"),
    }


def compiled(files: dict[str, str], folder: Path) -> dict[str, set[str]]:
    """Symbols that each compiler finds defined; nothing else may be needed."""
    found = {}
    for name, text in files.items():
        (folder / name).write_text(text)
    for kind, compiler, link, pattern in (
        ("host", ["cc", "-fPIC"], ["-shared", "-Wl,--no-undefined"], "*.c"),
        ("arm", ARM, [*ARM_LINK, "-Wl,-e,0", "-Wl,--no-gc-sections"], "*.[cS]"),
    ):
        output = folder / kind
        call(*compiler, *STRICT, *link, *folder.glob(pattern), "-o", output)
        text = call("nm" if kind == "host" else "arm-none-eabi-nm", output)
        found[kind] = set(re.findall(r" W (mpq_\w+)", text))
    return found


@pytest.mark.cc
def test_the_list_is_what_compilers_define(tmp_path: Path) -> None:
    kernels = micro_kernels()
    portable = {s for lines in kernels.files.values() for line in lines for s in line.symbols}
    found = compiled(micro_kernel_files("all", " ".join(portable), kernels), tmp_path)
    assert found["host"] == {kernels.versioned(s, False) for s in portable}
    everything = portable | kernels.assembly.keys()
    assert found["arm"] == {kernels.versioned(s, True) for s in everything}


@pytest.mark.cc
@pytest.mark.parametrize(
    "key",
    [
        key if number % 6 == 0 else pytest.param(key, marks=pytest.mark.slow)
        for number, key in enumerate(_DEFINED)
    ],
    ids="-".join,
)
def test_every_kind_alone_is_complete(key: tuple[str, str], tmp_path: Path) -> None:
    """What one kernel of each kind needs comes with it, and compiles without warnings."""
    kernels = micro_kernels()
    lines = [
        line
        for line in kernels.files[f"mpq_{key[0]}.c"]
        if line.text.startswith(f"DEFINE_{key[1]}(")
    ]
    symbol = lines[-1].symbols[0]
    found = compiled(micro_kernel_files("one", symbol, kernels), tmp_path)
    assert kernels.versioned(symbol, False) in found["host"]
    assert kernels.versioned(symbol, True) in found["arm"]
