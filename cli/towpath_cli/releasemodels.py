"""The sections of a release file as pydantic models: what each may hold, for validation and for editors.

The models of installers, services and probes are built from the rows of `towpath.kinds`, so that a new kind needs
nothing here. An unknown key is answered with the nearest known one.
"""

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, Union

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    create_model,
    model_validator,
)
from pydantic_core import ErrorDetails, InitErrorDetails

from towpath.handover import MAX_DRAIN_MS, Handover
from towpath.kinds import INSTALLERS, PROBES, SERVICES, OptionSpec
from towpath.parameters import Parameter, check_declarations, parse_value
from towpath.release import HealthPolicy, Hook, Install, Probe, Run
from towpath_cli.releasefields import (
    FAULT,
    AppName,
    Command,
    DecimalOrHole,
    DurationMs,
    Env,
    Environments,
    FileMode,
    Number,
    NumberOrHole,
    Pairs,
    PlainText,
    Size,
    Texts,
    Truth,
    Version,
    choice,
    fault,
    shown,
)
from towpath_cli.yamlfile import Text

OPTION_TYPES: Mapping[OptionSpec, Any] = {
    "text": PlainText,
    "texts": Texts,
    "pairs": Pairs,
    "int": NumberOrHole,
    "port": NumberOrHole,
    "number": DecimalOrHole,
    "bool": Truth,
    "duration": DurationMs,
    "size": Size,
}
# Options whose name says more than their type: a mode is octal, a command may be one string.
NAMED_TYPES: Mapping[str, Any] = {"mode": FileMode, "command": Command}


class Section(BaseModel):
    """A mapping with known keys only."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    # Where one key is the whole section, an unknown one leaves nothing to look at.
    one_key: ClassVar[bool] = False

    @model_validator(mode="wrap")
    @classmethod
    def _known_keys(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Name unknown keys and whatever else is wrong in one go."""
        if isinstance(data, Text) and data.is_null:
            data = {}
        if not isinstance(data, Mapping):
            raise fault(f"a mapping is expected, not {shown(data)}")
        errors: list[InitErrorDetails] = []
        for key in data:
            if key not in cls.model_fields:
                near = difflib.get_close_matches(key, cls.model_fields, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(cls.model_fields)}"
                reason = f"unknown key {key[:60]!r}; {hint}"
                errors.append(InitErrorDetails(type=fault(reason, key), loc=(), input=None))
        if errors and cls.one_key:
            raise ValidationError.from_exception_data(cls.__name__, errors)
        try:
            section = handler({key: value for key, value in data.items() if key in cls.model_fields})
        except ValidationError as error:
            errors.extend(_again(details) for details in error.errors(include_url=False))
            raise ValidationError.from_exception_data(cls.__name__, errors) from error
        if errors:
            raise ValidationError.from_exception_data(cls.__name__, errors)
        return section


def _again(details: ErrorDetails) -> InitErrorDetails:
    context = details.get("ctx") or {}
    kind = fault(context["reason"], context["key"]) if details["type"] == FAULT else details["type"]
    return InitErrorDetails(type=kind, loc=details["loc"], input=details["input"], ctx=context)


def _options_model(name: str, specs: Mapping[str, OptionSpec], base: type[Section], **fields: Any) -> type[Section]:
    for option, spec in specs.items():
        bare = spec.rstrip("!")
        kind = choice(bare.split("|")) if "|" in bare else NAMED_TYPES.get(option, OPTION_TYPES[bare])
        fields[option] = (kind, ...) if spec.endswith("!") else (kind | None, None)
    return create_model(name, __base__=base, **fields)


class InstallSection(Section):
    """What every installer takes."""

    keep: Annotated[Number, Field(ge=0, le=1000)] = Install("").keep
    keep_bytes: Size = Install("").keep_bytes


class RunSection(Section):
    """What every service takes; only `process` takes a command and a handover."""

    env: Env = Field(default_factory=dict)
    stop_timeout: DurationMs = Run("").stop_timeout_ms


class HandoverSection(Section):
    """Start before stop: two parameters of type port, the first this copy's own (`towpath.handover`)."""

    ports: Annotated[Texts, Field(min_length=2, max_length=2)]
    drain: Annotated[DurationMs, Field(le=MAX_DRAIN_MS)] = Handover(()).drain_ms


# What only one service takes beside its options.
_OWN_FIELDS: Mapping[str, Mapping[str, Any]] = {
    "process": {"command": (Command, ...), "handover": (HandoverSection | None, None)}
}


class ProbeSection(Section):
    """What every probe takes."""

    interval: Annotated[DurationMs, Field(ge=1)] = Probe("").interval_ms
    timeout: Annotated[DurationMs, Field(ge=1)] = Probe("").timeout_ms
    successes: Annotated[Number, Field(ge=1, le=1000)] = Probe("").successes
    failures: Annotated[Number, Field(ge=1, le=1000)] = Probe("").failures


def _kind_field(kind: str) -> Any:
    return (Literal[kind], ...)


INSTALL_MODELS = {
    kind: _options_model(f"{kind.title()}Install", specs, InstallSection, kind=_kind_field(kind))
    for kind, specs in INSTALLERS.items()
}
RUN_MODELS = {
    kind: _options_model(
        f"{kind.title()}Run",
        specs,
        RunSection,
        kind=_kind_field(kind),
        **_OWN_FIELDS.get(kind, {}),
    )
    for kind, specs in SERVICES.items()
}
PROBE_MODELS = {kind: _options_model(f"{kind.title()}Probe", specs, ProbeSection) for kind, specs in PROBES.items()}


if TYPE_CHECKING:  # what is built from the tables, as a type checker may see it

    class InstallKinds(InstallSection):
        """Any row of INSTALLERS."""

        kind: str

    class RunKinds(RunSection):
        """Any row of SERVICES."""

        kind: str

    ProbeKinds = Section
else:
    InstallKinds = Annotated[Union[tuple(INSTALL_MODELS.values())], Discriminator("kind")]  # noqa: UP007
    RunKinds = Annotated[Union[tuple(RUN_MODELS.values())], Discriminator("kind")]  # noqa: UP007
    ProbeKinds = create_model(
        "ProbeKinds", __base__=Section, **{kind: (model | None, None) for kind, model in PROBE_MODELS.items()}
    )


class ProbeItem(ProbeKinds):
    """One entry of `probes`: exactly one kind."""

    one_key: ClassVar[bool] = True

    @model_validator(mode="before")
    @classmethod
    def _one_kind(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            if len(data) != 1 and all(key in PROBE_MODELS for key in data):
                raise fault(
                    f"one kind of probe is expected, known are {', '.join(PROBE_MODELS)}; begin another with '-'"
                )
            return {key: {} if isinstance(item, Text) and item.is_null else item for key, item in data.items()}
        return data


class HooksSection(Section):
    """A command for each fixed point, and one timeout for all."""

    prepare: Command | None = None
    post_start: Command | None = None
    post_confirm: Command | None = None
    pre_stop: Command | None = None
    post_revert: Command | None = None
    handover: Command | None = None
    timeout: Annotated[DurationMs, Field(ge=1, le=3_600_000)] = Hook("", ()).timeout_ms


class HealthSection(Section):
    """The three clocks of health."""

    healthy_for: DurationMs = HealthPolicy().healthy_for_ms
    deadline: DurationMs = HealthPolicy().deadline_ms
    probation: DurationMs = HealthPolicy().probation_ms

    @model_validator(mode="after")
    def _ordered(self) -> "HealthSection":
        if self.healthy_for >= self.deadline:
            raise fault("healthy_for must be shorter than deadline", "healthy_for")
        return self


class ParameterSection(Section):
    """A declared parameter; its default is checked against its type."""

    type: PlainText
    default: PlainText | None = None
    choices: Texts = ()

    def declare(self, name: str) -> Parameter:
        """Return the declaration; InputError where it makes no sense."""
        bare = Parameter(name, self.type, None, self.choices)
        check_declarations([bare])
        if self.default is None:
            return bare
        return Parameter(name, self.type, parse_value(bare, self.default), self.choices)


class RequiresSection(Section):
    """What a host must have before it begins."""

    disk: Size = 0
    apps: Texts = ()
    together: Texts = ()


class ReleaseSection(Section):
    """A whole release file."""

    app: AppName
    version: Version | None = None
    artifact: PlainText
    install: InstallKinds
    run: RunKinds
    hooks: HooksSection = HooksSection()
    probes: list[ProbeItem] = Field(default_factory=list)
    health: HealthSection = HealthSection()
    parameters: dict[str, ParameterSection] = Field(default_factory=dict)
    requires: RequiresSection = RequiresSection()
    platforms: Texts = ()
    environments: Environments = ()
    rollback_floor: Annotated[Number, Field(ge=0)] = 0
