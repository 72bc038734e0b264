"""What a study found, as Python objects: rows, frames, and as a notebook shows them."""
