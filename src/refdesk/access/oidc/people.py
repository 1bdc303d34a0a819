"""Who somebody is here, by what the provider says of them: an id of their issuer and subject, a name, groups and a role."""

import hashlib
from collections.abc import Collection, Mapping
from typing import Any, get_args

import msgspec

from refdesk.contracts.access import ADMINISTRATORS, EDITORS, EVERYONE, PRINCIPAL_PREFIX, Principal, Role, is_reader
from refdesk.contracts.errors import ConfigurationError
from refdesk.contracts.hidden_characters import clean

GROUPS_MAX = 1000
"""Groups of one person that count; those beyond are left out."""
NAME_CHARACTERS_MAX = 200
NAMES = ("name", "preferred_username", "email")
"""The claims that may have a name for people, the best first."""
REST = "*"
"""In a mapping: all other groups, by their own names."""
STANDING_FOR_ROLES = frozenset({ADMINISTRATORS, EDITORS})
"""Groups that a provider cannot put anybody in: they stand for roles, and roles are given by their own setting."""

GROUPS_BY_ROLE: Mapping[str, str] = {"administrator": ADMINISTRATORS}
"""The group that goes with a role."""


class Mapped(msgspec.Struct, frozen=True, kw_only=True):
    """How claims become groups and a role. Unset, groups keep their names, and everybody has the role ``role``."""

    claim: str = "groups"
    groups: Mapping[str, str] = msgspec.field(default_factory=lambda: {REST: REST})
    """The desk's group by the provider's."""
    roles: Mapping[str, Role] = {}
    """The role by the provider's group; of several, the first that this mapping names."""
    role: Role = "asker"

    def groups_of(self, claims: Mapping[str, Any]) -> tuple[str, ...] | None:
        """The provider's groups; None where the claims do not say."""
        value: Any = claims
        if self.claim in claims:
            return _texts(claims[self.claim])
        for name in self.claim.split("."):  # Keycloak has its roles one level down: realm_access.roles
            if not isinstance(value, Mapping) or name not in value:
                return None
            value = value[name]
        return _texts(value)

    def principal(self, issuer: str, claims: Mapping[str, Any], groups: Collection[str]) -> Principal:
        """The principal of the claims' subject, in these groups of the provider."""
        role = next((role for group, role in self.roles.items() if group in groups), self.role)
        own = {self._named(group) for group in groups} - {"", *STANDING_FOR_ROLES}
        own |= {GROUPS_BY_ROLE[role]} if role in GROUPS_BY_ROLE else set()
        return Principal(
            id=principal_id(issuer, str(claims["sub"])),
            groups=tuple(sorted(own)[:GROUPS_MAX]),
            name=_name(claims),
            role=role,
        )

    def _named(self, group: str) -> str:
        """The desk's name of a group; empty for one that has none."""
        name = self.groups.get(group) or (group if REST in self.groups else "")
        return name if is_group(name) else ""


def principal_id(issuer: str, subject: str) -> str:
    """Of one person for ever: the same at every door, for a session as for a token."""
    return "u" + hashlib.sha256(f"{issuer}|{subject}".encode()).hexdigest()[:32]


def is_group(name: str) -> bool:
    """Whether a document's readers can name a group so."""
    return is_reader(name) and name != EVERYONE and not name.startswith(PRINCIPAL_PREFIX)


def read_groups(text: str | None, *, setting: str) -> dict[str, str]:
    """``Staff HR=hr, legal=legal, *``: the desk's group by the provider's. Raises ConfigurationError."""
    if not text:
        return {REST: REST}
    groups = _pairs(text, setting=setting)
    for name in groups.values():
        if name != REST and not is_group(name):
            raise ConfigurationError(f"{setting} names the group {name!r}: use letters, digits and . _ @ + -.")
        if name in STANDING_FOR_ROLES:
            raise ConfigurationError(
                f"{setting} puts people in {name!r}, which stands for a role. Give it by REFDESK_OIDC_ROLES."
            )
    return groups


def read_roles(text: str | None, *, setting: str) -> dict[str, Role]:
    """``Desk admins=administrator, writers=writer``: the role by the provider's group. Raises ConfigurationError."""
    if not text:
        return {}
    try:
        return msgspec.convert(_pairs(text, setting=setting), dict[str, Role])
    except msgspec.ValidationError as error:
        raise ConfigurationError(
            f"{setting} gives a role that is none: {error}. Roles are {', '.join(get_args(Role))}."
        ) from error


def _pairs(text: str, *, setting: str) -> dict[str, str]:
    """``a=b, c=d``, or a JSON object, for names with commas such as ``CN=HR,OU=Groups``."""
    if text.lstrip().startswith("{"):
        try:
            return msgspec.json.decode(text.encode(), type=dict[str, str])
        except (msgspec.DecodeError, UnicodeEncodeError) as error:
            raise ConfigurationError(f"{setting} is no JSON object of texts: {error}.") from error
    pairs = {}
    for part in (part.strip() for part in text.split(",")):
        given, equals, name = (piece.strip() for piece in part.rpartition("="))
        if part == REST:
            pairs[REST] = REST
        elif equals and given and name:
            pairs[given] = name
        elif part:
            raise ConfigurationError(f"{setting} has {part!r}. Give pairs such as `Staff HR=hr`, separated by commas.")
    return pairs


def _texts(value: Any) -> tuple[str, ...]:
    """A claim's texts; one that is a text alone is one."""
    given = [value] if isinstance(value, str) else value
    return tuple(text for text in given if isinstance(text, str)) if isinstance(given, list) else ()


def _name(claims: Mapping[str, Any]) -> str:
    given = next((claims[name] for name in NAMES if isinstance(claims.get(name), str) and claims[name].strip()), "")
    return " ".join(clean(given or str(claims["sub"])).split())[:NAME_CHARACTERS_MAX]
