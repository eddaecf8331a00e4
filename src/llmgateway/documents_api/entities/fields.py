"""The bodies of what services are made of, with the range of each field.

Of a change, what is not sent stays; `null` clears what may be empty, and is refused for everything else.
"""

import re
from typing import Annotated, Any

import msgspec
from msgspec import structs
from pydantic import AfterValidator, Field

from llmgateway.documents_api.asked import Body
from llmgateway.documents_api.shelves.viewer import Owned
from llmgateway.flavor import LEAST_URGENT, MOST_URGENT, FailoverOn, Flavor, Mode, OutputType
from llmgateway.storage.documents.rows import PromptCategory, PromptType

_LONGEST_PROMPT = 100_000
_LONGEST_TTL_S = 31_536_000
_MOST_PARAMS = 64
# Of JSON: all services are kept in memory, and each job keeps its flavor's settings.
_MOST_BYTES = 64 * 1024
# The pipeline says these, or the gateway's own settings do.
_OWN_PARAMS = frozenset(
    {"model", "messages", "stream", "stream_options", "n", "max_tokens", "max_completion_tokens", "service", "user"}
)
# LiteLLM's parameters that say where a call goes and who pays; `prompt_cache_key` is OpenAI's, and no key.
_ADDRESS_PARAM = re.compile(r"base|url|endpoint|host|domain|prox|secret|password|credential|header|authori[sz]ation")
_KEY_PARAM = re.compile(r"(^|_)(key|token)$|^(api|aws|azure|vertex|custom_llm|litellm)_")


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must be printable, on one line")
    if text != text.strip():
        raise ValueError("must not begin or end with a blank")
    return text


def _small(value: dict[str, Any]) -> dict[str, Any]:
    size_bytes = len(msgspec.json.encode(value))
    if size_bytes > _MOST_BYTES:
        raise ValueError(f"is {size_bytes} bytes of JSON, and {_MOST_BYTES} is the most")
    return value


def _harmless(params: dict[str, Any]) -> dict[str, Any]:
    for name in params:
        lowered = name.lower()
        if lowered in _OWN_PARAMS:
            raise ValueError(f"`{name[:64]}` cannot be set here: the service sets it")
        if lowered != "prompt_cache_key" and (_ADDRESS_PARAM.search(lowered) or _KEY_PARAM.search(lowered)):
            raise ValueError(f"`{name[:64]}` cannot be set here: keys and addresses are the providers', in the catalog")
    return params


Line = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_printable)]
FlavorName = Annotated[str, Field(min_length=1, max_length=50), AfterValidator(_printable)]
ModelName = Annotated[str, Field(min_length=1, max_length=256)]
Description = Annotated[str, Field(max_length=2_000)]
Code = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,49}$")]
Route = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=100)]
Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,128}$")]
PromptText = Annotated[str, Field(min_length=1, max_length=_LONGEST_PROMPT)]
Metadata = Annotated[dict[Annotated[str, Field(max_length=64)], Any], Field(max_length=64), AfterValidator(_small)]
Penalty = Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)]
Params = Annotated[dict[str, Any], Field(max_length=_MOST_PARAMS), AfterValidator(_harmless), AfterValidator(_small)]
Schema = Annotated[dict[str, Any], AfterValidator(_small)]


class FailoverOnBody(Body):
    """After which failures another flavor goes on."""

    timeout: bool = True
    rate_limit: bool = True
    model_error: bool = True
    content_filter: bool = False


class Settings(Body):
    """What can be set of a flavor, without its model (documents.md, section 2)."""

    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] = 0.2
    top_p: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 0.9
    frequency_penalty: Penalty = 0.0
    presence_penalty: Penalty = 0.0
    stop: Annotated[tuple[Annotated[str, Field(min_length=1, max_length=256)], ...], Field(max_length=4)] = ()
    custom_params: Params = Field(default_factory=dict)
    processing_mode: Mode = "iterative"
    create_new_turn_after: Annotated[int, Field(ge=1, le=1_000_000)] = 500
    max_new_turns: Annotated[int, Field(ge=1, le=50)] = 10
    summary_turns: Annotated[int, Field(ge=0, le=20)] = 3
    reduce_summary: bool = False
    consolidate_summary: bool = False
    output_type: OutputType = "markdown"
    output_schema: Schema | None = None
    system_prompt: PromptText | None = None
    user_prompt: PromptText | None = None
    reduce_prompt: PromptText | None = None
    field_extraction_prompt: PromptText | None = None
    categorization_prompt: PromptText | None = None
    tokenizer_override: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    fallback_flavor_id: Id | None = None
    auto_fallback_to_iterative: bool = True
    failover_flavor_id: Id | None = None
    failover_on: FailoverOnBody = FailoverOnBody()
    max_failover_depth: Annotated[int, Field(ge=1, le=10)] = 3
    max_concurrent_requests: Annotated[int, Field(ge=1, le=1_000)] | None = None
    priority: Annotated[int, Field(ge=MOST_URGENT, le=LEAST_URGENT)] = 5
    default_ttl_seconds: Annotated[int, Field(ge=1, le=_LONGEST_TTL_S)] | None = None
    max_cost_usd: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] | None = None

    def over(self, flavor: Flavor) -> Flavor:
        """Give settings with what was sent in place of what they had."""
        given = {name: getattr(self, name) for name in sorted(self.named & _SETTINGS - {"failover_on"})}
        if "failover_on" in self.named:
            failures: FailoverOnBody = self.failover_on
            told = {name: getattr(failures, name) for name in sorted(failures.named)}
            given["failover_on"] = structs.replace(flavor.failover_on, **told)
        return structs.replace(flavor, **given)


_SETTINGS = frozenset(Flavor.__struct_fields__)


class FlavorChange(Settings):
    """What may be said of a flavor."""

    name: FlavorName = ""
    model: ModelName = ""
    description: Description | None = None
    is_default: bool = False
    is_active: bool = True


class NewFlavor(FlavorChange):
    """A flavor to be made."""

    name: FlavorName
    model: ModelName

    def settings(self, otherwise: Mode) -> Flavor:
        """Give its settings; what was not sent has its default.

        Args:
            otherwise: The mode in which the service's type is usually processed.
        """
        return self.over(Flavor(model=self.model, processing_mode=otherwise, failover_on=FailoverOn()))


class PresetSettings(Settings):
    """What a preset says of a flavor."""

    model: ModelName = ""


class ServiceChange(Body):
    """What may be said of a service.

    Args:
        route: Names it in addresses. It is made of the name once, and stays when the name changes: keys may name it.
    """

    name: Line = ""
    route: Route = ""
    service_type: Code = "generic"
    description: Description | None = None
    is_active: bool = True
    default_template_id: Id | None = None
    metadata: Metadata = Field(default_factory=dict)


class NewService(ServiceChange, Owned):
    """A service to be made, with its flavors: the first is the default unless another says that it is."""

    name: Line
    service_type: Code = "generic"
    flavors: Annotated[tuple[NewFlavor, ...], Field(min_length=1, max_length=50)]


class PromptChange(Body):
    """What may be said of a prompt."""

    name: Line = ""
    content: PromptText = ""
    category: PromptCategory = "system"
    type: PromptType = "standard"
    service_type: Code | None = None
    description: Description | None = None


class NewPrompt(PromptChange, Owned):
    """A prompt to be made."""

    name: Line
    content: PromptText


class PromptCopy(Owned):
    """What a copy of a prompt is called, and whose it is."""

    name: Line | None = None


class ServiceTypeChange(Body):
    """What may be said of a kind of service."""

    name: Line = ""
    description: Description | None = None
    supports_reduce: bool = True
    supports_chunking: bool = True
    default_processing_mode: Mode = "iterative"


class NewServiceType(ServiceTypeChange):
    """A kind of service to be made."""

    code: Code
    name: Line


class PresetChange(Body):
    """What may be said of a preset."""

    name: Line = ""
    description: Description | None = None
    settings: PresetSettings = PresetSettings()


class NewPreset(PresetChange, Owned):
    """A preset to be made."""

    name: Line
    settings: PresetSettings


class PresetUse(Body):
    """Which service gets a flavor of a preset.

    Args:
        service_id: Or its route.
        name: Without it, the preset's.
        model: Without it the preset's, else the one of the service's default flavor.
    """

    service_id: Annotated[str, Field(min_length=1, max_length=128)]
    name: FlavorName | None = None
    model: ModelName | None = None
    is_default: bool = False


class TemplateService(Body):
    """The service's own fields in a template."""

    name: Line
    service_type: Code = "generic"
    description: Description | None = None
    metadata: Metadata = Field(default_factory=dict)


class TemplateFlavor(Settings):
    """A flavor in a template; without a model it gets the best that is configured."""

    name: FlavorName
    model: ModelName = ""
    description: Description | None = None
    is_default: bool = False


class ServiceTemplateChange(Body):
    """What may be said of a service template."""

    name: Line = ""
    description: Description | None = None
    service: TemplateService = TemplateService(name="-")
    flavors: Annotated[tuple[TemplateFlavor, ...], Field(min_length=1, max_length=50)] = ()


class NewServiceTemplate(ServiceTemplateChange, Owned):
    """A service template to be made."""

    name: Line
    service: TemplateService
    flavors: Annotated[tuple[TemplateFlavor, ...], Field(min_length=1, max_length=50)]


class TemplateUse(Owned):
    """What a service made of a template is called, and which model its flavors have."""

    name: Line | None = None
    description: Description | None = None
    model: ModelName | None = None
