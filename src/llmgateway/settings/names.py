"""Names of other gateways and of platforms that are read as well."""

from collections.abc import Mapping

_MS = 1000.0  # a name with this divisor counts milliseconds, our settings seconds

# Setting -> names of other gateways (and of platforms) that are read for it, each with what its value is divided by.
OTHER_NAMES: Mapping[str, Mapping[str, float]] = {
    "port": {"PORT": 1, "GATEWAY_PORT": 1, "LLM_GATEWAY_PORT": 1},
    "host": {"LLM_GATEWAY_HOST": 1},
    "database_url": {"DATABASE_URL": 1},
    "redis_url": {"REDIS_URL": 1},
    "queue_url": {"SERVICES_BROKER": 1},
    "worker_threads": {"CELERY_WORKERS": 1},
    "encryption_keys": {"ENCRYPTION_KEY": 1},
    "cors_origins": {"CORS_ORIGINS": 1},
    "retry.max_retries": {"API_MAX_RETRIES": 1, "MAX_RETRIES": 1},
    "retry.min_delay_s": {"API_RETRY_MIN_DELAY": 1, "INITIAL_BACKOFF": _MS},
    "retry.max_delay_s": {"API_RETRY_MAX_DELAY": 1, "MAX_BACKOFF": _MS},
    "retry.factor": {"BACKOFF_FACTOR": 1},
    "retry.jitter": {"JITTER": 1},
    "request_timeout_s": {"REQUEST_TIMEOUT": _MS},
    "max_concurrent_requests": {"MAX_CONCURRENT_REQUESTS": 1},
    "cache.enabled": {"CACHE_ENABLED": 1},
    "cache.ttl_s": {"CACHE_TTL": 1, "CACHE_DEFAULT_TTL": 1},
    "cache.max_entries": {"CACHE_MAX_SIZE": 1},
    "limits.enabled": {"RATE_LIMITING_ENABLED": 1},
    "limits.requests_per_minute": {"RATE_LIMIT_REQUESTS_PER_MINUTE": 1},
    "limits.requests_per_hour": {"RATE_LIMIT_REQUESTS_PER_HOUR": 1},
    "limits.tokens_per_minute": {"RATE_LIMIT_TOKENS_PER_MINUTE": 1},
    "limits.burst": {"RATE_LIMIT_BURST_LIMIT": 1},
    "limits.cooldown_s": {"RATE_LIMIT_COOLDOWN_SECONDS": 1},
    "sensitivity.keywords": {"SENSITIVE_KEYWORDS": 1},
    "sensitivity.threshold": {"SENSITIVITY_THRESHOLD": 1},
    "sensitivity.secure_only_models": {"SECURE_ONLY_MODELS": 1},
    "openai_use_responses_api": {"OPENAI_USE_RESPONSES_API": 1},
}
# Another gateway's name for a provider's key: read as the usual one.
OTHER_KEY_NAMES: Mapping[str, str] = {"CLAUDE_API_KEY": "ANTHROPIC_API_KEY"}
