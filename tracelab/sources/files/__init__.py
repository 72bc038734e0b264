"""Files as they lie there: unpacked, as lines or records, and what kind of record each is."""
