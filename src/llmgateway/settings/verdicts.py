"""What `check` and `serve` say about settings that are right by themselves: not built yet, unwise, or unsafe."""

from llmgateway.settings.fields import Settings, name_of

_SHORTEST_ADMIN_KEY = 32  # characters; anything shorter can be guessed from outside

# Settings, or groups of them, whose part is not built yet: accepted, validated, and named at start.
_NOT_BUILT = (  # noqa: SIM905  # forty lines of list say no more
    "redis_url queue_url embedded_worker worker_threads encryption_keys admin_key metrics_key "
    "openai_use_responses_api retry.jobs cache limits sensitivity audit"
).split()


def without_effect(settings: Settings) -> list[str]:
    """Name the settings that were given but whose part is not built yet, as they were written."""
    idle = [
        name
        for path, name in settings.sources.items()
        if any(path == part or path.startswith(f"{part}.") for part in _NOT_BUILT)
    ]
    return sorted(idle)


def unsafe(settings: Settings) -> list[str]:
    """Say why `serve` must refuse: something was asked for that keeps others out, and it would not be kept."""
    reasons = []
    if settings.auth.mode != "none":
        reasons.append(
            f"{name_of('auth.mode')}={settings.auth.mode}: keys are not checked in this version yet, so everybody "
            f"would get in; use {name_of('auth.mode')}=none on a trusted network or behind a proxy that checks them"
        )
    key = settings.admin_key
    if key is not None and settings.binds_wider and len(key.get_secret_value()) < _SHORTEST_ADMIN_KEY:
        reasons.append(
            f"{name_of('admin_key')}: too short to be open to others; at least {_SHORTEST_ADMIN_KEY} characters"
        )
    if (settings.database_url or "").startswith("postgres") and not settings.encryption_keys:
        reasons.append(f"{name_of('encryption_keys')}: needed with PostgreSQL, because each replica would make its own")
    return reasons


def warnings(settings: Settings) -> list[str]:
    """Say what works but may not be what was meant."""
    found = []
    if settings.binds_wider and settings.auth.mode == "none":
        found.append(f"{settings.host}: whoever reaches it may use every provider's key; nobody is asked")
    if settings.workers > 1 and settings.redis_url is None:
        found.append(
            f"{settings.workers} worker processes without {name_of('redis_url')}: limits, caches and metrics are each "
            f"process's own, so every limit counts {settings.workers} times"
        )
    return found
