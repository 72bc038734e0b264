"""Methods of context attribution, one a file; `registry` finds them."""
