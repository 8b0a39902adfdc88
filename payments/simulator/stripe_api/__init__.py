"""The Stripe side: what answers under /v1 to a Bearer key."""
