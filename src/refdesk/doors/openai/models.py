"""``GET /v1/models``: the one model there is. What sits behind it is told by answers alone (`refdesk.model`)."""

from typing import Literal

import msgspec
from starlette.requests import Request
from starlette.types import ASGIApp

from refdesk.contracts.access import Principal
from refdesk.doors.openai.requests import MODEL, check_model
from refdesk.web.endpoints import Endpoint, Parameter
from refdesk.web.replies import Json

CREATED = 1_767_225_600
"""2026-01-01: when this format was first spoken here. Clients want a time, and equal ones from equal desks."""
MODEL_NAME = Parameter(name="model", where="path", meaning="The model's name")


class Model(msgspec.Struct, frozen=True):
    id: str = MODEL
    object: Literal["model"] = "model"
    created: int = CREATED
    owned_by: str = MODEL


class ModelList(msgspec.Struct, frozen=True):
    data: list[Model]
    object: Literal["list"] = "list"


def model_endpoints() -> list[Endpoint]:
    return [
        Endpoint(
            method="GET",
            path="/v1/models",
            action="description.read",
            handler=_list,
            summary="The models: this desk",
            response=ModelList,
        ),
        Endpoint(
            method="GET",
            path="/v1/models/{model}",
            action="description.read",
            handler=_show,
            summary="One model",
            parameters=(MODEL_NAME,),
            response=Model,
        ),
    ]


async def _list(request: Request, principal: Principal) -> ASGIApp:
    return Json(ModelList([Model()]))


async def _show(request: Request, principal: Principal) -> ASGIApp:
    check_model(MODEL_NAME.of(request))
    return Json(Model())
