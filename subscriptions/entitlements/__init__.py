"""Who is entitled to what: the rules (pure), and the reads behind a check. What changes something is in ``services``."""
