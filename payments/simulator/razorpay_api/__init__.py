"""The Razorpay side: what answers under /v1 to Basic authentication."""
