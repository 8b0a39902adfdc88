"""Personal data as lists show it: enough to recognise, not enough to use. Pure."""


def mask_email(value: str) -> str:
    """``jane@example.com`` as ``j***@example.com``; nothing stays nothing."""
    if not value:
        return ""
    local, at, domain = value.rpartition("@")
    return f"{local[:1]}***@{domain}" if at else f"{value[:1]}***"


def mask_phone(value: str) -> str:
    """``+919845012345`` as ``+91•••2345``: country-like start and the last four digits."""
    if not value:
        return ""
    head = value[:3] if value.startswith("+") and len(value) > 8 else ""
    return f"{head}•••{last4(value)}"


def mask_name(value: str) -> str:
    """``Asha Verma`` as ``A••• V•••``."""
    return " ".join(f"{word[:1]}•••" for word in value.split())


def mask_identifier(value: str) -> str:
    """A tax id or account number as its last four characters."""
    return f"•••{last4(value)}" if value else ""


def last4(value: str) -> str:
    """The last four characters of ``value``; of a short one, half of it."""
    keep = 4 if len(value) >= 8 else len(value) // 2
    return value[-keep:] if keep else ""
