"""Everything that can be set, on one page. Each value comes from an environment variable or has a safe default;
docs/settings.md lists them all, and a test holds that it does."""

from __future__ import annotations

from pathlib import Path

import environ
from csp.constants import NONE, SELF
from django.utils.translation import gettext_lazy as _

from hypereal_site import env

BASE_DIR = Path(__file__).resolve().parent.parent

# ── This installation ────────────────────────────────────────────────────────────────────────────────────────────────
DEBUG = env.flag("DEBUG")
DEMO = env.flag("HYPEREAL_DEMO")
#: What the process is: "gateway" loads nothing that only pages need. `hypereal_site.serve` sets it.
ROLE = env.text("HYPEREAL_ROLE", "all")
#: Where the demo account's credentials are written.
DEMO_FILE = env.text("HYPEREAL_DEMO_FILE", "")
SECRET_KEY = env.text("DJANGO_SECRET_KEY")
ENCRYPTION_KEYS = env.words("ENCRYPTION_KEYS")
API_KEY_PEPPER = env.text("API_KEY_PEPPER")
SITE_NAME = "Hypereal"
SITE_URL = env.text("SITE_URL", "http://127.0.0.1:8000").rstrip("/")
ALLOWED_HOSTS = env.words("ALLOWED_HOSTS", ["127.0.0.1", "localhost", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.words("CSRF_TRUSTED_ORIGINS", [SITE_URL])
SECURE_SITE = SITE_URL.startswith("https://")
#: How many proxies in front of us append to X-Forwarded-For; 0 = believe the socket only.
TRUSTED_PROXY_COUNT = env.integer("TRUSTED_PROXY_COUNT", 0, most=10)

# ── Applications ─────────────────────────────────────────────────────────────────────────────────────────────────────
INSTALLED_APPS = [
    "unfold",
    # A gateway serves no pages: without them it needs a quarter less memory.
    "django.contrib.admin" if ROLE != "gateway" else "django.contrib.admin.apps.SimpleAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.humanize",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "django_htmx",
    "hypereal_site.queues.QueuesConfig",
    "csp",
    "core",
    "events",
    "accounts",
    "catalog",
    "orgs",
    "keys",
    "sso",
    "webhooks",
    "idempotency",
    "billing",
    "storage",
    "vouchers",
    "limits",
    "usage",
    "jobs",
    "media",
    "infra",
    "statements",
    "gateway",
    "console",
    "hypereal_site",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.usersessions",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "hypereal_site.static_files.StaticFilesMiddleware",
    "core.middleware.RequestIdMiddleware",
    "core.middleware.EitherSlashMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "accounts.middleware.SessionActivityMiddleware",
    "core.middleware.ErrorsMiddleware",
]

#: On the gateway face: async-only, and empty unless an installation needs one. Each costs every call.
GATEWAY_MIDDLEWARE: list[str] = []

ROOT_URLCONF = "hypereal_site.urls"
GATEWAY_URLCONF = "hypereal_site.urls_gateway"
ASGI_APPLICATION = "hypereal_site.asgi.application"
WSGI_APPLICATION = "hypereal_site.wsgi.application"
APPEND_SLASH = False
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.template.context_processors.i18n",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "console.context.shell",
            ],
        },
    }
]

# ── Database, Redis, queues ──────────────────────────────────────────────────────────────────────────────────────────
DATABASES = {"default": environ.Env.db_url_config(env.text("DATABASE_URL"))}
DATABASES["default"].update(
    CONN_MAX_AGE=0,
    CONN_HEALTH_CHECKS=True,
    TIME_ZONE="UTC",
    OPTIONS={**DATABASES["default"].get("OPTIONS", {}), "application_name": "hypereal"},
)
REDIS_URL = env.text("REDIS_URL")
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": REDIS_URL,
        "KEY_PREFIX": "hypereal",
        "TIMEOUT": 300,
    }
}
QUEUE_NAMES = ["critical", "default", "media", "bulk"]
RQ_QUEUES = {name: {"URL": REDIS_URL, "DEFAULT_TIMEOUT": 600} for name in QUEUE_NAMES}

# ── People ───────────────────────────────────────────────────────────────────────────────────────────────────────────
AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "/"
ACCOUNT_ADAPTER = "sso.adapter.AccountAdapter"
ACCOUNT_FORMS = {"signup": "sso.forms.SignupForm", "add_email": "sso.forms.AddEmailForm"}
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*", "password2*"]
ACCOUNT_EMAIL_VERIFICATION = "mandatory"
ACCOUNT_CONFIRM_EMAIL_ON_GET = False
ACCOUNT_LOGIN_ON_EMAIL_CONFIRMATION = True
ACCOUNT_EMAIL_SUBJECT_PREFIX = ""
ACCOUNT_EMAIL_NOTIFICATIONS = True
ACCOUNT_REAUTHENTICATION_REQUIRED = True
ACCOUNT_PREVENT_ENUMERATION = True
ACCOUNT_LOGOUT_ON_PASSWORD_CHANGE = True
ACCOUNT_SESSION_REMEMBER = True
ACCOUNT_DEFAULT_HTTP_PROTOCOL = "https" if SECURE_SITE else "http"
ALLAUTH_TRUSTED_PROXY_COUNT = TRUSTED_PROXY_COUNT
MFA_ADAPTER = "accounts.adapter.MFAAdapter"
MFA_SUPPORTED_TYPES = ["totp", "recovery_codes", "webauthn"]
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN = not SECURE_SITE
MFA_TOTP_ISSUER = SITE_NAME
MFA_TOTP_TOLERANCE = 1  # codes of the half minutes beside: phones keep poor time
USERSESSIONS_TRACK_ACTIVITY = True
SESSION_ENGINE = "django.contrib.sessions.backends.db"
SESSION_COOKIE_NAME = "hypereal_session"
SESSION_COOKIE_AGE = 14 * 86_400

# ── Mail ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
_mail = environ.Env.email_url_config(env.text("EMAIL_URL", "consolemail://"))
EMAIL_BACKEND = _mail["EMAIL_BACKEND"]
EMAIL_HOST = _mail.get("EMAIL_HOST") or "localhost"
EMAIL_PORT = _mail.get("EMAIL_PORT") or 25
EMAIL_HOST_USER = _mail.get("EMAIL_HOST_USER") or ""
EMAIL_HOST_PASSWORD = _mail.get("EMAIL_HOST_PASSWORD") or ""
EMAIL_USE_TLS = _mail.get("EMAIL_USE_TLS", False)
EMAIL_USE_SSL = _mail.get("EMAIL_USE_SSL", False)
EMAIL_FILE_PATH = _mail.get("EMAIL_FILE_PATH") or None
EMAIL_TIMEOUT = 15
DEFAULT_FROM_EMAIL = env.text("DEFAULT_FROM_EMAIL", "Hypereal <no-reply@localhost>")
SERVER_EMAIL = DEFAULT_FROM_EMAIL

# ── Money ────────────────────────────────────────────────────────────────────────────────────────────────────────────
STRIPE_SECRET_KEY = env.text("STRIPE_SECRET_KEY", "")
STRIPE_WEBHOOK_SECRETS = env.words("STRIPE_WEBHOOK_SECRETS")
STRIPE_API_BASE = env.text("STRIPE_API_BASE", "")
#: Stripe Tax works out sales tax on the pay page; the account must be set up for it there.
STRIPE_AUTOMATIC_TAX = env.flag("STRIPE_AUTOMATIC_TAX")
STRIPE_TAX_CODE = env.text("STRIPE_TAX_CODE", "txcd_10000000")
#: True where the pay page is this project's own stand-in: no card is charged, and every billing page says so.
DEMO_PAYMENTS = env.flag("DEMO_PAYMENTS")
ALLOW_DEMO_PAYMENTS = env.flag("ALLOW_DEMO_PAYMENTS", DEMO)
TOPUP_LEAST_CENTS = 200
TOPUP_MOST_CENTS = env.integer("TOPUP_MOST_CENTS", 1_000_000, least=200)
TOPUP_PRESELECTED_CENTS = 1_000
#: Who statements come from, line by line: legal name, address, tax id. Parted by | in the variable.
STATEMENT_ISSUER = [line.strip() for line in env.text("STATEMENT_ISSUER", "").split("|") if line.strip()]
#: Credits below which a call that is billed by tokens is not admitted (the balance before holds counts).
MIN_BALANCE_CREDITS = env.integer("MIN_BALANCE_CREDITS", 200)

# ── Gateway ──────────────────────────────────────────────────────────────────────────────────────────────────────────
RATE_LIMIT_PER_MINUTE = env.integer("RATE_LIMIT_PER_MINUTE", 600, least=1)
SANDBOX_BASE_URL = env.text("SANDBOX_BASE_URL", "")
GATEWAY_MAX_BODY_BYTES = env.integer("GATEWAY_MAX_BODY_BYTES", 32 * 1024 * 1024, least=1024)
GATEWAY_MAX_BODY_BYTES_IN_FLIGHT = env.integer("GATEWAY_MAX_BODY_BYTES_IN_FLIGHT", 512 * 1024 * 1024, least=1024)
GATEWAY_STEP_OUTPUT_TOKENS = env.integer("GATEWAY_STEP_OUTPUT_TOKENS", 2_048, least=1)
GATEWAY_KEEPALIVE_SECONDS = env.seconds("GATEWAY_KEEPALIVE_SECONDS", 15.0)
GATEWAY_CONNECT_SECONDS = env.seconds("GATEWAY_CONNECT_SECONDS", 5.0)
GATEWAY_FIRST_BYTE_SECONDS = env.seconds("GATEWAY_FIRST_BYTE_SECONDS", 300.0)
GATEWAY_IDLE_SECONDS = env.seconds("GATEWAY_IDLE_SECONDS", 300.0)
GATEWAY_TOTAL_SECONDS = env.seconds("GATEWAY_TOTAL_SECONDS", 14_400.0)
GATEWAY_MEDIA_SECONDS = env.seconds("GATEWAY_MEDIA_SECONDS", 300.0)
#: Whether pictures that a provider offers at an address of its own are copied: such addresses end after an hour or so.
MEDIA_COPY_RESULTS = env.flag("MEDIA_COPY_RESULTS", True)
GATEWAY_SLOW_READER_SECONDS = env.seconds("GATEWAY_SLOW_READER_SECONDS", 120.0)
GATEWAY_LEFT_CLIENT_READ_ON_SECONDS = env.seconds("GATEWAY_LEFT_CLIENT_READ_ON_SECONDS", 10.0)
GATEWAY_SETTLE_WAIT_SECONDS = env.seconds("GATEWAY_SETTLE_WAIT_SECONDS", 5.0)
GATEWAY_DRAIN_SECONDS = env.seconds("GATEWAY_DRAIN_SECONDS", 25.0)
GATEWAY_DIRECTORY_TTL_SECONDS = env.seconds("GATEWAY_DIRECTORY_TTL_SECONDS", 5.0)
#: "durable": a settlement is answered only after its write reached the disk; "fast": after the commit.
COMMIT_MODE = env.text("COMMIT_MODE", "durable")
HOLD_HEARTBEAT_SECONDS = env.seconds("HOLD_HEARTBEAT_SECONDS", 10.0)
HOLD_OWNER_DEAD_SECONDS = env.seconds("HOLD_OWNER_DEAD_SECONDS", 60.0)
SWEEP_SECONDS = env.seconds("SWEEP_SECONDS", 15.0)
#: A worker that dies keeps its job for so long at most.
JOB_LEASE_SECONDS = env.seconds("JOB_LEASE_SECONDS", 60.0)
JOB_SWEEP_SECONDS = env.seconds("JOB_SWEEP_SECONDS", 10.0)
#: A wake-up has this long to find a worker before the sweep makes a step itself.
JOB_OVERDUE_SECONDS = env.seconds("JOB_OVERDUE_SECONDS", 3.0)
#: The wait behind a job's first error; it doubles with each further one, up to a minute.
JOB_RETRY_SECONDS = env.seconds("JOB_RETRY_SECONDS", 1.0)
#: Days that jobs stay after their end, with what came of them; 0: for ever. What they were asked for goes after a day.
JOB_KEPT_DAYS = env.integer("JOB_KEPT_DAYS", 365, most=36_500)
#: How long a clip may take, waiting in a provider's queue included; then all of its price is given back.
VIDEO_JOB_SECONDS = env.seconds("VIDEO_JOB_SECONDS", 7_200.0)
#: How long one attempt to deliver a webhook may take, and how many are made at the same time.
WEBHOOK_SECONDS = env.seconds("WEBHOOK_SECONDS", 15.0, most=120.0)
WEBHOOK_THREADS = env.integer("WEBHOOK_THREADS", 16, least=1, most=256)
WEBHOOK_POLL_SECONDS = env.seconds("WEBHOOK_POLL_SECONDS", 1.0)
#: An endpoint without a success for so long is disabled; deliveries and their log are kept for so long.
WEBHOOK_FAILING_DAYS = env.integer("WEBHOOK_FAILING_DAYS", 5, least=1, most=365)
WEBHOOK_LOG_DAYS = env.integer("WEBHOOK_LOG_DAYS", 30, least=4, most=3_650)
#: purpose=host[:port] or purpose=network entries that the guarded outbound client may reach although they are private.
EGRESS_ALLOW = env.words("EGRESS_ALLOW")
#: address or address:port of the name server that is asked for proofs of domains; empty = the machine's own.
DNS_RESOLVER = env.text("DNS_RESOLVER", "")

# ── Stored files ─────────────────────────────────────────────────────────────────────────────────────────────────────
#: Where files lie when no S3 bucket is set. Never a folder that a web server serves.
STORAGE_DIR = Path(env.text("STORAGE_DIR", "") or Path(env.text("HYPEREAL_VAR", "") or BASE_DIR / "var") / "storage")
STORAGE_MOST_BYTES = env.integer("STORAGE_MOST_BYTES", 10 * 1024**3, least=1)
STORAGE_MOST_OBJECTS = env.integer("STORAGE_MOST_OBJECTS", 10_000, least=1)
STORAGE_MOST_FILE_BYTES = env.integer("STORAGE_MOST_FILE_BYTES", 512 * 1024**2, least=1)
#: Days that results of calls are kept; 0: until somebody deletes them. Uploads stay.
STORAGE_RESULT_DAYS = env.integer("STORAGE_RESULT_DAYS", 30, most=36_500)
#: How long the address of a file works: S3 signs for no longer than a week.
STORAGE_URL_SECONDS = env.integer("STORAGE_URL_SECONDS", 7 * 86_400, least=60, most=7 * 86_400)
S3_BUCKET = env.text("S3_BUCKET", "")
#: Empty: Amazon's own. Others: https://<account>.r2.cloudflarestorage.com, http://minio:9000, …
S3_ENDPOINT_URL = env.text("S3_ENDPOINT_URL", "").rstrip("/")
S3_REGION = env.text("S3_REGION", "")
S3_ACCESS_KEY_ID = env.text("S3_ACCESS_KEY_ID", "")
S3_SECRET_ACCESS_KEY = env.text("S3_SECRET_ACCESS_KEY", "")

# ── GPU ──────────────────────────────────────────────────────────────────────────────────────────────────────────────
#: "runpod", "local", or empty: RunPod where it has a key, else the engine on this machine where one runs.
GPU_ENGINE = env.text("GPU_ENGINE", "")
RUNPOD_API_KEY = env.text("RUNPOD_API_KEY", "")
RUNPOD_REST_URL = env.text("RUNPOD_REST_URL", "https://rest.runpod.io/v1")
#: Where the engine on this machine listens, and what it wants to be presented; `run.py` starts it.
GPU_LOCAL_URL = env.text("GPU_LOCAL_URL", "")
GPU_LOCAL_SECRET = env.text("GPU_LOCAL_SECRET", "")
#: Longest run of a deployment that names none of its own; what a run reserves follows from it.
GPU_MAX_SECONDS = env.integer("GPU_MAX_SECONDS", 600, least=5, most=86_400)
#: Time from submission on, waiting included, after which a run is given up.
GPU_QUEUE_SECONDS = env.integer("GPU_QUEUE_SECONDS", 3_600, least=10)
#: Outputs above this are kept as files and answered by address.
GPU_INLINE_OUTPUT_BYTES = env.integer("GPU_INLINE_OUTPUT_BYTES", 256 * 1024, least=0)

# ── Pages ────────────────────────────────────────────────────────────────────────────────────────────────────────────
LANGUAGE_CODE = "en"
LANGUAGES = [("en", _("English"))]
LOCALE_PATHS = [BASE_DIR / "locale"]
USE_I18N = True
USE_TZ = True
TIME_ZONE = "UTC"
STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / "var" / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
WHITENOISE_USE_FINDERS = DEMO or DEBUG
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if WHITENOISE_USE_FINDERS
        else "whitenoise.storage.CompressedManifestStaticFilesStorage"
    },
    #: What customers upload and what calls result in. boto3 is imported only where a bucket is set.
    "objects": {
        "BACKEND": "storages.backends.s3.S3Storage",
        "OPTIONS": {
            "bucket_name": S3_BUCKET,
            "endpoint_url": S3_ENDPOINT_URL or None,
            "region_name": S3_REGION or None,
            "access_key": S3_ACCESS_KEY_ID or None,
            "secret_key": S3_SECRET_ACCESS_KEY or None,
            "addressing_style": "path" if S3_ENDPOINT_URL else "auto",
            "signature_version": "s3v4",
            "default_acl": None,
            "querystring_auth": True,
        },
    }
    if S3_BUCKET
    else {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {
            "location": STORAGE_DIR,
            "file_permissions_mode": 0o600,
            "directory_permissions_mode": 0o700,
        },
    },
}
#: Files in forms: small ones in memory, others spooled on the storage's disk.
FILE_UPLOAD_HANDLERS = [
    "django.core.files.uploadhandler.MemoryFileUploadHandler",
    "storage.uploading.SpoolUploadHandler",
]
MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"
UNFOLD = {"SITE_TITLE": "Hypereal", "SITE_HEADER": "Hypereal", "SITE_URL": "/"}

# ── Browser security ─────────────────────────────────────────────────────────────────────────────────────────────────
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SITE
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SECURE_HSTS_SECONDS = 31_536_000 if SECURE_SITE else 0
SECURE_SSL_REDIRECT = False  # the proxy in front does it; a redirect here would break a POST
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if TRUSTED_PROXY_COUNT else None
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CONTENT_TYPE_NOSNIFF = True
X_FRAME_OPTIONS = "DENY"
CSRF_FAILURE_VIEW = "core.views.csrf_failure"
# The proxy in front redirects to https (W008); whether sub-domains follow, and preload, is the domain owner's to say.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W008", "security.W021"]
#: Previews of stored files are redirected there.
STORAGE_ORIGINS = (
    [S3_ENDPOINT_URL or f"https://{S3_BUCKET}.s3.{S3_REGION or 'us-east-1'}.amazonaws.com"] if S3_BUCKET else []
)
CONTENT_SECURITY_POLICY = {
    "EXCLUDE_URL_PREFIXES": ("/admin/",),
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:", *STORAGE_ORIGINS],
        "media-src": [SELF, "blob:", *STORAGE_ORIGINS],
        "font-src": [SELF],
        "connect-src": [SELF],
        "manifest-src": [SELF],
        "frame-ancestors": [NONE],
        "base-uri": [NONE],
        "form-action": [SELF, "https://checkout.stripe.com", "https://billing.stripe.com"],
    },
}

# ── Logs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
LOG_LEVEL = env.text("LOG_LEVEL", "INFO").upper()
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"scrub": {"()": "core.logs.Scrub"}},
    "formatters": {"json": {"()": "core.logs.JsonFormatter"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json", "filters": ["scrub"]}},
    "root": {"handlers": ["stderr"], "level": LOG_LEVEL},
    "loggers": {
        "django.server": {"handlers": ["stderr"], "level": LOG_LEVEL, "propagate": False},
        "uvicorn.access": {"level": "WARNING"},
    },
}
