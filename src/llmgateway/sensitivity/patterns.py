"""What secrets look like, as one table: from the public descriptions of whoever gives them out.

Every expression begins at a mark (a literal in lower case), so that it is tried at few places, and every repetition in
it has a bound or gives nothing back: the time for a text grows with its length and no faster. A row's `gate` is the
cheap question whether any such place exists; RE2 asks all gates of the table at once.
"""

import re
from collections.abc import Callable

from msgspec import Struct

from llmgateway.sensitivity.checks import (
    is_basic_auth,
    is_dummy,
    is_dutch_bsn,
    is_password,
    is_spanish_id,
    looks_drawn,
    looks_random,
)
from llmgateway.sensitivity.personal import START

SECRET, PERSONAL, FINANCIAL, OWN = "secret", "personal", "financial", "custom"
# What stands after `@` in packages and files rather than in addresses.
_FILE_ENDINGS = frozenset({"png", "jpg", "gif", "svg", "js", "ts", "css", "json", "yaml", "yml", "py", "git"})


class Shape(Struct, frozen=True):
    """One kind of secret.

    Args:
        weight: What one finding adds to the score, 0 to 1; 1 is enough by itself.
        marks: In lower case; the expression is tried where one of them stands.
        gate: RE2, without case: whether a text holds such a place at all.
        expression: Its last group is the secret, or all of it where it has none.
        back: How many characters before the mark it may begin.
        before: Characters of which any number may stand before the mark and belong to it.
        check: What else must hold of the secret.
    """

    kind: str
    marks: tuple[str, ...]
    gate: str
    expression: re.Pattern[str]
    category: str = SECRET
    weight: float = 1.0
    back: tuple[int, ...] = (0,)
    before: str = ""
    check: Callable[[str], bool] | None = None


def _key(
    kind: str,
    marks: str,
    rest: str,
    *,
    gate: str | None = None,
    check: Callable[[str], bool] | None = None,
    back: tuple[int, ...] = (0,),
) -> Shape:
    """Describe a key that has a shape of its own: marks are given apart by spaces, and are the gate if none is."""
    names = tuple(marks.split())
    gate = gate or "|".join(re.escape(name) for name in names)
    return Shape(kind, names, gate, re.compile(START + rest, re.ASCII), back=back, check=check)


_END = r"(?![A-Za-z0-9])"
# What stands between a name and its value: `=`, `:`, `=>`, the next line of a YAML list of names and values, or prose.
_QUOTE = r"\\{0,7}+[\"'`]"
_IS = (
    rf"(?:{_QUOTE})?+(?:[ \t]{{0,8}}+(?:=>|:=|[=:])[ \t]{{0,8}}+(?:\r?\n[ \t]{{0,32}}+)?"
    rf"|[ \t]{{0,8}}+(?:\\n|\r?\n)[ \t]{{0,32}}+(?i:value)[ \t]{{0,4}}+:[ \t]{{0,4}}+"
    r"|[ \t]{1,3}+(?i:is|ist|est|es|lautet|was)\b[ \t]{0,3}+:?+[ \t]{0,3}+)"
)
_SUFFIX = r"(?:[_.-][A-Za-z0-9_.-]{1,24}+)?+"
_AFTER_GATE = r"[a-z0-9_.-]*\\*[\"'`]?\s*(?:=|:|>|\\n|value|(?:is|ist|est|es|lautet|was)\s)"
# Words before `key` and the like that make a secret of it: a primary key or a token of a text is none.
_WHOSE = (
    *("api", "auth", "access", "private", "signing", "encryption", "master", "admin", "account", "subscription"),
    *("license", "storage", "shared", "session"),
)
_KEY = "|".join(rf"(?<={word})key|(?<={word}[_. -])key" for word in _WHOSE)


def _assigned(kind: str, marks: str, name: str, gate: str, *, least: int, check: Callable[[str], bool]) -> Shape:
    """Describe a secret of at least so many characters that is known by the name before it."""
    quoted = rf"{_QUOTE}([^\"'`\\\n]{{{least},256}}+)(?=\\{{0,7}}+[\"'`])"
    plain = rf"(?:{_QUOTE})?+([^\s\"'`\\<>,;&)\]}}]{{{least},512}}+)"
    xml = rf">([^\s<>]{{{least},256}}+)(?=</)"
    expression = re.compile(rf"(?i:{name}){_SUFFIX}(?:{_IS}(?:{quoted}|{plain})|{xml})")
    return Shape(kind, tuple(marks.split()), f"(?:{gate}){_AFTER_GATE}", expression, check=check)


def _dsn(password: str) -> bool:
    return not is_dummy(password)


# The first row that finds a place names it.
SHAPES: tuple[Shape, ...] = (
    Shape(
        "private_key",
        ("-----begin",),
        "-----begin [a-z0-9 ]{0,40}private key",
        re.compile(
            r"-----BEGIN (?:[A-Z0-9]{2,10} ){0,3}PRIVATE KEY(?: BLOCK)?-----"
            r"(?:(?:\s|\\[nr]){0,4}(?:Proc-Type|DEK-Info|Version|Comment|Hash):[^\n\\]{0,120}){0,4}"
            r"[A-Za-z0-9+/=\s\\]{40,20000}+(?:-----END [A-Z0-9 ]{3,40}-----)?"
        ),
    ),
    # Models.
    _key("openai_key", "sk-", r"sk-(?:(?:proj|svcacct|admin|None)-)?[\w-]{16,120}?T3BlbkFJ[\w-]{16,120}+"),
    _key("anthropic_key", "sk-ant-", r"sk-ant-[a-z]{2,8}[0-9]{2}-[\w-]{60,120}+"),
    _key("openrouter_key", "sk-or-", r"sk-or-v1-[0-9a-f]{64}" + _END),
    _key("groq_key", "gsk_", r"gsk_[A-Za-z0-9]{40,64}+" + _END),
    _key("xai_key", "xai-", r"xai-[A-Za-z0-9]{60,100}+" + _END, check=looks_random),
    _key("perplexity_key", "pplx-", r"pplx-[A-Za-z0-9]{40,64}+" + _END, check=looks_random),
    _key("huggingface_token", "hf_ api_org_", r"(?:hf_|api_org_)[A-Za-z0-9]{30,40}+" + _END),
    _key("replicate_token", "r8_", r"r8_[A-Za-z0-9]{30,40}+" + _END),
    _key("bedrock_key", "absk bedrock-api-key-", r"(?:ABSK|bedrock-api-key-)[A-Za-z0-9+/]{80,200}+={0,2}+"),
    _key("nvidia_key", "nvapi-", r"nvapi-[\w-]{40,80}+", check=looks_random),
    # Clouds.
    _key("aws_access_key", "akia asia", r"(?:AKIA|ASIA)[A-Z2-7]{16}" + _END),
    _assigned(
        "aws_secret_key",
        "secret",
        "secret[_-]?access[_-]?key",
        "secret[_-]?access[_-]?key",
        least=40,
        check=lambda value: re.fullmatch(r"[A-Za-z0-9/+]{40}", value) is not None and looks_random(value),
    ),
    _key("google_api_key", "aiza", r"AIza[\w-]{35}(?![\w-])"),
    _key("google_oauth_token", "ya29.", r"ya29\.[\w-]{40,400}+"),
    _key("google_oauth_secret", "gocspx-", r"GOCSPX-[\w-]{28}"),
    _key("azure_key", "jqqj99", r"[A-Za-z0-9]{52}JQQJ99[A-Za-z0-9]{20,40}+" + _END, back=(52,)),
    _key("azure_client_secret", "8q~", r"[\w~.-]{3}8Q~[\w~.-]{31,34}(?![\w~-])", back=(3,)),
    Shape(
        "azure_storage_key",
        ("accountkey=", "sharedaccesskey="),
        "(?:account|access)key=[a-z0-9+/]{40}",
        re.compile(r"(?i:accountkey|sharedaccesskey)=([A-Za-z0-9+/]{42,86}+={1,2}+)"),
    ),
    Shape(
        "azure_sas",
        ("sig=",),
        "[?&;]sig=[a-z0-9%+/]{30}",
        re.compile(r"(?<=[?&;])(?i:sig)=((?:[A-Za-z0-9+/_-]|%[0-9A-Fa-f][0-9A-Fa-f]){40,60}=?)"),
    ),
    _key("digitalocean_token", "dop_v1_ doo_v1_ dor_v1_", r"do[opr]_v1_[0-9a-f]{64}" + _END),
    _key("heroku_key", "hrku-", r"HRKU-AA[\w-]{50,70}+"),
    _key("vault_token", "hvs. hvb. hvr.", r"hv[sbr]\.[\w-]{24,300}+", check=looks_random),
    _key("terraform_token", ".atlasv1.", r"[A-Za-z0-9]{14}\.atlasv1\.[\w-]{60,80}+", back=(14,)),
    # Code and its packages.
    _key("github_token", "ghp_ gho_ ghu_ ghs_ ghr_", r"gh[pousr]_[A-Za-z0-9]{36,255}+" + _END),
    _key("github_token", "github_pat_", r"github_pat_\w{60,120}+"),
    _key(
        "gitlab_token", "glpat- gldt- glrt- glptt- glcbt- glsoat-", r"gl[a-z]{2,4}-[\w.-]{20,120}+", check=looks_drawn
    ),
    _key("npm_token", "npm_", r"npm_[A-Za-z0-9]{36}" + _END),
    _key("pypi_token", "pypi-", r"pypi-AgE[\w-]{50,400}+"),
    _key("rubygems_token", "rubygems_", r"rubygems_[0-9a-f]{48}" + _END),
    _key("docker_token", "dckr_pat_ dckr_oat_", r"dckr_[po]at_[\w-]{24,40}+"),
    _key("databricks_token", "dapi", r"dapi[0-9a-f]{32}(?:-[0-9])?" + _END),
    _key("grafana_token", "glsa_ glc_", r"(?:glsa_[A-Za-z0-9]{32}_[0-9A-Fa-f]{8}|glc_[A-Za-z0-9+/]{40,400}+)"),
    _key("new_relic_key", "nrak-", r"NRAK-[A-Z0-9]{27}" + _END),
    _key("sentry_token", "sntryu_ sntrys_", r"sntry[us]_[A-Za-z0-9+/=_]{40,400}+"),
    _key("postman_key", "pmak-", r"PMAK-[0-9a-f]{24}-[0-9a-f]{34}" + _END),
    _key("linear_key", "lin_api_", r"lin_api_[A-Za-z0-9]{40}" + _END),
    _key("notion_token", "ntn_", r"ntn_[0-9]{9,12}[A-Za-z0-9]{30,40}+" + _END),
    _key("atlassian_token", "atatt3", r"ATATT3[\w-]{100,300}+(?:=[0-9A-Fa-f]{8})?"),
    _key("age_key", "age-secret-key-1", r"AGE-SECRET-KEY-1[02-9AC-HJ-NP-Z]{58}" + _END),
    # Messages, money, shops.
    _key("slack_token", "xoxb- xoxp- xoxa- xoxr- xoxs- xoxe-", r"xox[abeprs]-[0-9]{8,14}-[\w-]{20,200}+"),
    _key("slack_token", "xapp-", r"xapp-[0-9]-[A-Z0-9]{8,14}-[0-9]{8,14}-[0-9a-f]{40,80}+"),
    _key(
        "slack_webhook",
        "https://hooks.slack.com/",
        r"https?://hooks\.slack\.com/(?:services|workflows)/[\w/-]{30,120}+",
    ),
    _key(
        "discord_webhook", "https://discord", r"https?://discord(?:app)?\.com/api/webhooks/[0-9]{16,20}/[\w-]{60,80}+"
    ),
    _key(
        "telegram_token", ":aa", r"[0-9]{8,10}:AA[\w-]{32,34}(?![\w-])", gate="[0-9]:aa[a-z0-9_-]{20}", back=(8, 9, 10)
    ),
    _key(
        "stripe_key",
        "sk_live_ rk_live_ sk_test_ rk_test_",
        r"[sr]k_(?:live|test)_[A-Za-z0-9]{20,250}+",
        check=looks_random,
    ),
    _key("stripe_key", "whsec_", r"whsec_[A-Za-z0-9+/]{24,80}+=?+", check=looks_random),
    _key("sendgrid_key", "sg.", r"SG\.[\w-]{20,24}\.[\w-]{39,50}+", gate=r"sg\.[a-z0-9_-]{20}"),
    _key("mailgun_key", "key-", r"key-[0-9a-f]{32}" + _END, gate="key-[0-9a-f]{32}"),
    _key("mailchimp_key", "-us", r"[0-9a-f]{32}-us[0-9]{1,2}" + _END, gate="[0-9a-f]-us[0-9]", back=(32,)),
    _key("twilio_key", "sk", r"SK[0-9a-f]{32}" + _END, gate="sk[0-9a-f]{32}"),
    _key("shopify_token", "shpat_ shpca_ shppa_ shpss_", r"shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}" + _END),
    _key("square_token", "sq0atp- sq0csp-", r"sq0(?:atp|csp)-[\w-]{22,43}+"),
    # Forms that many give out.
    _key("provider_key", "sk- lgw-", r"(?:sk|lgw)[-_][\w-]{20,200}+", check=looks_random),
    Shape(
        "jwt",
        ("eyj",),
        r"eyj[\w-]{6,}\.eyj",
        re.compile(START + r"eyJ[\w-]{8,2000}+\.eyJ[\w-]{6,8000}+\.[\w-]{0,1000}+"),
    ),
    Shape(
        "connection_string",
        ("://",),
        "://[^\\s/:@\"']*:[^\\s@\"'<>]+@",
        re.compile(r"://[^\s/:@\"'<>]{0,100}+:([^\s/@\"'<>]{4,200}+)@"),
        check=_dsn,
    ),
    Shape(
        "bearer_token",
        ("bearer",),
        r"bearer\s+[a-z0-9._~+/=-]{20}",
        re.compile(r"(?i:bearer)[ \t]{1,3}+([A-Za-z0-9._~+/=-]{20,4000}+)"),
        check=looks_random,
    ),
    Shape(
        "basic_auth",
        ("basic",),
        r"basic\s+[a-z0-9+/]{8}",
        re.compile(START + r"(?i:basic)[ \t]{1,3}+([A-Za-z0-9+/]{8,400}+={0,2}+)"),
        check=is_basic_auth,
    ),
    _assigned(
        "password",
        "passw passphrase pwd kennwort contrase",
        r"passwor[dt]|passwd|passphrase|pwd|kennwort|contrase(?:ñ|n)a",
        "passwor[dt]|passwd|passphrase|pwd|kennwort|contrase(?:ñ|n)a",
        least=6,
        check=is_password,
    ),
    _assigned("secret", "secret", "secret", "secret", least=16, check=looks_random),
    _assigned(
        "secret",
        "token",
        r"(?<!page)(?<!page[_-])(?<!sync[_-])(?<!next)(?<!next[_-])token",
        "token",
        least=16,
        check=looks_random,
    ),
    _assigned("secret", "key", _KEY, f"(?:{'|'.join(_WHOSE)})[_. -]?key", least=16, check=looks_random),
    # Personal data that has no checksum, or too short a one to stand without its name.
    Shape(
        "spanish_dni",
        ("dni", "nif"),
        r"(?:dni|nif)[^\n]{0,20}[0-9]{8}",
        re.compile(START + r"(?i:dni|nif)[^A-Za-z0-9\n]{1,12}+([0-9]{8}-?[A-Za-z])" + _END),
        category=PERSONAL,
        weight=0.85,
        check=lambda value: is_spanish_id(value.replace("-", "").upper()),
    ),
    Shape(
        "spanish_nie",
        ("nie",),
        r"nie[^\n]{0,20}[xyz]-?[0-9]{7}",
        re.compile(START + r"(?i:nie)[^A-Za-z0-9\n]{1,12}+([XYZxyz]-?[0-9]{7}-?[A-Za-z])" + _END),
        category=PERSONAL,
        weight=0.85,
        check=lambda value: is_spanish_id(value.replace("-", "").upper()),
    ),
    Shape(
        "dutch_bsn",
        ("bsn", "burgerservicenummer"),
        r"(?:bsn|burgerservicenummer)[^\n]{0,20}[0-9]{9}",
        re.compile(START + r"(?i:bsn|burgerservicenummer)[^A-Za-z0-9\n]{1,12}+([0-9]{9})" + _END),
        category=PERSONAL,
        weight=0.85,
        check=is_dutch_bsn,
    ),
    Shape(
        "email",
        ("@",),
        r"[a-z0-9]@[a-z0-9-]+\.[a-z]",
        re.compile(START + r"[A-Za-z0-9._%+-]{1,64}+@(?:[A-Za-z0-9-]{1,63}+\.){1,6}[A-Za-z]{2,24}" + _END),
        category=PERSONAL,
        weight=0.25,
        before="abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._%+-",
        check=lambda value: value.rpartition(".")[2].lower() not in _FILE_ENDINGS and not value.startswith("git@"),
    ),
    Shape(
        "phone",
        ("+",),
        r"\+[1-9][0-9 ().-]{7}",
        re.compile(r"(?<![A-Za-z0-9])\+[1-9][0-9 ().-]{6,22}[0-9]"),
        category=PERSONAL,
        weight=0.25,
        check=lambda value: 8 <= sum(char.isdigit() for char in value) <= 15,  # noqa: PLR2004  ITU-T E.164
    ),
)
