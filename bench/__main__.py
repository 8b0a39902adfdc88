"""``python -m bench``: the same as ``manage.py bench``."""

import os
import sys

import django


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    django.setup()
    from bench.command import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
