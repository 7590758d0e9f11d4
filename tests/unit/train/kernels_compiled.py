"""Run by test_attention.py: the Triton kernels compiled for a GPU that need not be here. Prints what they use."""

import os
import sys
import tempfile

os.environ["TRITON_CACHE_DIR"] = tempfile.mkdtemp(prefix="us43d-test-")

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from us43d.model import flash


def main(capability: int) -> None:
    for kernel in (flash._forward, flash._backward_queries, flash._backward_keys):
        names, config = kernel.fn.arg_names, kernel.configs[0]
        for height, width, dim in ((64, 64, 64), (14, 14, 64)):
            padded = max(16, triton.next_power_of_2(width))
            shape = {"H": height, "W": width, "D": dim, "PW": padded, "PD": dim, "ROWS": flash.KEYS // padded, "M": 64}
            known = {"scale": "fp32", "lse": "*fp32", "delta": "*fp32", "heads": "i32"} | dict.fromkeys(
                ("in_b", "in_h", "in_n", "out_b", "out_h", "out_n"), "i32"
            )
            signature = {name: "constexpr" if name in shape else known.get(name, "*bf16") for name in names}
            source = ASTSource(
                kernel.fn,
                signature,
                constexprs={(names.index(name),): value for name, value in shape.items()},
                attrs={
                    (n,): [["tt.divisibility", 16]] for n, name in enumerate(names) if name not in (*shape, "scale")
                },
            )
            options = {"num_warps": config.num_warps, "num_stages": config.num_stages, "enable_fp_fusion": True}
            made = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
            instructions = "wgmma" if "wgmma.mma_async" in made.asm["ptx"] else "mma"
            print(kernel.fn.__name__, shape, made.metadata.shared, instructions)


if __name__ == "__main__":
    main(int(sys.argv[1]))
