"""Strings in, spans and answers out: segmenters, reasoning tags, answers, categories. Pure."""
