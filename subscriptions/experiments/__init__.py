"""Price experiments: who gets which price, what the figures say, and in which words. Pure, but for ``offers`` and ``figures``."""
