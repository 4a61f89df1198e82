"""How layers and `fusedrnn.weights` read arrays and names of other libraries."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fusedrnn import _foreign

NUMBERS = np.array([[0.0, -1.5, 3.0], [float("inf"), 2.0**-10, -0.0]])


def assert_is(found: Any, wanted: Any) -> None:
    assert type(found) is np.ndarray
    assert found.dtype == wanted.dtype
    assert found.dtype.isnative
    assert found.shape == wanted.shape
    assert np.array_equal(found, wanted, equal_nan=True)
    assert np.array_equal(np.signbit(found), np.signbit(wanted))


def test_numpy_arrays() -> None:
    for dtype in (np.float32, np.float64, np.longdouble, np.int64, np.bool_):
        a = NUMBERS[:1].astype(dtype)
        assert _foreign.as_array(a) is a
    assert_is(_foreign.as_array(NUMBERS.astype(">f8")), NUMBERS)
    assert_is(_foreign.as_array(NUMBERS.tolist()), NUMBERS)
    assert_is(_foreign.as_array(2.5), np.array(2.5))


def test_narrow_floats_are_widened() -> None:
    """Every float16 and every bfloat16 number becomes the float32 of the same value."""
    bits = np.arange(2**16, dtype=np.uint16)
    half = bits.view(np.float16)
    with np.errstate(invalid="ignore"):  # signalling NaN
        wide = half.astype(np.float32)
        assert_is(_foreign.as_array(half), wide)
        assert_is(_foreign.as_array(half.astype(">f2")), wide)
    ml_dtypes = pytest.importorskip("ml_dtypes")
    wanted = (bits.astype(np.uint32) << 16).view(np.float32)
    assert_is(_foreign.as_array(bits.view(ml_dtypes.bfloat16)), wanted)
    for name in ("float8_e4m3fn", "float8_e5m2"):
        a = NUMBERS[:1].astype(getattr(ml_dtypes, name))
        assert_is(_foreign.as_array(a), NUMBERS[:1].astype(np.float32))
    assert _foreign.as_array(np.array([1], ml_dtypes.int4)).dtype == ml_dtypes.int4  # not a float


@pytest.mark.torch
def test_tensors() -> None:
    """dict(model.named_parameters()) works, and so do bfloat16 tensors, which NumPy refuses."""
    torch = pytest.importorskip("torch")
    for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.float8_e5m2):
        tensor = torch.tensor(NUMBERS[:1]).to(dtype)
        wanted = NUMBERS[:1].astype(np.float64 if dtype == torch.float64 else np.float32)
        assert_is(_foreign.as_array(tensor), wanted)
        parameter = torch.nn.Parameter(tensor)
        assert_is(_foreign.as_array(parameter), wanted)
        assert parameter.requires_grad
    assert_is(_foreign.as_array(torch.tensor(3)), np.array(3))
    negative = torch.complex(torch.zeros(2), torch.ones(2)).conj().imag  # a lazy view
    assert_is(_foreign.as_array(negative), -np.ones(2, np.float32))
    for refused in (torch.ones(2, device="meta"), torch.eye(2).to_sparse()):
        with pytest.raises(TypeError, match=r"^NumPy cannot read it: "):
            _foreign.as_array(refused)


def test_what_is_no_array() -> None:
    with pytest.raises(TypeError, match=r"expected an array, got a masked array; use filled\(\)"):
        _foreign.as_array(np.ma.array([1.0], mask=[True]))
    with pytest.raises(TypeError, match=r"^NumPy cannot read it: "):
        _foreign.as_array([[1.0], [1.0, 2.0]])


def test_names_of_cells() -> None:
    cell = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    assert _foreign.stack_names(cell) == {name: f"{name}_l0" for name in cell}
    assert _foreign.stack_names(cell[:2]) == {name: f"{name}_l0" for name in cell[:2]}
    mixed = ("weight_ih", "weight_hh_l0")
    assert _foreign.stack_names(mixed) == {name: name for name in mixed}
    assert _foreign.stack_names(()) == {}


def test_prefixes() -> None:
    names = ("encoder.rnn.weight_ih_l0", "fc.weight", "a/b-c.bias_hh", "weight_ih_l0", "xweight")
    known = [e for e in map(_foreign.ending, names) if _foreign.is_recurrent(e)]
    assert known == ["weight_ih_l0", "bias_hh", "weight_ih_l0"]
    assert _foreign.prefixes(names, known) == ["encoder.rnn.", "a/b-c."]
    assert _foreign.prefix_advice(names, known) == (
        '; pass prefix="encoder.rnn." or prefix="a/b-c."'
    )
    assert _foreign.prefix_advice(names, ("weight",)) == '; pass prefix="fc."'
    assert _foreign.prefix_advice(names, ("bias",)) == ""
    many = [f"cells.{k}.weight_ih" for k in range(12)]
    advice = _foreign.prefix_advice(many, ("weight_ih",))
    assert advice.endswith(' or prefix="cells.3.", one of 12')
    for name in ("weight_ih_l0_reverse", "weight_hr_l12", "bias_hh"):
        assert _foreign.is_recurrent(name)
    for name in ("weight", "weight_ih_l", "weight_ih_l0_x", "bias_hr", ""):
        assert not _foreign.is_recurrent(name)
