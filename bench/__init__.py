"""Measuring the product beside the limits of the machine."""
