"""Django's settings. Everything that differs between machines comes from the environment (``.env.example``)."""

import logging
from datetime import timedelta

from config import environment, proxies
from config.console import UNFOLD  # noqa: F401 - the theme reads it
from config.environment import BASE_DIR, env
from config.logs import logging_config
from config.schedule import beat_schedule

MUNIM_ENV = environment.mode()
environment.load(MUNIM_ENV)
IS_PRODUCTION = MUNIM_ENV == "production"
IS_TEST = MUNIM_ENV == "test"

# --- Secrets and addresses -------------------------------------------------------------------------
SECRET_KEY = env.str("SECRET_KEY")
FIELD_ENCRYPTION_KEYS = env.list("FIELD_ENCRYPTION_KEYS")  # Fernet keys: the first encrypts, all decrypt
DEBUG = env.bool("DEBUG", False)
PUBLIC_URL = env.str("PUBLIC_URL", "http://127.0.0.1:8000").rstrip("/")
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]", "testserver"])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[PUBLIC_URL])
RAZORPAY_API_BASE = env.str("RAZORPAY_API_BASE", "https://api.razorpay.com")
STRIPE_API_BASE = env.str("STRIPE_API_BASE", "https://api.stripe.com")

# --- Applications ----------------------------------------------------------------------------------
INSTALLED_APPS = [
    "unfold",
    "unfold.contrib.filters",
    "unfold.contrib.forms",
    "django.contrib.admin.apps.SimpleAdminConfig",  # its pages are loaded by who serves them: see config.urls
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.humanize",
    "django.contrib.messages",
    "django.contrib.postgres",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_filters",
    "django_celery_beat",
    "django_celery_results",
    "django_structlog",
    "djmoney",
    "axes",
    "config",
    "billing",
    "payments",
    "invoices",
    "subscriptions",
    "analytics",
]
MIDDLEWARE = [
    "config.proxies.CallerMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "billing.middleware.CorrelationMiddleware",
    "config.middleware.ContentPolicyMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "config.middleware.RequestLogMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
]
ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

# --- Database, cache -------------------------------------------------------------------------------
DATABASES = {
    "default": environment.database(env.str("DATABASE_URL", "postgres://localhost/munim")),
}
DATABASES["default"]["TEST"] = {
    "NAME": env.str("MUNIM_TEST_DB", "test_munim"),
    "TEMPLATE": env.str("MUNIM_TEST_TEMPLATE", "") or None,  # a migrated, empty database to copy
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
REDIS_URL = env.str("REDIS_URL", "redis://127.0.0.1:6379/0")
CACHES = {
    "default": {
        "BACKEND": "billing.counters.CountingRedisCache",
        "LOCATION": REDIS_URL,
        "KEY_PREFIX": "munim",
        "OPTIONS": {"socket_timeout": 2, "socket_connect_timeout": 2},  # a cache that hangs holds up no request
    },
}

# --- People ----------------------------------------------------------------------------------------
AUTH_USER_MODEL = "billing.User"
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
]
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
_VALIDATORS = "django.contrib.auth.password_validation"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"{_VALIDATORS}.UserAttributeSimilarityValidator"},
    {"NAME": f"{_VALIDATORS}.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": f"{_VALIDATORS}.CommonPasswordValidator"},
    {"NAME": f"{_VALIDATORS}.NumericPasswordValidator"},
]
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"
AXES_ENABLED = not IS_TEST
AXES_FAILURE_LIMIT = env.int("LOGIN_FAILURE_LIMIT", 8)
AXES_COOLOFF_TIME = timedelta(minutes=env.int("LOGIN_COOLOFF_MINUTES", 15))
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_USERNAME_FORM_FIELD = "username"  # what authenticate() is given; the default is the user model's own field
AXES_USERNAME_CALLABLE = "config.lockout.username"
AXES_LOCKOUT_CALLABLE = "config.lockout.answer"
AXES_RESET_ON_SUCCESS = True
AXES_VERBOSE = False

# --- Language, time, files -------------------------------------------------------------------------
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = True
FORMAT_MODULE_PATH = "config.formats"
STATIC_URL = "/static/"
STATIC_ROOT = environment.VAR_DIR / "static"
MEDIA_ROOT = env.str("MEDIA_ROOT", str(environment.VAR_DIR / "media"))
WHITENOISE_USE_FINDERS = not IS_PRODUCTION
WHITENOISE_AUTOREFRESH = DEBUG
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"
        if IS_PRODUCTION
        else "django.contrib.staticfiles.storage.StaticFilesStorage"
    },
}
DATA_UPLOAD_MAX_MEMORY_SIZE = env.int("MAX_BODY_BYTES", 10 * 1024 * 1024)
DATA_UPLOAD_MAX_NUMBER_FIELDS = 5000

# --- Mail ------------------------------------------------------------------------------------------
EMAIL_CONFIG = env.email_url("EMAIL_URL", "smtp://127.0.0.1:1025")
vars().update(EMAIL_CONFIG)
EMAIL_TIMEOUT = env.int("EMAIL_TIMEOUT", 20)
DEFAULT_FROM_EMAIL = env.str("DEFAULT_FROM_EMAIL", "Munim <billing@munim.example>")
SERVER_EMAIL = DEFAULT_FROM_EMAIL

# --- Text messages ---------------------------------------------------------------------------------
SMS_URL = env.str("SMS_URL", "")  # twilio://sid:token@api.twilio.com?from=+15005550006; empty: none are sent

# --- Transport security ----------------------------------------------------------------------------
_HTTPS = IS_PRODUCTION and PUBLIC_URL.startswith("https://")
TRUSTED_PROXIES = proxies.networks(env.list("TRUSTED_PROXIES", default=[]))
proxies.refuse_a_count(env.str("NUM_PROXIES", ""), TRUSTED_PROXIES)
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if _HTTPS else None
SECURE_SSL_REDIRECT = _HTTPS
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$"]
SECURE_HSTS_SECONDS = 31536000 if _HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = _HTTPS
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SESSION_COOKIE_SECURE = _HTTPS
SESSION_COOKIE_HTTPONLY = True
CSRF_COOKIE_SECURE = _HTTPS
CSRF_FAILURE_VIEW = "config.answers.form_not_ours"
X_FRAME_OPTIONS = "DENY"

# --- API -------------------------------------------------------------------------------------------
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "billing.api.authentication.JWTAuthentication",
        "billing.api.authentication.ApiKeyAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["billing.api.parsers.BoundedJSONParser"],
    "DEFAULT_PAGINATION_CLASS": "billing.api.pagination.CursorPagination",
    "DEFAULT_FILTER_BACKENDS": ["billing.api.strict.StrictFilterBackend"],
    "DEFAULT_SCHEMA_CLASS": "billing.api.schema.MunimAutoSchema",
    "EXCEPTION_HANDLER": "billing.api.errors.problem_handler",
    "DEFAULT_THROTTLE_CLASSES": ["billing.api.throttling.WindowThrottle"],
    "DEFAULT_THROTTLE_RATES": {
        "auth": env.str("THROTTLE_AUTH", "20/min"),
        "read": env.str("THROTTLE_READ", "1200/min"),
        "write": env.str("THROTTLE_WRITE", "600/min"),
        "ingest": env.str("THROTTLE_INGEST", "6000/min"),
        "export": env.str("THROTTLE_EXPORT", "30/min"),
        "public": env.str("THROTTLE_PUBLIC", "120/min"),
    },
    "URL_FORMAT_OVERRIDE": None,
    "NUM_PROXIES": 0,  # config.proxies has put the caller's address into REMOTE_ADDR
    "COERCE_DECIMAL_TO_STRING": True,
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Munim",
    "DESCRIPTION": "Subscriptions, usage, invoices, payments and reconciliation for many organisations.",
    "VERSION": "1.0.0",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PUBLIC": True,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SERVE_AUTHENTICATION": [],
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "COMPONENT_SPLIT_REQUEST": True,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    # Fields of one name with different choices, each in several components: what the set is called in the schema.
    "ENUM_NAME_OVERRIDES": {
        "InvoiceStatus": "invoices.models.Invoice.Status",
        "PaymentStatus": "payments.models.Payment.Status",
        "SubscriptionStatus": "subscriptions.models.Subscription.Status",
        "PriceKind": "subscriptions.models.Price.Kind",
        "CouponKind": "subscriptions.models.Coupon.Kind",
        "DraftEditKind": "subscriptions.models.DraftEdit.Kind",
        "FeatureKind": "subscriptions.models.Feature.Kind",
        "StateAccess": "subscriptions.entitlements.policy.ACCESS",
        "GrantKind": "subscriptions.models.EntitlementGrant.Kind",
        "RevisionKind": "billing.models.UsageRevision.Kind",
        "MigrationTime": "subscriptions.models.PlanMigration.When",
        "UsageVerdictPolicy": ["refuse", "park"],
        "PlanInterval": "subscriptions.models.Interval",
        "Proration": "subscriptions.models.Proration",
        "UnusedCredit": "subscriptions.models.Credit",
        "PlannedKind": "subscriptions.models.PlannedChange.Kind",
        "ChangeWhen": "subscriptions.rules.CHANGE_WHEN",
        "CancelWhen": "subscriptions.rules.CANCEL_WHEN",
        "TermWhen": "subscriptions.rules.TERM_WHEN",
    },
}
# Outgoing webhooks to loopback and private addresses: for one machine only, never where strangers name the address.
WEBHOOK_ALLOW_PRIVATE = env.bool("WEBHOOK_ALLOW_PRIVATE", False)
JWT_LIFETIME = timedelta(minutes=env.int("JWT_LIFETIME_MINUTES", 60))

# --- Background work -------------------------------------------------------------------------------
CELERY_BROKER_URL = environment.celery_broker(REDIS_URL)
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": env.int("CELERY_VISIBILITY_TIMEOUT", 3600),
    "socket_keepalive": True,
    "socket_connect_timeout": 3,  # a broker that is away delays no request; the sweeper finds what was not sent
    "queue_order_strategy": "round_robin",
}
CELERY_RESULT_BACKEND = "django-db"
CELERY_RESULT_EXTENDED = True
CELERY_RESULT_EXPIRES = timedelta(days=7)
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_STORE_ERRORS_EVEN_IF_IGNORED = True  # what failed is shown in the console for a week
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_SERIALIZER = "json"
CELERY_RESULT_SERIALIZER = "json"
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_SEND_TASK_EVENTS = False
# Shorter than the visibility timeout: a task is never handed out twice while it still runs.
CELERY_TASK_TIME_LIMIT = env.int("CELERY_TASK_TIME_LIMIT", 1800)
CELERY_TASK_SOFT_TIME_LIMIT = CELERY_TASK_TIME_LIMIT - 60
CELERY_TASK_DEFAULT_QUEUE = "default"
CELERY_TASK_ROUTES = (
    {
        "invoices.tasks.*mail*": {"queue": "mail"},
        "invoices.tasks.*texts*": {"queue": "mail"},
        "billing.tasks.read_usage_import": {
            "queue": "waited_for"
        },  # somebody looks at it: not behind thousands of others
    },
)
CELERY_TIMEZONE = "UTC"
CELERY_ENABLE_UTC = True
CELERY_BEAT_SCHEDULER = "config.beat:MunimScheduler"
CELERY_BEAT_SCHEDULE = beat_schedule()
CELERY_BEAT_MAX_LOOP_INTERVAL = 5
DJANGO_STRUCTLOG_CELERY_ENABLED = True
DJANGO_STRUCTLOG_STATUS_START_LOG_LEVEL = (
    logging.DEBUG
)  # one line for a request: when it was answered, or why it failed

# --- Logs ------------------------------------------------------------------------------------------
LOGGING_CONFIG = None
LOGGING = logging_config(
    level=env.str("LOG_LEVEL", "WARNING" if IS_TEST else "INFO"),
    as_json=env.bool("LOG_JSON", IS_PRODUCTION),
)
