"""How commands of this app speak: lines for a person, or one JSON document for a program."""

import json
from argparse import ArgumentParser
from typing import Any


def add_common(parser: ArgumentParser) -> None:
    """Options every command here has."""
    parser.add_argument("--dry-run", action="store_true", help="tell what would happen and write nothing")
    parser.add_argument("--json", action="store_true", dest="as_json", help="one JSON document instead of lines")


def as_text(result: dict[str, Any], *, as_json: bool) -> str:
    """``result`` as JSON, or as ``name: value`` lines."""
    if as_json:
        return json.dumps(result, indent=2, default=str)
    return "\n".join(f"{name.replace('_', ' ')}: {value}" for name, value in result.items())
