"""A deployment with what the command line says in place of what the file says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from viral_engine.errors import MisuseError
from viral_engine.topology.kinds import ASGI_APP, WrongValueError
from viral_engine.topology.model import Deployment, Provider, RegionPlan, default_consistency
from viral_engine.topology.regions import region
from viral_engine.topology.witness import choose_witness

__all__ = ["with_overrides"]


def with_overrides(
    deployment: Deployment,
    *,
    regions: Sequence[str] | None = None,
    primary: str | None = None,
    app: str | None = None,
) -> Deployment:
    """Return the deployment with other data regions, another primary region, another app.

    A region that the deployment knows keeps its plan, a new one gets the default plan. Another
    set of regions gets a witness chosen for it. Another app loses the consistency that was only
    the default of the app before. Raises UnknownRegionError for a code that is no region, and
    MisuseError for a region given twice, no region, a primary that is not among them, or an app
    that is not ``module:attribute``.
    """
    if regions is not None:
        deployment = _with_regions(deployment, tuple(regions))
    if primary is not None:
        deployment = replace(deployment, primary_region=region(primary).code)
    if deployment.primary_region not in deployment.region_codes:
        listed = ",".join(deployment.region_codes)
        raise MisuseError(
            f'the primary region "{deployment.primary_region}" is not among the regions {listed}',
            suggestion=f"Add it, or name another with: --primary {deployment.region_codes[0]}",
        )
    return deployment if app is None else _with_app(deployment, app)


def _with_regions(deployment: Deployment, codes: tuple[str, ...]) -> Deployment:
    if not codes:
        raise MisuseError("no region was given", suggestion="Name them, as in: --regions iad,lhr")
    twice = sorted({code for code in codes if codes.count(code) > 1})
    if twice:
        raise MisuseError(f"given twice among the regions: {', '.join(twice)}")
    known = {plan.code: plan for plan in deployment.regions}
    plans = tuple(known.get(code) or RegionPlan(code=region(code).code) for code in codes)
    same = set(codes) == set(deployment.region_codes)
    kept = same or deployment.database.provider is Provider.EXTERNAL
    witness = deployment.witness if kept else choose_witness(codes)
    return replace(deployment, regions=plans, witness=witness)


def _with_app(deployment: Deployment, app: str) -> Deployment:
    try:
        ASGI_APP.read(app)
    except WrongValueError as error:
        raise MisuseError(
            f'the app must be {ASGI_APP.allowed}, got "{app}"',
            suggestion="For the object `app` in main.py write: --app main:app",
        ) from error
    before = deployment.service.app
    consistency = deployment.consistency
    if consistency == default_consistency(before):
        consistency = default_consistency(app)
    return replace(
        deployment, service=replace(deployment.service, app=app), consistency=consistency
    )
