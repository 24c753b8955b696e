"""What schemathesis does not know by itself: how lines of JSON are sent, and what an id may be."""

from __future__ import annotations

import schemathesis
from hypothesis import strategies as st

schemathesis.serializer.alias("application/x-ndjson", "text/plain")

schemathesis.openapi.format("printable", st.text(st.characters().filter(str.isprintable), max_size=50))
schemathesis.openapi.format("visible", st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=50))
