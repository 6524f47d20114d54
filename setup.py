"""The extension module; everything else is in pyproject.toml."""

from pathlib import Path

from setuptools import Extension, setup

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
