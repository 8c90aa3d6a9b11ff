"""The calls for what belongs to an app as a whole: secrets, addresses, certificates."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from viral_engine.errors import PlatformError
from viral_engine.globe.api.answers import body_of
from viral_engine.globe.app_settings import AppSettings
from viral_engine.globe.platform import Platform


class SettingsCalls:
    """One method a call."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def routes(self) -> list[Route]:
        """The paths below ``/v1/apps/{app}``."""
        at = "/v1/apps/{app}"
        return [
            Route(f"{at}/secrets", self.list_secrets, methods=["GET"]),
            Route(f"{at}/secrets", self.set_secrets, methods=["POST"]),
            Route(f"{at}/secrets/{{name}}", self.get_secret, methods=["GET"]),
            Route(f"{at}/secrets/{{name}}", self.set_secret, methods=["POST"]),
            Route(f"{at}/secrets/{{name}}", self.delete_secret, methods=["DELETE"]),
            Route(f"{at}/ip_assignments", self.list_addresses, methods=["GET"]),
            Route(f"{at}/ip_assignments", self.add_address, methods=["POST"]),
            Route(f"{at}/ip_assignments/{{ip}}", self.delete_address, methods=["DELETE"]),
            Route(f"{at}/certificates", self.list_certificates, methods=["GET"]),
            Route(f"{at}/certificates/acme", self.add_certificate, methods=["POST"]),
            Route(f"{at}/certificates/{{hostname}}", self.get_certificate, methods=["GET"]),
            Route(f"{at}/certificates/{{hostname}}", self.delete_certificate, methods=["DELETE"]),
        ]

    async def list_secrets(self, request: Request) -> Response:
        """List an app's secrets; their values only where ``show_secrets`` asks for them."""
        settings = self._settings(request)
        rows = [settings.shown_secret(name, value=_open(request)) for name in settings.secrets]
        return JSONResponse({"secrets": rows})

    async def set_secrets(self, request: Request) -> Response:
        """Set secrets in one batch; null removes one."""
        values = (await body_of(request)).get("values")
        if not isinstance(values, dict):
            raise PlatformError("values must be an object", status=400)
        settings = self._settings(request)
        settings.set_secrets(values)
        self._platform.changed()
        rows = [settings.shown_secret(name, value=False) for name in settings.secrets]
        return JSONResponse({"secrets": rows, "version": settings.version})

    async def get_secret(self, request: Request) -> Response:
        """Show one secret."""
        name = request.path_params["name"]
        return JSONResponse(self._settings(request).shown_secret(name, value=_open(request)))

    async def set_secret(self, request: Request) -> Response:
        """Set one secret."""
        name, value = request.path_params["name"], (await body_of(request)).get("value")
        if not isinstance(value, str):
            raise PlatformError("value must be text", status=400)
        settings = self._settings(request)
        settings.set_secrets({name: value})
        self._platform.changed()
        return JSONResponse(
            settings.shown_secret(name, value=False) | {"version": settings.version},
            status_code=201,
        )

    async def delete_secret(self, request: Request) -> Response:
        """Remove one secret."""
        settings, name = self._settings(request), request.path_params["name"]
        settings.shown_secret(name, value=False)
        settings.set_secrets({name: None})
        self._platform.changed()
        return JSONResponse({"version": settings.version})

    async def list_addresses(self, request: Request) -> Response:
        """List an app's addresses."""
        return JSONResponse({"ips": [_address(one) for one in self._settings(request).addresses]})

    async def add_address(self, request: Request) -> Response:
        """Give an app an address."""
        kind = str((await body_of(request)).get("type") or "")
        made = self._settings(request).add_address(kind)
        self._platform.changed()
        return JSONResponse(_address(made))

    async def delete_address(self, request: Request) -> Response:
        """Take an address away."""
        self._settings(request).remove_address(request.path_params["ip"])
        self._platform.changed()
        return Response(status_code=204)

    async def list_certificates(self, request: Request) -> Response:
        """List the hostnames of an app."""
        rows = self._settings(request).listed_certificates()
        return JSONResponse({"certificates": rows, "total_count": len(rows)})

    async def add_certificate(self, request: Request) -> Response:
        """Ask for a certificate."""
        hostname = str((await body_of(request)).get("hostname") or "")
        settings = self._settings(request)
        settings.add_certificate(hostname)
        self._platform.changed()
        shown = settings.shown_certificate(request.path_params["app"], hostname)
        return JSONResponse(shown, status_code=201)

    async def get_certificate(self, request: Request) -> Response:
        """Show a certificate and the DNS records that it needs."""
        app, hostname = request.path_params["app"], request.path_params["hostname"]
        return JSONResponse(self._settings(request).shown_certificate(app, hostname))

    async def delete_certificate(self, request: Request) -> Response:
        """Remove a hostname."""
        app, hostname = request.path_params["app"], request.path_params["hostname"]
        settings = self._settings(request)
        settings.shown_certificate(app, hostname)
        del settings.certificates[hostname]
        self._platform.changed()
        return Response(status_code=204)

    def _settings(self, request: Request) -> AppSettings:
        return self._platform.settings_of(request.path_params["app"])


def _open(request: Request) -> bool:
    return request.query_params.get("show_secrets") == "true"


def _address(kept: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in kept.items() if key != "number"}
