"""Settings of the test run: the real settings in test mode, with nothing that leaves the process."""

import os

os.environ["MUNIM_ENV"] = "test"

from config.settings import *  # noqa: F403

CACHES = {"default": {"BACKEND": "billing.counters.CountingLocalCache"}}
CELERY_BROKER_URL = "memory://"
EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
RAZORPAY_API_BASE = STRIPE_API_BASE = (
    "http://127.0.0.1:9"  # nobody listens there; tests that want a gateway start the simulator
)
WHITENOISE_AUTOREFRESH = True  # static files are looked for when one is asked for, not by every test client
