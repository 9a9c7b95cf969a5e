"""Values of the data model of DAG-CBOR, drawn at random."""

import math

from hypothesis import strategies as st

floats = st.floats(allow_nan=False, allow_infinity=False).filter(lambda x: x != 0 or math.copysign(1, x) > 0)
integers = st.integers(-(2**64), 2**64 - 1)
scalars = st.none() | st.booleans() | integers | floats | st.text(max_size=30) | st.binary(max_size=30)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=25) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=30,
)
