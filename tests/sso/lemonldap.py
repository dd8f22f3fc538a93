"""A real LemonLDAP::NG on loopback: SAML and OpenID Connect provider, out of Debian's packages, without containers.

It runs at http://localhost:…, another site than the product's 127.0.0.1, so that browsers treat its answers as the
cross-site requests that they are in life. Its people are those of its demo backend; their passwords are their names.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from hypereal_site import processes
from tests.fakes.identity_provider import Pair, pair
from tests.support import http, ports

PACKAGES: Final = (
    "liblemonldap-ng-portal-perl liblasso-perl libplack-perl starman libxml-simple-perl libxml-libxml-perl "
    "libio-string-perl libstring-random-perl libglib-perl libcryptx-perl"
)
MISSING: Final = f"NO IDENTITY PROVIDER: install {PACKAGES}"

DOMAIN: Final = "badwolf.org"
#: Name (and password) → how the demo backend calls them.
PEOPLE: Final = {"dwho": "Doctor Who", "rtyler": "Rose Tyler", "msmith": "Mickey Smith"}

_PORTAL: Final = Path("/usr/share/lemonldap-ng/portal")
_START_SECONDS: Final = 60.0
_WORKERS: Final = 3

# The captcha's module is loaded always and would draw half of a desktop in; nobody draws a picture here.
_SECURITY_IMAGE: Final = "package GD::SecurityImage;\nsub import {}\n1;\n"
# The portal insists on a cookie domain, and browsers take none for localhost: the attribute is cut off.
_APPLICATION: Final = r"""
use strict;
use Plack::App::File;
use Plack::Builder;
use Plack::Util;
use Lemonldap::NG::Portal::Main;

my $portal = Lemonldap::NG::Portal::Main->run({});
builder {
    mount '/static' => Plack::App::File->new(root => '@PORTAL@/htdocs/static')->to_app;
    mount '/' => sub {
        Plack::Util::response_cb($portal->($_[0]), sub {
            my $response = shift;
            s/;\s*domain=[^;]*//i for @{ $response->[1] };
            return;
        });
    };
};
"""
_INI: Final = """[all]
logLevel = @LEVEL@
checkTime = 1
[configuration]
type = File
dirName = @FOLDER@/conf
[portal]
staticPrefix = /static
templateDir = @PORTAL@/templates
languages = en
"""


def address_of(name: str) -> str:
    """The e-mail address of one of the people."""
    return f"{name}@{DOMAIN}"


def is_installed() -> bool:
    """Whether the packages are there."""
    return bool(shutil.which("starman")) and _PORTAL.is_dir() and _perl("Lasso")


def _perl(module: str) -> bool:
    return subprocess.run(["perl", f"-M{module}", "-e1"], capture_output=True, check=False).returncode == 0


@dataclass(frozen=True)
class Client:
    """A relying party of OpenID Connect."""

    client_id: str
    client_secret: str
    redirect_uri: str
    algorithm: str = "RS256"
    signed_out_uri: str = ""


@dataclass
class Registered:
    """Who may ask the provider, and by which keys it signs."""

    #: Name → SAML metadata of a service.
    services: dict[str, str] = field(default_factory=dict)
    clients: dict[str, Client] = field(default_factory=dict)
    keys: Pair = field(default_factory=lambda: pair("lemonldap"))
    #: Services whose assertions are encrypted.
    encrypted: set[str] = field(default_factory=set)


class LemonLdap:
    """One provider with its data in ``folder``. It is restarted whenever something is registered."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = ports.free_port()
        self.url = f"http://localhost:{self.port}"
        self.registered = Registered()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def issuer(self) -> str:
        """Its name in OpenID Connect; the discovery document is below it."""
        return self.url

    @property
    def entity_id(self) -> str:
        """Its name in SAML."""
        return f"{self.url}/saml/metadata"

    def register(
        self,
        *,
        services: Mapping[str, str] | None = None,
        clients: Mapping[str, Client] | None = None,
        keys: Pair | None = None,
        encrypted: Sequence[str] = (),
    ) -> None:
        """Add services and clients by name, or take other keys; runs with that when this returns."""
        self.registered.services |= services or {}
        self.registered.clients |= clients or {}
        self.registered.keys = keys or self.registered.keys
        self.registered.encrypted |= set(encrypted)
        self.restart()

    def saml_metadata(self) -> str:
        """What an admin pastes."""
        return self._get("/saml/metadata/idp")

    def discovery(self) -> dict[str, Any]:
        """Its discovery document."""
        document: dict[str, Any] = json.loads(self._get("/.well-known/openid-configuration"))
        return document

    def log(self) -> str:
        """What it wrote so far."""
        return (self.folder / "starman.log").read_text(errors="replace")

    def restart(self) -> None:
        """Run with what is registered now. Raises RuntimeError with the end of the log."""
        self.stop()
        self._write()
        command = [
            shutil.which("starman") or "starman",
            "--listen",
            f"127.0.0.1:{self.port}",
            "--workers",
            str(_WORKERS),
            "--preload-app",
        ]
        command += ["-I", str(self.folder / "lib"), str(self.folder / "portal.psgi")]
        env = {"PATH": os.environ["PATH"], "LLNG_DEFAULTCONFFILE": str(self.folder / "lemonldap-ng.ini"), "LC_ALL": "C"}
        log = self.folder / "starman.log"
        self._process = process = processes.spawn(command, log=log, directory=self.folder, env=env)
        processes.wait_until(
            lambda: process.poll() is not None or processes.answers(self.port), _START_SECONDS, every=0.1
        )
        if process.poll() is not None or not processes.answers(self.port):
            self.stop()
            raise RuntimeError(f"LemonLDAP::NG does not start:\n{processes.last_lines(log)}")

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            processes.stop([self._process], [(signal.SIGTERM, 10.0)])
            self._process = None

    def _get(self, path: str) -> str:
        answer = http.send(self.port, "GET", path, headers={"host": urlsplit(self.url).netloc})
        assert answer.status == 200, f"{path} answered {answer.status}"
        return answer.body.decode()

    def _write(self) -> None:
        for name in ("conf", "sessions/lock", "psessions/lock", "lib/GD"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        level = os.environ.get("LEMONLDAP_LOG_LEVEL", "warn")
        files = {
            "lib/GD/SecurityImage.pm": _SECURITY_IMAGE,
            "portal.psgi": _APPLICATION,
            "lemonldap-ng.ini": _INI,
            "conf/lmConf-1.json": json.dumps(self._configuration()),
        }
        for name, text in files.items():
            for mark, value in (("@PORTAL@", _PORTAL), ("@FOLDER@", self.folder), ("@LEVEL@", level)):
                text = text.replace(mark, str(value))
            (self.folder / name).write_text(text)

    def _configuration(self) -> dict[str, Any]:
        return {
            "cfgNum": 1,
            "cfgAuthor": "tests",
            "cfgDate": 1,
            "portal": self.url,
            "domain": "localhost",
            "cookieName": "lemonldap",
            "securedCookie": 0,
            "sameSite": "Lax",
            "key": "tests-only",
            "authentication": "Demo",
            "userDB": "Same",
            "passwordDB": "Null",
            "registerDB": "Null",
            "demoExportedVars": {"cn": "cn", "mail": "mail", "uid": "uid"},
            "captcha_login_enabled": 0,
            "loginHistoryEnabled": 0,
            "useSafeJail": 1,
            "cspFormAction": "*",
            "whatToTrace": "_whatToTrace",
            "macros": {"_whatToTrace": "$uid"},
            "globalStorage": "Apache::Session::File",
            "globalStorageOptions": self._storage("sessions"),
            "persistentStorage": "Apache::Session::File",
            "persistentStorageOptions": self._storage("psessions"),
            "localSessionStorage": "",
            "locationRules": {f"localhost:{self.port}": {"default": "accept"}},
            **self._saml(),
            **self._openid_connect(),
        }

    def _storage(self, name: str) -> dict[str, str]:
        return {
            "Directory": str(self.folder / name),
            "LockDirectory": str(self.folder / name / "lock"),
            "generateModule": "Lemonldap::NG::Common::Apache::Session::Generate::SHA256",
        }

    def _saml(self) -> dict[str, Any]:
        keys, services = self.registered.keys, self.registered.services
        sent = {"mail": "1;mail;;", "cn": "0;cn;;", "uid": "0;uid;;", "groups": "0;groups;;"}
        return {
            "issuerDBSAMLActivation": 1,
            "samlServicePrivateKeySig": keys.key.decode(),
            "samlServicePublicKeySig": keys.certificate.decode(),
            "samlSPMetaDataXML": {name: {"samlSPMetaDataXML": text} for name, text in services.items()},
            "samlSPMetaDataExportedAttributes": dict.fromkeys(services, sent),
            "samlSPMetaDataOptions": {
                name: {
                    "samlSPMetaDataOptionsSignSSOMessage": 1,
                    "samlSPMetaDataOptionsCheckSSOMessageSignature": 1,
                    "samlSPMetaDataOptionsNameIDFormat": "email",
                    "samlSPMetaDataOptionsEncryptionMode": "assertion" if name in self.registered.encrypted else "none",
                    "samlSPMetaDataOptionsEnableIDPInitiatedURL": 1,
                }
                for name in services
            },
        }

    def _openid_connect(self) -> dict[str, Any]:
        keys, clients = self.registered.keys, self.registered.clients
        claims = {"email": "mail", "name": "cn", "groups": "groups"}
        return {
            "issuerDBOpenIDConnectActivation": 1,
            "oidcServiceMetaDataIssuer": self.issuer,
            "oidcServicePrivateKeySig": keys.key.decode(),
            "oidcServicePublicKeySig": keys.certificate.decode(),
            "oidcServiceKeyIdSig": f"key-{keys.certificate_body[-24:-8]}",
            "oidcRPMetaDataExportedVars": dict.fromkeys(clients, claims),
            "oidcRPMetaDataOptions": {
                name: {
                    "oidcRPMetaDataOptionsClientID": client.client_id,
                    "oidcRPMetaDataOptionsClientSecret": client.client_secret,
                    "oidcRPMetaDataOptionsRedirectUris": client.redirect_uri,
                    "oidcRPMetaDataOptionsIDTokenSignAlg": client.algorithm,
                    "oidcRPMetaDataOptionsBypassConsent": 1,
                    "oidcRPMetaDataOptionsPostLogoutRedirectUris": client.signed_out_uri,
                    "oidcRPMetaDataOptionsLogoutBypassConfirm": 1,
                    "oidcRPMetaDataOptionsUserIDAttr": "uid",
                }
                for name, client in clients.items()
            },
        }


@contextmanager
def running(folder: Path) -> Iterator[LemonLdap]:
    """One that knows nobody yet, for as long as the block lasts."""
    provider = LemonLdap(folder)
    provider.restart()
    try:
        yield provider
    finally:
        provider.stop()
