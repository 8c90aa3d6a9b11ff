from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse

from viral_engine.cluster import ClusterWatcher, DatabaseAddresses
from viral_engine.data import Databases, Need, RequestRoute, Router, Session, TokenSigner
from viral_engine.errors import DatabaseError, MisuseError
from viral_engine.observe import Event
from viral_engine.observe.log import log_event
from viral_engine.observe.metrics import RuntimeMetrics
from viral_engine.topology.here import Here
from viral_engine.topology.model import Consistency
from viral_engine.web.asgi import MAX_REPLAY_BODY, App, Scope
from viral_engine.web.declared import Declarations
from viral_engine.web.lifespan import Lifespan
from viral_engine.web.limits import BodyLimit
from viral_engine.web.problem import PROBLEM_TYPE, database_problem, problem_body
from viral_engine.web.region import RegionMiddleware
from viral_engine.web.signing import ReplaySigner
from viral_engine.web.sticky import sticky_of
from viral_engine.web.visit import Place, no_tenant

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from viral_engine.data.orm import RoutedSessions

__all__ = ["Runtime"]


class Runtime:
    """All that an app needs to run in many regions, made from the environment of its machine.

    ``wrap`` the app, and take its sessions, its engine or its connections from here instead of
    making them. Nothing is connected before a server starts the wrapped app.
    """

    def __init__(
        self, environ: Mapping[str, str], consistency: Mapping[str, Consistency] | None = None
    ) -> None:
        here = Here.from_environ(environ)
        addresses = DatabaseAddresses.from_environ(
            environ, region=here.primary_region or here.region
        )
        self.place = Place(region=here.region, machine=here.machine_id)
        self.metrics = RuntimeMetrics()
        asks_primacy = environ.get("VIRAL_PRIMACY") != "off"
        self.cluster = ClusterWatcher(
            addresses.nodes,
            machine=here.machine_id,
            listener=self._note,
            asks_primacy=asks_primacy,
        )
        self.databases = Databases(
            addresses,
            here=here.region,
            machine=here.machine_id,
            view=lambda: self.cluster.view,
            asks_primacy=asks_primacy,
            replayed=lambda timeline, lsn: self.cluster.note_replayed(
                here.region, timeline=timeline, lsn=lsn
            ),
            listener=self._note,
        )
        self.router = Router(self.cluster, here=here.region)
        secret = environ.get("VIRAL_SECRET") or None
        previous = environ.get("VIRAL_SECRET_PREVIOUS") or None
        self._signer = ReplaySigner(secret, previous)
        self._tokens = TokenSigner(secret, previous)
        self._sticky = sticky_of(environ)
        self._declared = (
            Declarations.from_environ(environ) if consistency is None else Declarations(consistency)
        )
        self._engines: list[AsyncEngine] = []

    @classmethod
    def from_environ(
        cls,
        environ: Mapping[str, str],
        *,
        consistency: Mapping[str, Consistency | str] | None = None,
    ) -> Runtime:
        """Make it of a machine's environment; raise MisuseError where that contradicts itself.

        ``consistency`` takes the place of what VIRAL_CONSISTENCY declares: resources or paths, each
        ``eventual``, ``strong`` or ``strict``.
        """
        if consistency is None:
            return cls(environ)
        try:
            declared = {name: Consistency(value) for name, value in consistency.items()}
        except ValueError as error:
            raise MisuseError(
                f"{error}.", suggestion=f"It is one of {', '.join(Consistency)}."
            ) from error
        return cls(environ, declared)

    def engine(self, **options: Any) -> AsyncEngine:
        """Return an engine of SQLAlchemy's whose transactions go where their request is led.

        It takes the options of ``create_async_engine`` that are not about connections and pools.
        """
        from viral_engine.data.orm import routed_engine  # noqa: PLC0415 - only who has it pays

        engine = routed_engine(self.databases, **options)
        self._engines.append(engine)
        return engine

    def sessions(self, **options: Any) -> RoutedSessions:
        """Return what makes sessions, with the options of ``async_sessionmaker``."""
        from viral_engine.data.orm import RoutedSessions  # noqa: PLC0415 - only who has it pays

        return RoutedSessions(self.engine(), **options)

    def work(
        self,
        session: Session | None = None,
        *,
        need: Need = Need.NEAR,
        consistency: Consistency = Consistency.EVENTUAL,
    ) -> AbstractAsyncContextManager[RequestRoute]:
        """Run the block as one piece of work that no request brought, as ``Router.work``."""
        return self.router.work(session, need=need, consistency=consistency)

    def wrap(
        self,
        app: App,
        *,
        process_local: frozenset[str] = frozenset({"/api/health"}),
        body_limit: int = MAX_REPLAY_BODY,
        tenant: Callable[[Scope], str] = no_tenant,
    ) -> App:
        """Return ``app`` as a server should run it: led to the right region, with its databases.

        Its own lifespan runs inside the runtime's. Paths in ``process_local`` touch no data. A body
        of more than ``body_limit`` bytes is refused. An app of Starlette or FastAPI that does not
        say how a DatabaseError is answered answers it with a problem, RFC 9457.
        """
        if isinstance(app, Starlette) and DatabaseError not in app.exception_handlers:
            app.add_exception_handler(DatabaseError, _answer)
        led = RegionMiddleware(
            BodyLimit(app, limit=body_limit),
            place=self.place,
            cluster=self.cluster,
            signer=self._signer,
            process_local=process_local,
            tokens=self._tokens,
            declared=self._declared,
            tenant=tenant,
            first_answers=self.databases,
            sticky=self._sticky,
            listener=self._note,
        )
        return Lifespan(led, self._running)

    def _note(self, event: Event) -> None:
        log_event(event)
        self.metrics(event)
        self.databases.note(event)

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        async with self.cluster, self.databases:
            yield
            for engine in self._engines:
                await engine.dispose()


async def _answer(_request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, DatabaseError):
        raise error
    problem = database_problem(error)
    return JSONResponse(
        problem_body(problem.status, problem.code, problem.detail),
        status_code=problem.status,
        headers=dict(problem.headers),
        media_type=PROBLEM_TYPE,
    )
