"""What the Triton kernels of us43d/model/kernels.py use on a GPU: compiled here, without one. Prints a Markdown table.

    python benchmarks/kernels.py                                  # every kernel, shape and choice, for sm_80 and sm_90
    python benchmarks/kernels.py --write benchmarks/kernels.md    # and keep it
    python benchmarks/kernels.py --check benchmarks/kernels.md --first    # compile again, stop where a number differs

Registers are those of a thread; spills its bytes of local memory, and how many instructions in loops touch them; shared
the bytes of a block; blocks as many as registers, shared memory and threads let one multiprocessor hold; products the
instructions of the matrix products; loads the instructions of a thread that read global memory, asynchronous copies
excepted. No number here is a time.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TRITON_CACHE_DIR", tempfile.mkdtemp(prefix="us43d-kernels-"))

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from us43d.model import kernels

#: (H, W, D): global blocks and windows of ViT-B and L at 1024, and of ViT-H, whose heads are 80 wide.
GRIDS = ((64, 64, 64), (14, 14, 64), (64, 64, 80), (14, 14, 80))
KERNELS = ("_forward", "_backward_queries", "_backward_keys", "_backward_whole")
#: Of a multiprocessor (NVIDIA's CUDA C++ Programming Guide, "Technical Specifications per Compute Capability"):
#: bytes of shared memory for blocks, each of which takes 1 KiB more; registers; threads; blocks.
LIMITS = {80: (164 << 10, 65536, 2048, 32), 90: (228 << 10, 65536, 2048, 32)}
HEAD = (
    "| target | kernel | H × W × D | queries | warps | stages | registers | spills | in loops | shared | blocks "
    "| products | loads |"
)


class Row(NamedTuple):
    """One compiled kernel, as a row of the table."""

    target: int
    kernel: str
    grid: str
    queries: int
    warps: int
    stages: int
    registers: int
    spills: int
    looped: int
    shared: int
    blocks: int
    products: str
    loads: str

    def line(self) -> str:
        return f"| sm_{self.target} | {' | '.join(map(str, self[1:]))} |"


def compiled(kernel: Any, config: triton.Config, grid: tuple[int, int, int], target: int) -> Any:
    """Compile a kernel for bf16 inputs of a grid, as it is launched.

    Args:
        kernel: an autotuned kernel.
        config: one of its choices.
        grid: (H, W, D).
        target: compute capability, 80 or 90.
    """
    names = kernel.fn.arg_names
    constants: dict[str, Any] = kernels.shape(*grid) | config.kwargs
    fusion = constants.pop("enable_fp_fusion")
    if "PN" in names:
        constants["PN"] = triton.next_power_of_2(grid[0] * grid[1])
    integers = ("load", "heads", "in_b", "in_h", "in_n", "out_b", "out_h", "out_n")
    types = {"scale": "fp32", "lse": "*fp32", "delta": "*fp32"} | dict.fromkeys(integers, "i32")
    signature = {name: "constexpr" if name in constants else types.get(name, "*bf16") for name in names}
    # Strides are multiples of 16, the number of heads of ViT-B, 12, is not.
    plain = (*constants, "scale", "load", "heads")
    source = ASTSource(
        kernel.fn,
        signature,
        constexprs={(names.index(name),): value for name, value in constants.items()},
        attrs={(n,): [["tt.divisibility", 16]] for n, name in enumerate(names) if name not in plain},
    )
    options = {
        "num_warps": config.num_warps, "num_stages": config.num_stages, "maxnreg": config.maxnreg,
        "enable_fp_fusion": fusion,
    }  # fmt: skip
    return triton.compile(source, target=GPUTarget("cuda", target, 32), options=options)


def usage(cubin: bytes) -> tuple[int, int, int]:
    """Read a compiled kernel with NVIDIA's cuobjdump.

    Returns:
        Registers of a thread, bytes of its stack (which is what is spilled), and the instructions inside of loops that
        read or write that stack.
    """
    program = triton.knobs.nvidia.cuobjdump.path
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [program, "-res-usage", "-sass", file.name]
        report = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    match = re.search(r"REG:(\d+) STACK:(\d+)", report)
    if match is None:
        raise ValueError(f"cuobjdump reports no registers: {report[:300]!r}")
    code = [(int(at, 16), text) for at, text in re.findall(r"/\*([0-9a-f]{4,5})\*/\s+(.+?);", report)]
    jumps = [(at, int(to[1], 16)) for at, text in code if (to := re.search(r"\bBRA\S* .*?0x([0-9a-f]+)", text))]
    loops = [(to, at) for at, to in jumps if to < at]
    touched = sum("LDL" in text or "STL" in text for at, text in code if any(a <= at <= b for a, b in loops))
    return int(match[1]), int(match[2]), touched


def blocks(target: int, registers: int, shared: int, warps: int) -> int:
    """Blocks that one multiprocessor holds at once. Registers are given out to a warp 256 at a time."""
    memory, file, threads, most = LIMITS[target]
    warps_held = file // (-(-registers * 32 // 256) * 256)
    return min(most, warps_held // warps, memory // (shared + 1024), threads // (32 * warps))


def loads(ptx: str) -> str:
    """Count the instructions that load from global memory into registers, by width: "8 × 16 B, 2 × 2 B"."""
    widths: dict[int, int] = {}
    for vector, bits in re.findall(r"ld\.global[\w.:]*?(?:\.v(\d))?\.[bufs](\d+)\b", ptx):
        width = int(vector or 1) * int(bits) // 8
        widths[width] = widths.get(width, 0) + 1
    return ", ".join(f"{count} × {width} B" for width, count in sorted(widths.items(), reverse=True)) or "none"


def rows(targets: list[int], first: bool) -> Iterator[Row]:
    """Compile everything that a training step of ViT-B, L or H launches.

    Args:
        targets: compute capabilities.
        first: only the first choice of a kernel, for the grids of ViT-B.
    """
    for target in targets:
        for name in KERNELS:
            kernel = getattr(kernels, name)
            for grid in GRIDS[:2] if first else GRIDS:
                whole = kernels.whole(kernels.shape(*grid), (target // 10, 0))
                if name != "_forward" and whole != (name == "_backward_whole"):
                    continue
                for config in kernel.configs[:1] if first else kernel.configs:
                    made = compiled(kernel, config, grid, target)
                    registers, stack, looped = usage(made.asm["cubin"])
                    warps, shared = config.num_warps, made.metadata.shared
                    queries = config.kwargs.get("M", grid[0] * grid[1])
                    room = blocks(target, registers, shared, warps)
                    shown = " × ".join(map(str, grid))
                    yield Row(
                        target, name, shown, queries, warps, config.num_stages, registers, stack, looped, shared,
                        room,
                        "wgmma" if "wgmma.mma_async" in made.asm["ptx"] else "mma",
                        loads(made.asm["ptx"]),
                    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", type=int, nargs="+", choices=list(LIMITS), default=list(LIMITS))
    parser.add_argument("--first", action="store_true", help="only the first choice of each kernel, for ViT-B")
    parser.add_argument("--write", type=Path, help="file the table is written to as well")
    parser.add_argument("--check", type=Path, help="file with an earlier table to compare with")
    options = parser.parse_args()
    lines = [f"Triton {triton.__version__}, bf16.", "", HEAD, "|---" * 13 + "|"]
    print("\n".join(lines))
    for row in rows(options.target, options.first):
        lines.append(row.line())
        print(lines[-1], flush=True)
    if options.write:
        options.write.write_text("\n".join(lines) + "\n")
    if options.check:
        kept = options.check.read_text().splitlines()
        if kept[0] != lines[0]:
            sys.exit(f"{options.check} is of another compiler: {kept[0]} Next: make kernels")
        if changed := [line for line in lines if line not in kept]:
            sys.exit("\n".join(["Not in the kept table (if meant: make kernels):", *changed]))
        print(f"\nAs in {options.check}.")


if __name__ == "__main__":
    main()
