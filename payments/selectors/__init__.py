"""Reads of payments: querysets and sums, scoped to an organisation."""
