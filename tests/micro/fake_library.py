"""A hand-made library with the interface of a generated one: y = W x + b on unsigned bytes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tvm_mpq.codegen.archive import ABI_VERSION

INPUTS = 64
OUTPUTS = 4

_HEADER = """\
#ifndef TVMGEN_DEFAULT_H_
#define TVMGEN_DEFAULT_H_
#include <stdint.h>
#define TVMGEN_DEFAULT_ABI_VERSION {abi}
#define TVMGEN_DEFAULT_X_SIZE {inputs}
#define TVMGEN_DEFAULT_OUTPUT_SIZE {output_bytes}
#define TVMGEN_DEFAULT_WORKSPACE_SIZE {arena}
struct tvmgen_default_inputs {{ void* x; }};
struct tvmgen_default_outputs {{ void* output; }};
int32_t tvmgen_default_run(struct tvmgen_default_inputs* inputs,
                           struct tvmgen_default_outputs* outputs);
void* tvmgen_default_input_buffer(void);
#endif
"""

_SOURCE = """\
#include "tvmgen_default.h"
#include <string.h>
#define SECTION(name, align) __attribute__((section(name), aligned(align)))
extern const int8_t fc_weights[{outputs}][{inputs}];
SECTION(".rodata.tvm.fc_bias", 4) const int32_t fc_bias[{outputs}] = {{ {bias} }};
SECTION(".bss.tvm_arena", 32) uint8_t tvmgen_default_arena[{arena}];
SECTION(".bss.tvm_scratch", 32) uint8_t tvmgen_default_scratch[{scratch}];
static int32_t runs = 3;  /* in .data, so that its start-up copy is tested */

void* tvmgen_default_input_buffer(void) {{ return {input_buffer}; }}

int32_t tvmgen_default_run(struct tvmgen_default_inputs* inputs,
                           struct tvmgen_default_outputs* outputs) {{
  int32_t y[{outputs}];
  memcpy(tvmgen_default_scratch, inputs->x, {inputs});
  for (int o = 0; o < {outputs}; ++o) {{
    y[o] = fc_bias[o];
    for (int i = 0; i < {inputs}; ++i) y[o] += fc_weights[o][i] * tvmgen_default_scratch[i];
  }}
  memcpy(outputs->output, y, sizeof y);
  memset(tvmgen_default_arena, 0xEE, sizeof tvmgen_default_arena);  /* the input is destroyed */
  runs = runs + 1;
  {extra}
  return runs > 3 ? {return_code} : -9;
}}
"""

_WEIGHTS = """\
#include <stdint.h>
__attribute__((section(".rodata.tvm.fc_weights"), aligned(4)))
const int8_t fc_weights[{outputs}][{inputs}] = {{ {weights} }};
"""

_PADDING = """
__attribute__((section(".rodata.tvm.conv7_weights"), aligned(4)))
const uint8_t conv7_weights[{padding}] = {{1}};
"""

# A volatile read, so that --gc-sections keeps the padding.
_USE_PADDING = (
    "extern const uint8_t conv7_weights[]; (void)*(const volatile uint8_t*)conv7_weights; "
)


@dataclass(frozen=True)
class FakeLibrary:
    """What to write; ``extra`` is C at the end of run, ``padding`` bytes of unused weights."""

    arena: int = 4096
    scratch: int = 1024
    padding: int = 0
    abi: int = ABI_VERSION
    extra: str = ""
    return_code: int = 0
    bad_line: str = ""
    input_in_arena: bool = True
    tells_input: bool = True

    @property
    def weights(self) -> np.ndarray:
        """int8 [OUTPUTS, INPUTS]"""
        return np.random.default_rng(7).integers(-128, 128, (OUTPUTS, INPUTS)).astype(np.int8)

    @property
    def bias(self) -> np.ndarray:
        """int32 [OUTPUTS]"""
        return np.arange(-2, OUTPUTS - 2, dtype=np.int32) * 1000

    def reference(self, inputs: np.ndarray) -> np.ndarray:
        """int32 [N, OUTPUTS] for uint8 [N, INPUTS]."""
        product = inputs.astype(np.int32) @ self.weights.astype(np.int32).T
        return (product + self.bias).astype(np.int32)

    def write(self, folder: Path) -> Path:
        """Write the unpacked library below ``folder`` and return it."""
        include, source = folder / "codegen/host/include", folder / "codegen/host/src"
        include.mkdir(parents=True)
        source.mkdir(parents=True)
        sizes = {"inputs": INPUTS, "outputs": OUTPUTS, "output_bytes": 4 * OUTPUTS}
        sizes |= {"arena": self.arena, "scratch": self.scratch}
        input_buffer = "tvmgen_default_arena" if self.input_in_arena else "0"
        (include / "tvmgen_default.h").write_text(_HEADER.format(abi=self.abi, **sizes))
        bias = ", ".join(map(str, self.bias))
        extra = _USE_PADDING + self.extra if self.padding else self.extra
        text = _SOURCE.format(
            input_buffer=input_buffer, bias=bias, extra=extra, return_code=self.return_code, **sizes
        )
        (source / "default_lib0.c").write_text(text + self.bad_line)
        rows = ("{" + ", ".join(map(str, row)) + "}" for row in self.weights)
        text = _WEIGHTS.format(weights=", ".join(rows), **sizes)
        if self.padding:
            text += _PADDING.format(padding=self.padding)
        (source / "default_lib1.c").write_text(text)
        (folder / "metadata.json").write_text(json.dumps(self.metadata(), indent=2))
        return folder

    def metadata(self) -> dict[str, object]:
        """metadata.json as the codegen room writes it."""
        main = {
            "device": 1,
            "inputs": {"x": {"size": INPUTS, "dtype": "uint8"}},
            "outputs": {"output": {"size": 4 * OUTPUTS, "dtype": "int32"}},
            "workspace_size_bytes": self.arena,
        }
        module = {"model_name": "default", "target": ["stm32h7"], "executors": ["aot"]}
        module |= {"style": "full-model", "memory": {"functions": {"main": [main]}}}
        buffers = ["hidden"] if self.tells_input and not self.input_in_arena else ["x", "hidden"]
        module["tvm_mpq"] = {"arena": [["region", "buffer"], *(["arena", b] for b in buffers)]}
        return {"version": 7, "modules": {"default": module}}
