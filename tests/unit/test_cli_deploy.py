"""What the commands say before any platform is asked."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from viral_engine.cli.main import viral
from viral_engine.cli.target import Origin, fly_blueprint, kept_secrets
from viral_engine.errors import PlatformError
from viral_engine.fly.client import FlyClient
from viral_engine.fly.model import AcmeChallenge, Certificate, DnsRequirements
from viral_engine.operations.blueprint import places
from viral_engine.operations.deploy.dns import records
from viral_engine.operations.secrets import Secrets
from viral_engine.topology.model import default_deployment

SECRETS = Secrets("su", "repl", "app", "cache", "sign")


def said(*args: str, home: Path, **env: str) -> tuple[int, dict[str, str]]:
    clean = {"FLY_API_TOKEN": "", "FLY_ACCESS_TOKEN": "", "VIRAL_HOME": str(home), **env}
    done = CliRunner().invoke(viral, [*args, "--json"], env=clean)
    return done.exit_code, json.loads(done.stdout.splitlines()[-1])["error"]


def test_fly_io_is_not_asked_without_a_token_or_an_image(tmp_path: Path) -> None:
    code, error = said("plan", "--to", "fly", "--image", "x", home=tmp_path)
    assert (code, "FLY_API_TOKEN" in error["suggestion"]) == (2, True)
    code, error = said("plan", "--to", "fly", home=tmp_path, FLY_API_TOKEN="fo1_x")
    assert (code, "--image" in error["suggestion"]) == (2, True)


def test_nothing_is_deployed_that_nobody_confirmed(tmp_path: Path) -> None:
    code, error = said("deploy", home=tmp_path)
    assert (code, error["suggestion"]) == (2, "Confirm it with --yes.")
    code, error = said("deploy", "--yes", home=tmp_path)
    assert (code, error["kind"]) == (1, "NotRunningError")


def test_what_up_was_told_is_wanted_again_and_another_file_stands_for_itself(
    tmp_path: Path,
) -> None:
    file = tmp_path / "viral.toml"
    file.write_text('app = "shop"\n[regions.iad]\n[regions.lhr]\n')
    origin = Origin(str(tmp_path), None, None, ("nrt", "syd", "fra"), "syd", {})
    assert origin.deployment().region_codes == ("nrt", "syd", "fra")
    assert (origin.deployment().app, origin.deployment().primary_region) == ("shop", "syd")
    assert origin.deployment(file).region_codes == ("iad", "lhr")


def test_on_fly_io_the_primary_is_followed_by_a_private_address() -> None:
    deployment = default_deployment()
    wanted = fly_blueprint(deployment, SECRETS, "registry.fly.io/shop:1")
    place = next(p for p in places(deployment) if p.role == "app")
    known = dict.fromkeys(deployment.all_codes, "fdaa::1")
    wanted = type(wanted)(
        **{n: getattr(wanted, n) for n in wanted.__slots__ if n != "addresses"},
        addresses=type(wanted.addresses)(known, known, known, wanted.addresses.primary),
    )
    env = wanted.config(place, None).env
    assert f"@{deployment.app}-db.flycast:5432/" in env["DATABASE_URL"]
    assert env["VIRAL_APP_DIR"] == "/app"


def test_secrets_are_taken_from_where_they_are_kept_and_made_where_they_are_not() -> None:
    kept = {name: getattr(SECRETS, field) for name, field in Secrets.NAMES.items()}
    assert Secrets.taken_from(kept) == SECRETS
    some = Secrets.taken_from({"VIRAL_SECRET": "sign", "OTHER": "x"})
    assert some.signing_key == "sign"
    assert len(some.app_password) == 32


@pytest.mark.parametrize(
    ("needs", "kinds"),
    [
        (DnsRequirements(a=("1.2.3.4",), aaaa=("2001:db8::1",), cname="shop.fly.dev"), ["A", "AAAA"]),
        (DnsRequirements(cname="shop.fly.dev"), ["CNAME"]),
        (DnsRequirements(acme_challenge=AcmeChallenge(name="_a.x", target="y")), ["CNAME"]),
        (DnsRequirements(), []),
    ],
)  # fmt: skip
def test_the_records_of_a_hostname_are_those_that_it_needs(
    needs: DnsRequirements, kinds: list[str]
) -> None:
    rows = list(records(Certificate(hostname="shop.example.com", dns_requirements=needs)))
    assert [row.kind for row in rows] == kinds
    assert all(row.sentence.startswith(f"{row.name}. {row.kind} ") for row in rows)


async def test_secrets_that_are_kept_and_not_shown_are_never_replaced_by_new_ones() -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        hidden = {"name": "VIRAL_SECRET", "digest": "abc", "value": None}
        return httpx.Response(200, json={"secrets": [hidden]})

    async with FlyClient("http://platform", "secret") as client:
        await client.http.aclose()
        client.http = httpx.AsyncClient(
            transport=httpx.MockTransport(answer), base_url="http://platform/v1"
        )
        with pytest.raises(PlatformError, match="VIRAL_SECRET of shop is not shown") as raised:
            await kept_secrets(client, "shop")
    assert "fly tokens create" in raised.value.suggestion
