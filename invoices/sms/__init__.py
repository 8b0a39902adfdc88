"""Text messages: their short words, and the gateways that carry them."""
