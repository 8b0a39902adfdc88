from analytics.admin import dashboard  # noqa: F401
