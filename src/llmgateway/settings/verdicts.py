"""What `check` and `serve` say about settings that are right by themselves: not built yet, unwise, or unsafe."""

from llmgateway.settings.fields import Settings, name_of

_SHORTEST_ADMIN_KEY = 32  # characters; anything shorter can be guessed from outside
_SHORTEST_SHARED_KEY = 16

# Settings, or groups of them, whose part is not built yet: accepted, validated, and named at start.
_NOT_BUILT = ("openai_use_responses_api", "audit")


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
    if settings.auth.mode == "gateway" and not settings.auth.gateway_keys:
        reasons.append(
            f"{name_of('auth.gateway_keys')}: needed with {name_of('auth.mode')}=gateway, or nobody could call; "
            "such as `openssl rand -hex 32` prints"
        )
    if any(len(key.get_secret_value()) < _SHORTEST_SHARED_KEY for key in settings.auth.gateway_keys):
        reasons.append(f"{name_of('auth.gateway_keys')}: each must have at least {_SHORTEST_SHARED_KEY} characters")
    reasons += _of_two_purposes(settings)
    key = settings.admin_key
    if key is not None and settings.binds_wider and len(key.get_secret_value()) < _SHORTEST_ADMIN_KEY:
        reasons.append(
            f"{name_of('admin_key')}: too short to be open to others; at least {_SHORTEST_ADMIN_KEY} characters"
        )
    if (settings.database_url or "").startswith("postgres") and not settings.encryption_keys:
        reasons.append(f"{name_of('encryption_keys')}: needed with PostgreSQL, because each replica would make its own")
    return reasons


def _of_two_purposes(settings: Settings) -> list[str]:
    """Say which key opens two doors: whoever has it for the one would have the other as well."""
    admin = settings.admin_key
    if admin is None:
        return []
    metrics = () if settings.metrics_key is None else (settings.metrics_key,)
    others = {"metrics_key": metrics, "auth.gateway_keys": settings.auth.gateway_keys}
    return [
        f"{name_of('admin_key')} is the same as one of {name_of(name)}: take another, whoever has that is no admin"
        for name, keys in others.items()
        if any(key.get_secret_value() == admin.get_secret_value() for key in keys)
    ]


def warnings(settings: Settings) -> list[str]:
    """Say what works but may not be what was meant."""
    found = []
    if settings.binds_wider and settings.auth.mode == "none":
        found.append(f"{settings.host}: whoever reaches it may use every provider's key; nobody is asked")
    if settings.workers > 1 and settings.redis_url is None:
        found.append(
            f"{settings.workers} worker processes without {name_of('redis_url')}: limits and caches are each "
            f"process's own, so every limit counts {settings.workers} times"
        )
    if settings.auth.gateway_keys and settings.auth.mode in {"none", "client"}:
        found.append(f"{name_of('auth.gateway_keys')}: not looked at with {name_of('auth.mode')}={settings.auth.mode}")
    if settings.cache.scope == "global" and settings.auth.mode != "none":
        found.append(f"{name_of('cache.scope')}=global: callers are given answers to what others asked")
    return found
