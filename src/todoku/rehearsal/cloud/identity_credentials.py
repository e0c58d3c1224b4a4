"""What people prove themselves with, over REST: SMTP credentials, API keys, and the capabilities of a user."""

from __future__ import annotations

from typing import Any

from .api import Call, Route, answer, paged, select
from .entries import if_match
from .errors import conflict, invalid, limit_exceeded, not_found
from .http_server import Answer
from .identity import Identity
from .tenancy import ApiKey, SmtpCredential, User

API_KEYS = 3  # at most, per user (SDK: upload_api_key)


class Credentials:
    """The operations below /users/{user}."""

    def __init__(self, identity: Identity) -> None:
        self.identity, self.tenancy, self.clock = identity, identity.tenancy, identity.clock

    def routes(self) -> list[Route]:
        """Every operation of this module."""
        smtp, keys = "/users/{user}/smtpCredentials", "/users/{user}/apiKeys"
        return [
            Route("GET", smtp, "list_smtp_credentials", self.list_smtp),
            Route("POST", smtp, "create_smtp_credential", self.create_smtp, writes=True),
            Route("PUT", smtp + "/{id}", "update_smtp_credential", self.update_smtp, writes=True),
            Route("DELETE", smtp + "/{id}", "delete_smtp_credential", self.delete_smtp, writes=True),
            Route("GET", keys, "list_api_keys", self.list_keys),
            Route("POST", keys, "upload_api_key", self.upload_key, writes=True),
            Route("DELETE", keys + "/{fingerprint}", "delete_api_key", self.delete_key, writes=True),
            Route(
                "PUT",
                "/users/{user}/capabilities",
                "update_user_capabilities",
                self.set_capabilities,
                writes=True,
            ),
        ]

    def _user(self, call: Call, verb: str, kind: str = "credentials", **target: str) -> User:
        """The user of the path. One's own credentials are one's own business."""
        user = self.tenancy.users.find(call.path["user"])
        if call.principal.id != user.id:
            variables = {name.replace("_", "."): value for name, value in target.items()}
            self.tenancy.require(call.principal, verb, kind, user.compartment, variables)
        if not (user.alive() and user.classic):
            raise not_found()
        return user

    # -- SMTP credentials

    def list_smtp(self, call: Call) -> Answer:
        """Without the passwords."""
        user = self._user(call, "inspect", target_credential_type="smtp")
        found = [self._summary(credential) for credential in self.tenancy.credentials_of(user)]
        return paged(call, select(call, found, {}, {"TIMECREATED": "timeCreated"}, "TIMECREATED"))

    def create_smtp(self, call: Call) -> Answer:
        """The only answer that has the password."""
        user = self._user(call, "manage", target_credential_type="smtp")
        if "description" not in call.body:
            raise invalid("description is required")
        credential = self.tenancy.add_credential(user, call.text("description", required=False, longest=400))
        return answer(credential, self._summary(credential) | {"password": credential.password})

    def update_smtp(self, call: Call) -> Answer:
        """The description only."""
        credential = self._credential(call, "use")
        credential.description = call.text("description", required=False, longest=400)
        credential.touch(self.clock.now())
        return answer(credential, self._summary(credential))

    def delete_smtp(self, call: Call) -> Answer:
        """In force at once."""
        self._credential(call, "manage").leave(self.clock.now(), 0.0)
        return Answer(204)

    def _credential(self, call: Call, verb: str) -> SmtpCredential:
        user = self._user(call, verb, target_credential_type="smtp")
        credential = self.tenancy.credentials.find(call.path["id"])
        if credential.user != user.id or not credential.alive():
            raise not_found()
        if_match(credential, call.header("if-match"))
        return credential

    def _summary(self, credential: SmtpCredential) -> dict[str, Any]:
        return {
            "id": credential.id,
            "userId": credential.user,
            "username": credential.name,
            "description": credential.description,
            "timeCreated": self.clock.text(credential.created),
            "timeExpires": None,
            "lifecycleState": credential.state(self.clock.now()),
        }

    # -- API keys

    def list_keys(self, call: Call) -> Answer:
        """All of a user."""
        user = self._user(call, "inspect", "users")
        return paged(call, [self._key(key) for key in self.tenancy.api_keys.values() if key.user == user.id])

    def upload_key(self, call: Call) -> Answer:
        """A public key in PEM."""
        user = self._user(call, "use", "users")
        known = [key for key in self.tenancy.api_keys.values() if key.user == user.id]
        if len(known) >= API_KEYS:
            raise limit_exceeded(f"a user has at most {API_KEYS} API keys")
        try:
            key = self.tenancy.add_key(user.id, call.text("key"))
        except ValueError:
            raise invalid("key has to be an RSA public key in PEM") from None
        if any(key.fingerprint == other.fingerprint for other in known):
            raise conflict("the key is there already")
        return Answer(200, self._key(key))

    def delete_key(self, call: Call) -> Answer:
        """By fingerprint."""
        user = self._user(call, "use", "users")
        name = f"{self.tenancy.plan.tenancy}/{user.id}/{call.path['fingerprint']}"
        if self.tenancy.api_keys.pop(name, None) is None:
            raise not_found()
        return Answer(204)

    def _key(self, key: ApiKey) -> dict[str, Any]:
        return {
            "keyId": f"{self.tenancy.plan.tenancy}/{key.user}/{key.fingerprint}",
            "keyValue": key.pem,
            "fingerprint": key.fingerprint,
            "userId": key.user,
            "timeCreated": self.clock.text(key.created),
            "lifecycleState": "ACTIVE",
        }

    def set_capabilities(self, call: Call) -> Answer:
        """What a user may use; SMTP credentials are one of them."""
        user = self._user(call, "manage", "users")
        user.capabilities |= {
            name: value
            for name, value in call.body.items()
            if name.startswith("canUse") and isinstance(value, bool)
        }
        user.touch(self.clock.now())
        return answer(user, self.identity.shown(user))
