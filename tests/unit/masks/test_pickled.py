"""Pickled .npy files: what NumPy writes is read whatever the protocol; anything else is refused and never run."""

import os
import pickle
import pickletools
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from us43d import registry
from us43d.contract import RawTree
from us43d.errors import UnreadableFile
from us43d.harmonize.build import build
from us43d.masks.pickled import MAX_BYTES, MAX_OPERATIONS, _Array, _Dtype, pickled_array
from us43d.paths import Home
from us43d.pickles import PickleError


def write(path: Path, pickled: bytes) -> Path:
    """A .npy file whose pickle is given."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"shape": (), "fortran_order": False, "descr": "|O"})
        file.write(pickled)
    return path


class Calls:
    def __init__(self, function: Any, *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize(
    "array",
    [
        np.arange(12, dtype=np.uint8).reshape(3, 4),
        np.asfortranarray(np.arange(12, dtype=">i2").reshape(3, 4)),
        np.arange(12, dtype=np.float64).reshape(3, 4)[:, ::2],
        np.eye(3, dtype=bool),
        np.zeros((0, 4), np.int64),
    ],
)
def test_arrays_come_back_as_written(tmp_path: Path, array: Any, protocol: int) -> None:
    content = {"image": array.T, "structures": {"liver": array, "seen": {1, 2}, "n": np.float32(2)}}
    path = write(tmp_path / "a.npy", pickle.dumps(np.array(content, object), protocol))
    found = pickled_array(path, "structures", "liver")
    assert np.array_equal(found, array)
    assert found.dtype == array.dtype
    assert np.array_equal(pickled_array(path, "image"), array.T)


@pytest.mark.parametrize("core", [b"core", b"_core"])
def test_both_generations_of_numpy(tmp_path: Path, core: bytes) -> None:
    pickled = pickle.dumps(np.array({"liver": np.ones((2, 2), np.uint8)}, object), 3)
    assert pickled.count(b"numpy._core.") == 1
    path = write(tmp_path / "a.npy", pickled.replace(b"numpy._core.", b"numpy." + core + b"."))
    assert pickled_array(path, "liver").sum() == 4


def test_objects_of_a_machine_of_32_bits(tmp_path: Path) -> None:
    pickled = pickle.dumps(np.array({"liver": np.ones((2, 2), np.uint8)}, object), 3)
    assert pickled.count(b"O8") == 1
    assert pickled_array(write(tmp_path / "a.npy", pickled.replace(b"O8", b"O4")), "liver").sum() == 4


@pytest.mark.parametrize(
    ("dtype", "shape", "data"),
    [("O8", (2,), [1]), ("O8", (1,), b"1"), ("O8", (1,), "1"), ("u1", (1,), [1]), ("u1", (1,), "1")],
)
def test_data_that_do_not_fit_their_type(dtype: str, shape: tuple[int, ...], data: Any) -> None:
    with pytest.raises(PickleError, match=r"object array of another length|claims more than 1 values|not bytes"):
        _Array().restore((1, shape, _Dtype(dtype), False, data))
    with pytest.raises(PickleError, match="asks for numbers that are not bytes"):
        _Dtype("O8").array(b"12345678")


@pytest.mark.parametrize(
    ("state", "valid"),
    [
        ((3, "<", None, None, None, -1), True), ((4, "=", None, None, None, -1, -1, 0, {}), True),
        ((2, "<", None, None, None), False), ((5, "<", None, None, None), False), ((3, "!", None, None, None), False),
        ((3, "<", (), None, None), False), ((3, "<", None, (), None), False), ((3, "<", None, None, {}), False),
    ],
)  # fmt: skip
def test_the_state_of_a_type(state: tuple[Any, ...], valid: bool) -> None:
    dtype = _Dtype("i2")
    if valid:
        dtype.restore(state)
        assert dtype.array(b"\2\1").tolist() == [258]
    else:
        with pytest.raises(PickleError, match="asks for a structured dtype"):
            dtype.restore(state)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("function", [os.mkdir, os.system, subprocess.check_call, eval, getattr, __import__, np.load])
def test_a_hostile_file_is_refused_and_not_run(tmp_path: Path, function: Any, protocol: int) -> None:
    touched = tmp_path / "touched"
    arg = str(touched) if function is os.mkdir else f"touch {touched}"
    content = np.array({"structures": {"liver": Calls(function, arg)}}, object)
    path = write(tmp_path / "a.npy", pickle.dumps(content, protocol))
    with pytest.raises(UnreadableFile, match=r"a\.npy is not read as a pickled array: it asks for"):
        pickled_array(path, "structures", "liver")
    assert not touched.exists()


def test_the_hostile_file_would_run_elsewhere(tmp_path: Path) -> None:
    """The files above are truly hostile: NumPy's own reader runs them."""
    touched = tmp_path / "touched"
    path = write(tmp_path / "a.npy", pickle.dumps(np.array({"x": Calls(os.mkdir, str(touched))}, object)))
    np.load(path, allow_pickle=True)
    assert touched.is_dir()


#: A dtype of objects whose flags claim that it holds plain bytes: NumPy would take the bytes for pointers.
FORGED = (
    b"\x80\x04cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85C\x01bt"
    b"R(K\x01K\x01\x85cnumpy\ndtype\n(\x8c\x02O8\x89\x88tR(K\x03\x8c\x01|NNNK\xffK\xffK\x00tb\x89C\x08AAAAAAAAtb."
)


#: A tuple nested 60 deep, twice in each level: its hash takes 2 to the power of 60 steps.
NEST = b"K\x01\x85\x94" + b"".join(b"h%c\x86\x94" % n for n in range(60))
#: An array of bytes with a shape and data to be put in.
SHAPED = (
    b"\x80\x04cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85C\x01bt"
    b"R(K\x01(%btcnumpy\ndtype\n(\x8c\x02u1\x89\x88tR\x89C\x04%btb."
)


@pytest.mark.parametrize(
    ("pickled", "why"),
    [
        (FORGED, "object array of another length"),
        (pickle.dumps(np.array({"x": np.zeros(2, "u1,f4")}, object)), "dtype 'V5'"),
        (pickle.dumps(np.array({"x": np.array("text")}, object)), "dtype 'U4'"),
        (pickle.dumps(np.array({"x": Path("a")}, object)), "pathlib"),
        (b"\x80\x04\x8c\x01ar\xff\xff\xff\x7f.", "holds no pickled object|"),
        (b"\x80\x04}" + NEST + b"K\x01s.", "has a tuple for a key"),
        (b"\x80\x04\x8f(" + NEST + b"\x90.", "has a tuple for a key"),
        (b"\x80\x04cbuiltins\nfrozenset\n(" + NEST + b"ltR.", "has a tuple for a key|damaged|is not"),
        (b"\x80\x04" + b"]" * 9000 + b"a" * 900 + b".", ""),
        (SHAPED % (b"\x8a\xff" + b"\x7f" * 255, b"aaaa"), "not an integer below"),
        (SHAPED % (b"K\xffK\xffK\xffK\xffK\xffK\xff", b"aaaa"), "claims more than"),
        (SHAPED % (b"K\x01\x85", b"aaaa"), "not an integer below"),
        (b"\x80\x04" + b")0" * MAX_OPERATIONS + b"N.", "operations"),
        (b"\x80\x04cnumpy\ndtype\n}b.", "gives a state to a type"),
        (b"\x80\x04cbuiltins\nset\n)\x81.", "makes an object of a class"),
        (b"\x80\x04\x8c\x01aQ.", "kept outside of it"),
        (b"\x80\x05\x96\xff\xff\xff\xff\xff\x00\x00\x00ab.", ""),
        (b"", ""),
        (b"\x80\x04K\x01.", ""),
    ],
)
def test_forged_pickles(tmp_path: Path, pickled: bytes, why: str) -> None:
    with pytest.raises(UnreadableFile, match=rf"a\.npy (is not read as a pickled array: .*|holds)({why})"):
        pickled_array(write(tmp_path / "a.npy", pickled), "x")


def test_files_cut_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.array({"x": np.ones((4, 4), np.uint8)}, object), allow_pickle=True)
    whole = path.read_bytes()
    assert any(op.name == "STACK_GLOBAL" for op, _, _ in pickletools.genops(whole[128:]))
    for length in range(len(whole)):
        cut = tmp_path / f"{length}.npy"
        cut.write_bytes(whole[:length])
        with pytest.raises(UnreadableFile, match=str(cut)):
            pickled_array(cut, "x")


def test_other_files(tmp_path: Path) -> None:
    np.save(plain := tmp_path / "plain.npy", np.ones((4, 4)))
    with pytest.raises(UnreadableFile, match="no pickled object"):
        pickled_array(plain, "x")
    np.save(plain, np.array([{"x": np.ones(2)}], object), allow_pickle=True)
    with pytest.raises(UnreadableFile, match=r"holds an array of object with the shape \(1,\), no pickled object"):
        pickled_array(plain, "x")
    with (tmp_path / "large.npy").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(UnreadableFile, match="is not read"):
        pickled_array(tmp_path / "large.npy", "x")
    with pytest.raises(UnreadableFile, match="cannot be read"):
        pickled_array(tmp_path / "absent.npy", "x")
    content = {"liver": np.ones((2, 2), np.uint8), "n": 3, 4: 5}
    path = write(tmp_path / "a.npy", pickle.dumps(np.array(content, object)))
    for keys, why in ((("lung",), "it has liver, n"), (("n", "x"), "no names"), (("n",), "no array of numbers")):
        with pytest.raises(UnreadableFile, match=why):
            pickled_array(path, *keys)


def test_a_specimen_with_a_hostile_file_is_refused(tmp_path: Path) -> None:
    registry.specimen("fass")(tmp_path / "raw", np.random.default_rng(0))
    (path,) = (RawTree(tmp_path / "raw").path(key) for key in RawTree(tmp_path / "raw").glob("**/P03_IMG1.npy"))
    touched = tmp_path / "touched"
    with path.open("wb") as file:
        np.save(file, np.array({"structures": Calls(os.mkdir, str(touched))}, object), allow_pickle=True)
    with pytest.raises(Exception, match=r"IMAGES/P03_IMG1\.png: .*P03_IMG1\.npy is not read.*asks for posix\.mkdir"):
        build(registry.recipe("fass"), tmp_path / "raw", Home(tmp_path / "home"), partial=True)
    assert not touched.exists()
