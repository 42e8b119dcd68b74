"""The sections of a fleet file as pydantic models, for validation and editors.

What a mapping may hold is its fields: an unknown key is an error that names its line and the nearest known one. The
keys of a policy are not written here: they are the rows of `towpath_cli.policy.POLICY_OPTIONS`.
"""

from typing import TYPE_CHECKING, Any

from pydantic import Field, create_model

from towpath_cli.fleetfields import (
    Duration,
    Environment,
    Flag,
    Label,
    Labels,
    Line,
    Parameters,
    Windows,
    Zone,
    type_of,
)
from towpath_cli.policy import POLICY_OPTIONS
from towpath_cli.releasefields import AppName, PlainText, Version
from towpath_cli.releasemodels import Section

_POLICY: dict[str, Any] = {
    one.name: (type_of(one) | None, Field(default=None, description=str(one.click["help"]))) for one in POLICY_OPTIONS
}


def given(section: Section) -> dict[str, Any]:
    """Return the options of a policy that a section gives, by name."""
    return {name: value for name in _POLICY if (value := getattr(section, name)) is not None}


class ParametersSection(Section):
    """Parameters by `app.name`."""

    parameters: Parameters = Field(default_factory=dict)


class EnvironmentSection(ParametersSection):
    """An environment. It follows the one above it in the file, unless `after` or `first` says otherwise.

    `healthy_for`: how long a release has to be healthy in the one that it follows. `windows`: when its rollouts move
    hosts. `parameters`: of all its hosts; `labels`: of those with a label, KEY=VALUE.
    """

    after: Environment | None = None
    first: Flag = False
    healthy_for: Duration | None = None
    windows: Windows | None = None
    labels: dict[Label, Parameters] = Field(default_factory=dict)


class FreezeHead(Section):
    """A freeze: every week, or from a time until another one; `zone` is that of times which do not say theirs."""

    environment: Environment | None = None
    all_environments: Flag = False
    select: Labels = Field(default_factory=dict)
    weekly: PlainText | None = None
    until: PlainText | None = None
    zone: Zone | None = None
    reason: Line


class AssignmentHead(Section):
    """A rule: hosts of an environment with these labels run this release. Its own options win over its policy's."""

    app: AppName
    version: Version
    environment: Environment
    select: Labels = Field(default_factory=dict)
    all_hosts: Flag = False
    policy: PlainText | None = None


if TYPE_CHECKING:
    LimitsSection = Section
    AssignmentSection = AssignmentHead
    FreezeSection = FreezeHead
else:
    # Python has no attribute `from`, and a fleet file says what the option says.
    FreezeSection = create_model(
        "FreezeSection", __base__=FreezeHead, __doc__=FreezeHead.__doc__, **{"from": (PlainText | None, None)}
    )
    LimitsSection = create_model(
        "LimitsSection",
        __base__=Section,
        __doc__="A policy: what `towpath deploy` has options for. What is not given is the default of the option.",
        **_POLICY,
    )
    AssignmentSection = create_model(
        "AssignmentSection", __base__=AssignmentHead, __doc__=AssignmentHead.__doc__, **_POLICY
    )


class FleetSection(Section):
    """A whole fleet file."""

    environments: dict[Environment, EnvironmentSection]
    hosts: dict[str, ParametersSection] = Field(default_factory=dict)
    policies: dict[str, LimitsSection] = Field(default_factory=dict)
    freezes: list[FreezeSection] | None = None
    assignments: list[AssignmentSection] = Field(default_factory=list)
