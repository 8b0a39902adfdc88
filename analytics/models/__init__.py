from analytics.models.mrr import MrrLevel, MrrMovement

__all__ = ["MrrLevel", "MrrMovement"]
