"""GGUF files that ggml's own package writes must be read by Sememe with the same metadata and, bit for bit, the same dequantised values.

Run from the repository root: .venv/bin/python tests/formats/gguf_oracle.py --sememe build/release/bin/sememe
"""

import argparse
import json
import os
import pathlib
import struct
import subprocess
import sys
import tempfile

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Kind
from gguf import GGUFValueType as Value

FLOATS = [Kind.F32, Kind.F16, Kind.BF16]
QUANTISED_BY_THE_PACKAGE = [Kind.BF16, Kind.Q4_0, Kind.Q4_1, Kind.Q5_0, Kind.Q5_1, Kind.Q8_0]
KINDS = FLOATS + [Kind.Q4_0, Kind.Q4_1, Kind.Q5_0, Kind.Q5_1, Kind.Q8_0, Kind.Q2_K, Kind.Q3_K, Kind.Q4_K, Kind.Q5_K, Kind.Q6_K, Kind.Q8_K]

SCALARS = {Value.UINT8: ("uint8", [0, 255]), Value.INT8: ("int8", [-128, 127]), Value.UINT16: ("uint16", [0, 65535]),
           Value.INT16: ("int16", [-32768, 32767]), Value.UINT32: ("uint32", [0, 2**32 - 1]), Value.INT32: ("int32", [-2**31, 2**31 - 1]),
           Value.UINT64: ("uint64", [0, 2**64 - 1]), Value.INT64: ("int64", [-2**63, 2**63 - 1]),
           Value.FLOAT32: ("float32", [0.1, -1e-45, 3e38]), Value.FLOAT64: ("float64", [0.1, 5e-324, -1e308]),
           Value.BOOL: ("bool", [True, False]), Value.STRING: ("string", ["", "two\nlines", "né ▁ 語"])}


def as_stored(kind, value):
    return struct.unpack("<f", struct.pack("<f", value))[0] if kind == Value.FLOAT32 else value


def add_metadata(writer):
    """Every type, alone and as an array; what Sememe must say of each."""
    wanted = []
    for kind, (name, values) in SCALARS.items():
        for index, value in enumerate(values):
            writer.add_key_value(f"scalar.{name}.{index}", value, kind)
            wanted.append((f"scalar.{name}.{index}", name, as_stored(kind, value)))
        writer.add_key_value(f"array.{name}", values, Value.ARRAY, sub_type=kind)
        wanted.append((f"array.{name}", f"array of {name}", [as_stored(kind, value) for value in values]))
    return wanted


def dequantize(blocks, kind):
    if kind == Kind.Q8_K:  # the package does not dequantise it; a block is a float32 scale, 256 int8 weights, 16 int16 sums
        single = blocks.reshape(-1, gguf.GGML_QUANT_SIZES[kind][1])
        scales, weights = single[:, :4].copy().view(np.float32), single[:, 4:260].copy().view(np.int8)
        return (scales * weights.astype(np.float32)).reshape(gguf.quant_shape_from_byte_shape(blocks.shape, kind))
    return gguf.quants.dequantize(blocks, kind)


def blocks_of(kind, generator):
    """Named arrays of blocks [..., bytes in a row]: random bytes, thus scales of any size, infinite and no numbers too, and what the
    package makes of normal weights where it can."""
    weights, size = gguf.GGML_QUANT_SIZES[kind]
    for name, shape in {"vector": (3,), "matrix": (67, 2), "cube": (2, 3, 1), "four": (2, 1, 3, 2)}.items():
        yield f"random {name}", generator.integers(0, 256, (*shape[:-1], shape[-1] * size), dtype=np.uint8)
    yield "zeros", np.zeros((2, size), dtype=np.uint8)
    yield "ones", np.full((2, size), 255, dtype=np.uint8)
    if size == 2:
        yield "every value", np.arange(65536, dtype=np.uint16).view(np.uint8).reshape(256, 512)
    if kind in QUANTISED_BY_THE_PACKAGE:
        for scale in (1e-6, 0.02, 1.0, 1000.0):
            array = (scale * generator.standard_normal((33, 4 * weights if weights > 1 else 96))).astype(np.float32)
            yield f"normal {scale}", gguf.quants.quantize(array, kind)


def write_reference(folder, kind, alignment, generator):
    writer = gguf.GGUFWriter(folder / f"{kind.name}.gguf", "llama")
    writer.add_custom_alignment(alignment)
    metadata = [("general.architecture", "string", "llama"), ("general.alignment", "uint32", alignment)] + add_metadata(writer)
    tensors = {}
    for name, blocks in blocks_of(kind, generator):
        tensors[name] = blocks
        element = {Kind.F32: np.float32, Kind.F16: np.float16}.get(kind)
        writer.add_tensor(name, blocks.view(element) if element else blocks, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return metadata, tensors


def read_safetensors(path):
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:8 + length])
    data = raw[8 + length:]
    return {name: np.frombuffer(data[slice(*entry["data_offsets"])], dtype=np.float32).reshape(entry["shape"])
            for name, entry in header.items() if name != "__metadata__"}


def same_bits(got, wanted):
    """What is no number need only be none: the processor chooses its bits."""
    numbers = ~np.isnan(wanted)
    return (got.shape == wanted.shape and np.array_equal(np.isnan(got), ~numbers)
            and np.array_equal(got.view(np.uint32)[numbers], wanted.view(np.uint32)[numbers]))


def run_sememe(program, work):
    run = subprocess.run([program, "--gtest_also_run_disabled_tests", "--gtest_filter=GgufOracle.*"],
                         env={**os.environ, "SEMEME_ORACLE_FOLDER": str(work)}, capture_output=True, text=True, check=False)
    if run.returncode != 0 or "1 test" not in run.stdout:
        print(run.stdout, run.stderr)
        return False
    return True


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sememe", type=pathlib.Path, default=pathlib.Path("build/release/bin/sememe"))
    program = parser.parse_args().sememe.parent / "formats_test"
    passed, failed = 0, 0

    def check(name, holds):
        nonlocal passed, failed
        passed, failed = passed + bool(holds), failed + (not holds)
        if not holds:
            print(f"failed: {name}")

    np.seterr(all="ignore")
    with tempfile.TemporaryDirectory() as work:
        reference, copied = pathlib.Path(work, "reference"), pathlib.Path(work, "copied")
        reference.mkdir()
        copied.mkdir()
        generator = np.random.default_rng(1)
        files = {kind: write_reference(reference, kind, [32, 64, 8][index % 3], generator) for index, kind in enumerate(KINDS)}
        if not run_sememe(program, work):
            print("0 passed, 1 failed")
            return 1
        for kind, (metadata, tensors) in files.items():
            said = json.loads((copied / f"{kind.name}.json").read_text())
            entries = {entry["key"]: (entry["type"], entry["value"]) for entry in said["metadata"]}
            check(f"{kind.name}: number of keys", len(entries) == len(said["metadata"]) == len(metadata))
            for key, name, value in metadata:
                check(f"{kind.name}: {key}", entries.get(key) == (name, value))
            got = read_safetensors(copied / f"{kind.name}.safetensors")
            check(f"{kind.name}: tensors", got.keys() == tensors.keys() and set(said["types"].values()) == {kind.name})
            for name, blocks in tensors.items():
                check(f"{kind.name}: {name}", name in got and same_bits(got[name], dequantize(blocks, kind)))
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
