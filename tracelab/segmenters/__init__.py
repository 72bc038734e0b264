"""The segmenters, one a module; `tracelab.segment` names them and is what callers import."""
