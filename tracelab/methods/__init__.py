"""Attribution methods, one a file: `plan` and `estimate` side by side. Pure."""
