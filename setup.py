"""The extension module; everything else is in pyproject.toml."""

import os
import sys
from pathlib import Path

from setuptools import Extension, setup

if os.name != "posix" or sys.maxsize < 2**32:
    sys.exit("fastnk needs a POSIX system and a 64-bit Python")

setup(
    ext_modules=[
        Extension(
            "fastnk._core",
            ["src/fastnk/_core.pyx"],
            depends=[
                str(p) for p in Path("src/fastnk").glob("*") if p.suffix in (".h", ".pxd", ".pxi")
            ],
            # Here and not in CFLAGS, which would replace the flags Python itself was built with.
            # Of the time that a build takes, what a debugger needs would be a third.
            extra_compile_args=["-O3", "-g0"],
        )
    ]
)
