"""Several servers of language models as one: those that are well, and of them the one with the least to do."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from typing import Any

from inference.chat.server import Answer, ModelServer
from inference.errors import ModelBusy, ModelNotAvailable, UnknownModel

log = logging.getLogger(__name__)

#: What MedGemma is asked for by, whichever of its versions a site has.
FAMILY = "medgemma"
_LOOK_EVERY_S = 10.0
#: A server that is not well is looked at again when it is asked for and this has passed.
_LOOK_AGAIN_S = 1.0


@dataclass
class _Place:
    """One server as it was last seen."""

    server: ModelServer
    models: tuple[str, ...] = ()
    trouble: str = "It was not asked yet."
    looked_at: float = field(default=float("-inf"))
    busy: int = 0
    turn: int = 0
    looking: asyncio.Task[None] | None = None

    @property
    def is_well(self) -> bool:
        return not self.trouble


class ModelPool:
    """Language models behind servers of the site."""

    def __init__(
        self,
        servers: Sequence[ModelServer],
        *,
        model: str,
        concurrent: int,
        absent: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; nothing is asked yet.

        Parameters
        ----------
        model
            Asked for where the caller names none.
        concurrent
            Answers at one time.
        absent
            What to do where no server answers; empty: it is said which do not.
        """
        self._places = [_Place(server) for server in servers]
        self._model = model
        self._concurrent = concurrent
        self._absent = absent
        self._clock = clock
        self._turns = 0

    async def models(self) -> tuple[str, ...]:
        """Name what is served now; nothing where no server is well."""
        await self._look()
        return tuple(dict.fromkeys(model for place in self._places if place.is_well for model in place.models))

    async def available(self, model: str | None = None) -> str:
        """Name the model that a caller would get.

        Raises
        ------
        ModelNotAvailable, UnknownModel
        """
        await self._look()
        return self._choice(model, set())[1]

    async def answer(self, path: str, body: Mapping[str, Any]) -> Answer:
        """Ask the server with the least to do that has the model, and give its whole answer.

        Raises
        ------
        ModelNotAvailable, UnknownModel, ModelBusy, ModelFailed, ModelTimedOut, ModelRefused
        """
        await self._look()
        tried: set[int] = set()
        while True:
            place, model = self._choice(body.get("model"), tried)
            try:
                with self._working(place):
                    return await place.server.answer(path, {**body, "model": model}) | {"model": model}
            except (ModelNotAvailable, ModelBusy) as error:
                self._pass_over(place, error, tried)

    async def stream(self, path: str, body: Mapping[str, Any]) -> AsyncGenerator[Answer]:
        """Likewise, chunk by chunk. Another server is tried only where one has not begun.

        Raises
        ------
        ModelNotAvailable, UnknownModel, ModelBusy, ModelFailed, ModelTimedOut, ModelRefused
        """
        await self._look()
        tried: set[int] = set()
        while True:
            place, model = self._choice(body.get("model"), tried)
            try:
                with self._working(place):
                    async with aclosing(place.server.stream(path, {**body, "model": model})) as chunks:
                        async for chunk in chunks:
                            yield chunk | {"model": model}
                return
            except (ModelNotAvailable, ModelBusy) as error:
                self._pass_over(place, error, tried)

    async def close(self) -> None:
        """Let go of all connections."""
        for place in self._places:
            if _is_going_on(place.looking) and place.looking:
                place.looking.cancel()
            await place.server.close()

    @property
    def _troubles(self) -> str:
        return " ".join(place.trouble for place in self._places)

    def _choice(self, asked: str | None, tried: set[int]) -> tuple[_Place, str]:
        """Choose a server, and the name under which it has what is asked for."""
        if sum(place.busy for place in self._places) >= self._concurrent:
            raise ModelBusy
        well = [place for place in self._places if place.is_well and id(place) not in tried]
        if not well:
            raise ModelNotAvailable(self._absent or self._troubles)
        named = [(place, name) for place in well if (name := _named(asked, self._model, place.models)) is not None]
        if not named:
            served = ", ".join(dict.fromkeys(model for place in well for model in place.models)) or "none"
            raise UnknownModel(f"There is no model {str(asked)[:128]!r}; served: {served}.")
        return min(named, key=lambda each: (each[0].busy, each[0].turn))

    @contextmanager
    def _working(self, place: _Place) -> Iterator[None]:
        self._turns += 1
        place.turn = self._turns
        place.busy += 1
        try:
            yield
        finally:
            place.busy -= 1

    def _pass_over(self, place: _Place, error: ModelNotAvailable | ModelBusy, tried: set[int]) -> None:
        """Go on to the next server; raise what this one said where there is none."""
        tried.add(id(place))
        if isinstance(error, ModelNotAvailable):
            _note(place, (), str(error))
            place.looked_at = self._clock()
        if any(each.is_well and id(each) not in tried for each in self._places):
            return
        raise error if any(each.is_well for each in self._places) else ModelNotAvailable(self._troubles) from error

    async def _look(self) -> None:
        """Have servers asked whether they are well: in passing where one is known to be, else before going on."""
        now = self._clock()
        for place in self._places:
            patience_s = _LOOK_EVERY_S if place.is_well else _LOOK_AGAIN_S
            due = now - place.looked_at >= patience_s
            if due and not _is_going_on(place.looking):
                place.looking = asyncio.create_task(self._look_at(place))
        if not any(place.is_well for place in self._places):
            going_on = [place.looking for place in self._places if _is_going_on(place.looking) and place.looking]
            if going_on:
                await asyncio.wait(going_on)

    async def _look_at(self, place: _Place) -> None:
        try:
            models = await place.server.models()
            _note(place, models, "" if models else f"{place.server} serves no model.")
        except ModelNotAvailable as error:
            _note(place, (), str(error))
        place.looked_at = self._clock()


def _is_going_on(task: asyncio.Task[None] | None) -> bool:
    return task is not None and not task.done() and task.get_loop() is asyncio.get_running_loop()


def _note(place: _Place, models: tuple[str, ...], trouble: str) -> None:
    if bool(trouble) == place.is_well:
        said = {"action": "model_server_ill" if trouble else "model_server_well", "server": str(place.server)}
        log.log(logging.WARNING if trouble else logging.INFO, "model server changed", extra=said)
    place.models, place.trouble = models, trouble


def _named(asked: str | None, preferred: str, models: Sequence[str]) -> str | None:
    """Find the name under which a server has a model.

    A name of MedGemma stands for whichever version is served. Who names none gets the site's, else the first;
    who names one never gets another: the answer says which model it is of.
    """
    wanted = asked or preferred
    if wanted in models:
        return wanted
    if FAMILY in wanted.lower():
        for model in models:
            if FAMILY in model.lower():
                return model
    return models[0] if not asked else None
