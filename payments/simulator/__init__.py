"""A server that speaks the parts of the Razorpay and Stripe wire protocols which this product uses.

It is a process of its own (``python -m payments.simulator``), standard library only, and imports nothing
of the product; the product knows of it only as a base URL. See README.md in this folder.
"""
